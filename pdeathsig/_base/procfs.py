"""The one reader of /proc: proc_pid_stat(5), proc_pid_cmdline(5), proc_pid_status(5)."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Process:
    """Some fields of /proc/PID/stat."""

    __slots__ = ("group", "has_code", "image", "parent", "session", "start", "state", "threads")

    def __init__(self, text: bytes) -> None:
        fields = text.rpartition(b")")[2].split()
        self.state = chr(fields[0][0])
        self.parent, self.group, self.session = int(fields[1]), int(fields[2]), int(fields[3])
        self.threads, self.start = int(fields[17]), int(fields[19])
        """``start``: in clock ticks since boot. With the PID, it tells a process from all others."""
        self.image = (fields[25], fields[45], fields[47])
        """Where its stack, arguments and environment begin. The kernel chooses that at random on
        exec, and fork keeps it. Zeros: a kernel thread, a process in the middle of exec, or one
        that this process may not look at (ptrace(2), PTRACE_MODE_READ)."""
        self.has_code = fields[23] != b"0"
        """False for a kernel thread, and in the middle of exec, which sets it last."""

    @property
    def alive(self) -> bool:
        """No zombie. A main thread that has ended before the others looks like one."""
        return self.state not in "ZX" or self.threads > 1


def stat(pid: "int | str") -> Process:
    """Read /proc/PID/stat. Raises OSError: the process is gone, or hidden."""
    fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)  # half as long as open(): start-up
    try:
        return Process(os.read(fd, 4096))
    finally:
        os.close(fd)


def read(pid: int) -> "Process | None":
    """The same; None: there is no such process, or it cannot be seen."""
    try:
        return stat(pid)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def require_own_namespace() -> None:
    """Raise OSError where /proc is missing, or shows another PID namespace."""
    if os.readlink("/proc/self") != str(os.getpid()):
        raise OSError(95, "/proc shows another PID namespace than that of this process")  # ENOTSUP


def lineage(pid: int) -> "Iterator[tuple[int, Process]]":
    """``pid``, its parent, and so on, each with its Process, as far as they can be seen."""
    process = read(pid)
    while process is not None:
        yield pid, process
        pid = process.parent
        process = read(pid) if pid > 0 else None


def lives(pid: int, start: int) -> bool:
    """Whether the process that had this PID and start time is there, and no zombie."""
    process = read(pid)
    return process is not None and process.start == start and process.alive


def exists(pid: int) -> bool:
    """Whether there is such a process, be it a zombie: kill(2) finds it where /proc hides it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def command(pid: int) -> "list[str]":
    """Its command line; [""]: it has none, or it cannot be seen."""
    return _text(f"/proc/{pid}/cmdline").rstrip("\0").split("\0")


def name(pid: int) -> str:
    """The kernel's name for it, proc_pid_comm(5); empty where it cannot be seen."""
    return _text(f"/proc/{pid}/comm").strip()


def variable(pid: int, name: str) -> str:
    """A variable of the environment that it was started with; empty: not set, or hidden."""
    for line in _text(f"/proc/{pid}/environ").split("\0"):
        if line.startswith(f"{name}="):
            return line[len(name) + 1 :]
    return ""


def may_read_environment(pid: int) -> bool:
    """Whether this process may look at the environment of that one."""
    try:
        with open(f"/proc/{pid}/environ", "rb"):
            return True
    except OSError:
        return False


def last_pid() -> "int | None":
    """The PID or thread ID that this PID namespace has given out last, proc_sys_kernel(5).

    None: the kernel is built without CONFIG_CHECKPOINT_RESTORE. (/proc/loadavg has the number too.
    But lxcfs mounts a file there that lags behind.)
    """
    text = _text("/proc/sys/kernel/ns_last_pid")
    return int(text) if text else None


def has_random_addresses() -> bool:
    """Whether the kernel chooses the addresses of this process at random, personality(2)."""
    personality = _text("/proc/self/personality")
    setting = _text("/proc/sys/kernel/randomize_va_space").strip()
    return bool(personality) and setting not in ("", "0") and not int(personality, 16) & 0x0040000


def is_process(pid: int) -> bool:
    """Whether the number is a process's. Threads have a hidden directory in /proc too."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return any(line == b"Tgid:\t%d\n" % pid for line in file)
    except OSError:
        return False


def numbers(path: str) -> "list[int]":
    """The entries of a directory that are numbers; none where it is gone."""
    try:
        return [int(name) for name in os.listdir(path) if name.isdigit()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def signal_set(field: bytes, path: str) -> int:
    """A signal set of proc_pid_status(5), a bit a signal; 0 where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return next(int(line.split()[1], 16) for line in file if line.startswith(field + b":"))
    except (OSError, StopIteration):
        return 0


def namespace(kind: str) -> int:
    """The inode of this process's namespace of that kind ("pid", "time"); 0: not known."""
    try:
        return os.stat(f"/proc/self/ns/{kind}").st_ino
    except OSError:
        return 0


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return os.fsdecode(file.read())
    except OSError:
        return ""
