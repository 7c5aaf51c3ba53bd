"""The processes of an act of ``pdeathsig demo``: what they run, and their start, look and end.

When a process is ready, it writes "ready PID LABEL" to stdout, a pipe to the demo. Then it waits
for SIGUSR1, which tells it to go on. After a minute without one it ends by itself.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
import time

from .._base import procfs
from .._spawn.popen import Popen

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 2.5  # seconds in which a signal takes effect
_STARTING = 8.0  # seconds in which the next process is ready
_PROCESSES = 4  # of each act, a thread counted in
_PR_SET_CHILD_SUBREAPER = 36
_AUTO = "import pdeathsig.auto"


def child(label: str) -> None:
    """Answer each SIGUSR1."""
    _write(f"ready {os.getpid()} {label}")
    while _wait_to_go_on():
        _write(f"answer {os.getpid()}")


def parent(protection: str) -> None:
    """Start a child, and a shell that starts a grandchild."""
    auto = protection == "auto"
    subprocess.Popen(_command("child", f"child: {_AUTO}", first=_AUTO) if auto else _command("child", "child"))
    # With `exit`: a shell may replace itself with its last command.
    shell = ["sh", "-c", '"$@"; exit', "sh", *_command("child", "grandchild")]
    popen = Popen(shell, scope="group") if auto else subprocess.Popen(shell)
    _write(f"ready {popen.pid} shell: sh -c 'python ...; exit'")
    _write(f"ready {os.getpid()} parent")
    _wait_to_go_on()


def threads() -> None:
    """Start two children on a thread, which ends when this process is told to go on."""
    libc = ctypes.CDLL(None)
    thread_may_end = threading.Event()

    def start_children() -> None:
        _write(f"ready {threading.get_native_id()} thread")
        subprocess.Popen(_command("child", f"our child: {_AUTO}", first=_AUTO))
        recipe = _command("child", "the recipe's child")
        subprocess.Popen(recipe, preexec_fn=lambda: libc.prctl(1, signal.SIGKILL))  # noqa: PLW1509
        thread_may_end.wait()

    threading.Thread(target=start_children).start()
    _write(f"ready {os.getpid()} parent")
    _wait_to_go_on()
    thread_may_end.set()
    _wait_to_go_on()


def run(program: str, *args: str) -> None:
    """Run one of the three functions above."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGUSR1])
    try:
        globals()[program](*args)
    except Exception as error:
        _write(f"failed {program}: {type(error).__name__}: {error}")
        sys.exit(1)


def _command(program: str, *args: str, first: str = "pass") -> list[str]:
    """Return the command line of a Python that runs ``first``, then a program of ours."""
    path = f"import sys; sys.path[:] = {list(map(str, sys.path))!r}"
    return [sys.executable, "-c", f"{path}; {first}; from {__name__} import run; run(*sys.argv[1:])", program, *args]


def _wait_to_go_on() -> bool:
    return signal.sigtimedwait([signal.SIGUSR1], 60) is not None


def _write(line: str) -> None:
    os.write(1, f"{line}\n".encode())


class Scene:
    """Processes below this one, in a session that their parent leads; one scene after the other."""

    def __init__(self) -> None:
        self.pids: dict[str, int] = {}  # by role: "parent", "child" ...; that of a thread is its ID
        self.labels: dict[int, str] = {}
        self._parent: subprocess.Popen[bytes] | None = None

    def start(self, program: str, *args: str, **environment: str) -> None:
        """Start the parent, and wait until all processes are ready. Raises RuntimeError."""
        # The act decides which process is bound. The user decides which backend binds it.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PDEATHSIG") or k == "PDEATHSIG_BACKEND"}
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)  # clear() has to know the parent
        try:
            self._parent = Popen(
                _command(program, *args),
                bufsize=0,
                stdout=subprocess.PIPE,
                stderr=sys.stdout.fileno(),  # where pdeathsig says why a process dies
                start_new_session=True,
                env={**inherited, **environment},
                pdeathsig=None,  # where the user has set PDEATHSIG, subprocess.Popen would bind the parent
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        while len(self.pids) < _PROCESSES:
            event, _, text = self._read_line(_STARTING).partition(" ")
            if event != "ready":
                raise RuntimeError(text or f"only {len(self.pids)} of {_PROCESSES} processes have started")
            pid, _, label = text.partition(" ")
            self.pids[label.partition(":")[0]] = int(pid)
            self.labels[int(pid)] = f"its thread {pid}" if label == "thread" else f"{pid} {label}"

    def living(self) -> dict[int, int]:
        """Return the processes of this scene that live, and the parent of each: PIDs."""
        living = {pid: process.parent for pid, process in self._members().items() if process.alive}
        thread, parent = self.pids.get("thread", 0), self.pids.get("parent", 0)
        if os.path.exists(f"/proc/{parent}/task/{thread}"):  # that thread has started all children
            living = {pid: thread if above == parent else above for pid, above in living.items()}
            living[thread] = parent
        return living

    def orphans(self) -> dict[str, int]:
        """Return the PIDs of those that this process has adopted, by role."""
        living, parent = self.living(), self.pids["parent"]
        return {role: pid for role, pid in self.pids.items() if pid != parent and living.get(pid) == os.getpid()}

    def alive(self, role: str) -> bool:
        return self.pids[role] in self.living()

    def ends(self, role: str) -> bool:
        """Wait for the end of a process, and return whether it has come."""
        until = time.monotonic() + PATIENCE
        while self.alive(role) and time.monotonic() < until:
            time.sleep(0.001)
        return not self.alive(role)

    def answers(self, role: str) -> bool:
        """Return whether a process is well enough to react."""
        self.tell_to_go_on(role)
        return self._read_line(PATIENCE) == f"answer {self.pids[role]}"

    def tell_to_go_on(self, role: str) -> None:
        os.kill(self.pids[role], signal.SIGUSR1)  # alive or a zombie: only clear() and kill_parent() reap

    def kill_parent(self) -> None:
        if self._parent is not None:
            self._parent.kill()
            self._parent.wait()

    def clear(self) -> bool:
        """Kill and reap all processes; return whether none is left. It may be called again.

        It kills only our own children: no other process can have their PIDs before we reap them.
        When a child of ours is dead, we are the parent of its children.
        """
        self.kill_parent()
        while children := [pid for pid, process in self._members().items() if process.parent == os.getpid()]:
            for pid in children:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        none_left = not self._members()
        self.pids, self.labels, self._parent = {}, {}, None
        return none_left

    def _members(self) -> dict[int, procfs.Process]:
        """Return all processes of this scene by PID, zombies too."""
        session = self._parent.pid if self._parent else -1
        processes = {pid: procfs.read(pid) for pid in procfs.numbers("/proc")}
        return {pid: process for pid, process in processes.items() if process and process.session == session}

    def _read_line(self, seconds: float) -> str:
        """Return the next line from the processes; empty: none came in that time."""
        assert self._parent is not None and self._parent.stdout is not None
        ready, _, _ = select.select([self._parent.stdout], [], [], seconds)
        return self._parent.stdout.readline().decode().strip() if ready else ""


def become_subreaper() -> None:
    """Make each process that is orphaned below this one our child. Raises OSError."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # an inherited SIG_IGN would leave no child to wait for
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), f"prctl: {os.strerror(ctypes.get_errno())}")
