"""/proc/PID, as far as it is needed here: proc_pid_stat(5), proc_pid_cmdline(5)."""

import os
from typing import NamedTuple


class Process(NamedTuple):
    state: str
    parent: int
    group: int
    threads: int
    start: int
    """In clock ticks since boot: with the PID, it tells a process from all others."""
    blocked: int
    """By the main thread, of the signals 1 to 31: a bit each."""
    image: "tuple[bytes, ...]"
    """Where its stack, arguments and environment begin. The kernel chooses that at random on exec, and fork keeps it.
    Zeros: it is a kernel thread, in the middle of exec, or may not be looked at (ptrace(2), PTRACE_MODE_READ)."""
    has_code: bool
    """Not so for a kernel thread, nor in the middle of exec: that comes last, after the environment."""

    @property
    def alive(self) -> bool:
        """A main thread that has ended before the others looks like a zombie."""
        return self.state not in "ZX" or self.threads > 1


def read(pid: "int | str") -> "Process | None":
    """None: there is no such process, or it cannot be seen. "PID/task/TID": a thread."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    fields = text.rpartition(b")")[2].split()
    parent, group, threads, start, blocked = (int(fields[i]) for i in (1, 2, 17, 19, 29))
    image = (fields[25], fields[45], fields[47])
    return Process(chr(fields[0][0]), parent, group, threads, start, blocked, image, fields[23] != b"0")


def lives(pid: int, start: int) -> bool:
    """Whether the process that had this PID and start time is there, and no zombie."""
    process = read(pid)
    return process is not None and process.start == start and process.alive


def command(pid: int) -> "list[str]":
    """Its command line; [""] if it has none, or cannot be seen."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return os.fsdecode(file.read()).rstrip("\0").split("\0")
    except OSError:
        return [""]


def is_leader(pid: int) -> bool:
    """Threads have a hidden directory there too."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return any(line == b"Tgid:\t%d\n" % pid for line in file)
    except OSError:
        return False


def numbers(path: str) -> "list[int]":
    try:
        return [int(name) for name in os.listdir(path) if name.isdigit()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def pidfd_open(pid: int) -> int:
    """``os.pidfd_open``, also for a Python that has none: PyPy, or one built for an older system. Raises OSError."""
    if hasattr(os, "pidfd_open"):
        return os.pidfd_open(pid)
    return _call(434, pid, 0)


def pidfd_send_signal(pidfd: int, sig: int) -> None:
    """``signal.pidfd_send_signal``, likewise."""
    import signal

    if hasattr(signal, "pidfd_send_signal"):
        signal.pidfd_send_signal(pidfd, sig)
    else:
        _call(424, pidfd, sig, 0, 0)


def _call(number: int, *arguments: int) -> int:
    """A system call that has the same number on every architecture."""
    import ctypes

    result = int(ctypes.CDLL(None, use_errno=True).syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
