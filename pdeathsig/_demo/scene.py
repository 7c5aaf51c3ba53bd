"""The processes of an act of ``pdeathsig demo``: starts them, watches them, ends them."""

import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from .._base import procfs
from .._spawn.popen import Popen
from .programs import command

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 2.5  # seconds in which a signal takes effect
_STARTING = 8.0  # seconds in which the next process is ready
_PR_SET_CHILD_SUBREAPER = 36


class SceneError(Exception):
    """The processes of an act did not start; the text says why."""


class Process(NamedTuple):
    """A process, or a thread, that has reported that it is ready. ``parent``: of that moment."""

    pid: int
    label: str
    start: int
    parent: int

    def alive(self) -> bool:
        return procfs.lives(self.pid, self.start)

    def orphaned(self) -> bool:
        now = procfs.read(self.pid)
        return self.alive() and now is not None and now.parent != self.parent

    def ends(self) -> bool:
        """Wait for its end, and return whether it has come."""
        until = time.monotonic() + PATIENCE
        while self.alive() and time.monotonic() < until:
            time.sleep(0.001)
        return not self.alive()

    def tell_to_go_on(self) -> None:
        if self.alive():
            os.kill(self.pid, signal.SIGUSR1)


class Scene:
    """Processes below this one, in a session that their parent leads; one scene after the other."""

    def __init__(self) -> None:
        self.processes: dict[str, Process] = {}
        self._parent: subprocess.Popen[bytes] | None = None

    def start(self, program: str, *args: str, count: int, **environment: str) -> None:
        """Start the parent, and wait until that many processes and threads are ready.

        Raises SceneError.
        """
        # The act decides which process is bound. The user decides which backend binds it.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PDEATHSIG") or k == "PDEATHSIG_BACKEND"}
        with _uninterrupted():
            self._parent = Popen(
                command(program, *args),
                bufsize=0,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env={**inherited, **environment},
                pdeathsig=None,  # where the user has set PDEATHSIG, subprocess.Popen would bind the parent
            )
        while len(self.processes) < count:
            event, _, text = self._read_report(_STARTING).partition(" ")
            pid, _, label = text.partition(" ")
            process = procfs.read(int(pid)) if event == "ready" else None
            if process is None:
                raise SceneError(text or f"only {len(self.processes)} of {count} processes have started")
            self.processes[label.partition(":")[0]] = Process(int(pid), label, process.start, process.parent)

    def members(self) -> dict[int, procfs.Process]:
        """Return all processes of this scene by PID, zombies too."""
        session = self._parent.pid if self._parent else -1
        processes = {pid: procfs.read(pid) for pid in procfs.numbers("/proc")}
        return {pid: process for pid, process in processes.items() if process and process.session == session}

    def answers(self, process: Process) -> bool:
        """Return whether this process is well enough to react."""
        process.tell_to_go_on()
        return self._read_report(PATIENCE) == f"answer {process.pid}"

    def kill_parent(self) -> None:
        if self._parent is not None:
            self._parent.kill()
            self._parent.wait()

    def read_stderr(self) -> list[str]:
        """Return the lines that the processes have written to stderr since the last call."""
        assert self._parent is not None and self._parent.stderr is not None
        os.set_blocking(self._parent.stderr.fileno(), False)
        return (self._parent.stderr.read() or b"").decode(errors="replace").splitlines()

    def clear(self) -> bool:
        """Kill and reap all processes; return whether none is left.

        It kills only our own children: no other process can have their PIDs before we reap them.
        When a child of ours is dead, we are the parent of its children.
        """
        with _uninterrupted():
            self.kill_parent()
            while children := [pid for pid, process in self.members().items() if process.parent == os.getpid()]:
                for pid in children:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
            none_left = not self.members()
            self.processes, self._parent = {}, None
            return none_left

    def _read_report(self, seconds: float) -> str:
        """Return the next line from the processes; empty: none came in that time."""
        assert self._parent is not None and self._parent.stdout is not None
        ready, _, _ = select.select([self._parent.stdout], [], [], seconds)
        return self._parent.stdout.readline().decode().strip() if ready else ""


def become_subreaper() -> None:
    """Make each process that is orphaned below this one our child. Raises OSError."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # an inherited SIG_IGN would leave no child to wait for
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), f"prctl: {os.strerror(ctypes.get_errno())}")


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Postpone the signals that end the demo."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
