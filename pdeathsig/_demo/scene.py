"""Where the processes of ``pdeathsig demo`` live: start them, wait for them, and in the end leave none."""

import ctypes
import errno
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .._base import native
from .._spawn.popen import Popen
from .programs import command

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 2.5  # seconds in which a signal takes effect
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37


class StagingError(Exception):
    """The processes of an act did not come up; the text says why."""


@dataclass(frozen=True)
class Entry:
    """A process as /proc shows it."""

    pid: int
    parent: int
    session: int
    state: str

    @property
    def alive(self) -> bool:
        return self.state not in "ZX"


class Actor:
    """A process that has said that it is there, known by its pidfd, and the parent that it had then."""

    def __init__(self, pid: int, label: str) -> None:
        self.pid = pid
        self.label = label
        self.pidfd = native.pidfd_open(pid)
        entry = look(pid)
        self.parent = entry.parent if entry else 0

    def ended(self, within: float = 0.0) -> bool:
        """Whether it ends within so many seconds."""
        return bool(_readable([self.pidfd], within))

    def orphaned(self) -> bool:
        """Whether it lives, and somebody else is its parent by now."""
        entry = look(self.pid)
        return not self.ended() and entry is not None and entry.parent != self.parent


class Stage:
    """One act after the other. An act's processes are below this process, in one session, which its parent leads."""

    def __init__(self, seconds: float) -> None:
        """:param seconds: for everything; what is not seen by then counts as not seen."""
        self._until = time.monotonic() + seconds
        self._reset()

    def _reset(self) -> None:
        self.cast: dict[str, Actor] = {}
        self.thread = 0
        self._top: subprocess.Popen[bytes] | None = None
        self._seen = b""
        self._errors: list[str] = []
        self._orders = self._questions = self._events = self._stderr = -1

    def start(self, act: str, *args: str, roles: dict[str, str], **environment: str) -> None:
        """Start an act's parent, and wait until every role has said that it is there. Raises StagingError.

        :param roles: with what each of them is called in the tree.
        """
        with _uninterrupted():
            self._start(act, *args, environment=environment)
        missing = dict(roles)
        while missing:
            role, _, what = self._event(self._left()).partition(" ")
            if role not in missing:
                raise StagingError(what if role == "failed" else f"no sign of {', '.join(missing)}")
            self._enter(role, int(what), missing.pop(role))

    def go_on(self) -> None:
        """Let the act's parent take its next step."""
        _write(self._orders, b"go on\n")

    def hears(self, event: str, unless: Actor | None = None) -> str:
        """What the next event says, if it is this one and comes before that actor's end; else nothing."""
        word, _, what = self._event(self._soon(), unless).partition(" ")
        return what if word == event else ""

    def answers(self, actor: Actor) -> bool:
        """Whether that actor is well enough to answer a question."""
        return _write(self._questions, b"are you there?\n") and self.hears("answer", actor) == str(actor.pid)

    def ends(self, actor: Actor) -> bool:
        """Whether that actor ends, given some time."""
        return actor.ended(self._soon())

    def thread_lives(self) -> bool:
        """Whether there is a thread in this act, and it is in /proc."""
        return bool(self.thread) and os.path.exists(f"/proc/{self.cast['parent'].pid}/task/{self.thread}")

    def thread_ends(self) -> bool:
        """Whether it goes from there, given some time. No event tells."""
        until = time.monotonic() + self._soon()
        while self.thread_lives() and time.monotonic() < until:
            os.sched_yield()
        return not self.thread_lives()

    def kill(self) -> None:
        """SIGKILL to the act's parent, which is reaped."""
        if self._top is not None:
            self._top.kill()
            self._top.wait()

    def company(self) -> list[Entry]:
        """Every process of this act."""
        session = self._top.pid if self._top else 0
        entries = (look(int(name)) for name in os.listdir("/proc") if name.isdigit())
        return [entry for entry in entries if entry is not None and entry.session == session != 0]

    def last_words(self) -> list[str]:
        """What pdeathsig has written to stderr for the act's processes, since the last time."""
        lines = self.errors()
        self._errors = [line for line in lines if not line.startswith("pdeathsig: ")]
        return [line for line in lines if line.startswith("pdeathsig: ")]

    def errors(self) -> list[str]:
        """What the act's processes have written to stderr, less last words already told."""
        text = b""
        while _readable([self._stderr], 0) and (chunk := os.read(self._stderr, 4096)):
            text += chunk
        self._errors += text.decode(errors="replace").splitlines()
        return self._errors

    def clear(self) -> bool:
        """Kill and reap the act's processes. Whether none is left: also none that holds the pipe of events.

        Only our own children are killed, whose PIDs are nobody else's before we reap them. Then their children are
        ours: the next round is theirs.
        """
        with _uninterrupted():
            if self._top is None:
                return True
            self.kill()
            while ours := [entry.pid for entry in self.company() if entry.parent == os.getpid()]:
                for pid in ours:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
            none = self._events_end() and not self.company()
            for descriptor in (self._orders, self._questions, self._events, self._stderr):
                os.close(descriptor)
            for actor in self.cast.values():
                os.close(actor.pidfd)
            self._reset()
            return none

    def _start(self, act: str, *args: str, environment: dict[str, str]) -> None:
        orders, self._orders = os.pipe()
        questions, self._questions = os.pipe()
        self._events, events = os.pipe()
        self._stderr, stderr = os.pipe()
        self._top = Popen(
            command(act, *args, str(questions)),
            stdin=orders,
            stdout=events,
            stderr=stderr,
            start_new_session=True,
            pass_fds=[questions],
            env={**_environment(), **environment},
            pdeathsig=None,  # where the user has set PDEATHSIG, we would bind what we show as unbound
        )
        for descriptor in (orders, questions, events, stderr):
            os.close(descriptor)

    def _enter(self, role: str, number: int, label: str) -> None:
        if role == "thread":
            self.thread = number
            return
        try:
            self.cast[role] = Actor(number, label)
        except ProcessLookupError:
            raise StagingError(f"{role} {number} has ended too early") from None

    def _event(self, within: float, unless: Actor | None = None) -> str:
        """The next line; empty: none in that time, or that actor has ended before."""
        until = time.monotonic() + within
        descriptors = [self._events] if unless is None else [self._events, unless.pidfd]
        while b"\n" not in self._seen:
            if self._events not in _readable(descriptors, until - time.monotonic()):
                return ""
            chunk = os.read(self._events, 4096)
            if not chunk:
                return ""
            self._seen += chunk
        line, _, self._seen = self._seen.partition(b"\n")
        return line.decode()

    def _events_end(self) -> bool:
        while _readable([self._events], self._soon()):
            if not os.read(self._events, 4096):
                return True
        return False

    def _left(self) -> float:
        return max(0.0, self._until - time.monotonic())

    def _soon(self) -> float:
        return min(PATIENCE, self._left())


def look(pid: int) -> Entry | None:
    """A process in /proc, proc_pid_stat(5); None: it is not there."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return Entry(pid, parent=int(fields[1]), session=int(fields[3]), state=fields[0].decode())


def adopt_orphans() -> None:
    """Make this process a subreaper, to which every orphan below it comes back, and one that can wait for its children
    (an inherited SIG_IGN of SIGCHLD would prevent that). Raises OSError."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    libc = ctypes.CDLL(None, use_errno=True)
    adopts = ctypes.c_int()
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl: {os.strerror(number)}")
    libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(adopts), 0, 0, 0)
    if not adopts:
        raise OSError(errno.ENOSYS, "prctl: PR_SET_CHILD_SUBREAPER has no effect here")


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """A signal that would end the demo comes afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _environment() -> dict[str, str]:
    """Ours, without what would arm the actors by itself. Which backend arms them is the user's to choose."""
    return {k: v for k, v in os.environ.items() if not k.startswith("PDEATHSIG") or k == "PDEATHSIG_BACKEND"}


def _readable(descriptors: list[int], within: float) -> list[int]:
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(max(0.0, within) * 1000)]


def _write(descriptor: int, text: bytes) -> bool:
    try:
        os.write(descriptor, text)
    except BrokenPipeError:
        return False
    return True
