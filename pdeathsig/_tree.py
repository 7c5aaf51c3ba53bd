"""End what somebody else started, now: a tree of processes, or a process group."""

import errno
import os
import time
from contextlib import contextmanager
from signal import SIGTERM
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from . import _core, _proc
from ._arm import _GRACE_MAX, SIGKILL, check_signal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SLICE = 0.1  # seconds in C before Python may run its signal handlers
_AFTER_SIGKILL = 5.0  # seconds; who then still is there, waits in the kernel
_TRACKERS = 1.0  # seconds for a resource tracker to unlink what the others left
_SIGNALLED, _KILLED, _GONE = 4, 8, 64  # of c_src/pdeathsig.h


class HasPid(Protocol):
    """A process object: of subprocess, asyncio, multiprocessing or psutil."""

    @property
    def pid(self) -> "int | None": ...


class Ended(NamedTuple):
    """What ``kill_tree`` and ``kill_group`` did. All empty: nobody was there any more."""

    signalled: "tuple[int, ...]"
    """PIDs that were sent the signal."""
    killed: "tuple[int, ...]"
    """PIDs that needed SIGKILL after the grace, also those that were started meanwhile."""
    left: "tuple[int, ...]"
    """PIDs that live on: those we may not signal (EPERM), and those that even SIGKILL has not ended within 5 s, as they
    wait in the kernel (state D)."""


def kill_tree(target: "HasPid | int", sig: int = SIGTERM, grace: float = 5) -> Ended:
    """End a process and all below it, now, and wait until they are gone.

    All of them are stopped first, so that none escapes by forking. Then each gets ``sig``, and goes on; also those that
    were stopped before. Whoever still lives when the grace is over gets SIGKILL, with all that they have started
    meanwhile. It returns as soon as the last one is gone. Zombies are gone: only a ``subprocess.Popen`` that is the
    target is reaped, as by its ``poll()``.

    The resource trackers of multiprocessing and loky, and torch_shm_manager, come last. They are not signalled: they
    unlink the shared memory that the others left, and go by themselves; after a second they get SIGKILL.

    Out of reach is who is not below the target any more: a daemon whose parent has ended, before or by ``sig``.

    :param target: a ``subprocess.Popen``, a Process of asyncio, multiprocessing or psutil, or a PID. Of an object that
        says that it has ended, the PID may be another's: nothing is done. A mere PID is believed.
    :param sig: a signal number. With SIGKILL there is no grace.
    :param grace: seconds between ``sig`` and SIGKILL; 0: none.

    Returns an ``Ended``. Raises ProcessLookupError if there is no process with that PID; TypeError or ValueError that
    names the argument, also if the target is this process or one that it descends from; OSError with the name of the
    system call. A KeyboardInterrupt gets through while it waits; nobody is stopped then, nor when it raises.

    Rests on pidfd_open(2), pidfd_send_signal(2) and proc_tid_children(5); without them (Linux before 5.3), on PIDs
    compared with their start time, and on proc_pid_stat(5).
    """
    _core.require_linux("kill_tree()")
    sig, grace = check_signal(sig), _check_grace(grace)
    pid = _pid(target)
    check_namespace()
    _refuse_ancestors(pid)
    top = _proc.read(pid)  # before it is asked: while it is not reaped, its PID is its own
    if _has_ended(target):
        return Ended((), (), ())
    if top is None or not _proc.is_leader(pid):
        raise ProcessLookupError(errno.ESRCH, f"kill_tree: no process {pid}")
    if not top.alive:
        return Ended((), (), ())
    ending = _ending()
    try:
        ending.add(pid, top.start)
        return _end(ending, sig, grace)
    finally:
        ending.close()
        _reap(target)


def kill_group(target: "HasPid | int", sig: int = SIGTERM, grace: float = 5) -> Ended:
    """End the process group of a process, now, and wait until its members are gone.

    All get ``sig`` at once, and go on if they were stopped. Whoever still lives when the grace is over gets SIGKILL.
    Resource trackers, which ignore SIGTERM, are treated as by ``kill_tree``.

    Where the target led its group and has been reaped, its PID is still the group's number as long as there are
    members: a shell's background jobs are reached by the shell's ``Popen``. If a process has that PID again, the group
    was another's: nothing is done.

    Takes, returns and raises what ``kill_tree`` does; ValueError if it is the group of this process. Rests on kill(2).
    """
    _core.require_linux("kill_group()")
    sig, grace = check_signal(sig), _check_grace(grace)
    pid = _pid(target)
    check_namespace()
    group = _group(target, pid)
    if group is None:
        return Ended((), (), ())
    if group == os.getpgrp():
        raise ValueError(f"target: {group} is the process group of this process itself")
    if group <= 1:
        raise ValueError(f"target: the process group of {pid} is {group}, which is not to be signalled")
    ending = _ending(group)
    try:
        return _end(ending, sig, grace)
    finally:
        ending.close()
        _reap(target)


def end_now(processes: "Iterable[tuple[int, int]]") -> Ended:
    """SIGKILL to these processes, given by PID and start time, and all below, as ``kill_tree`` does it."""
    with _together(processes) as ending:
        return _end(ending, SIGKILL, 0)


def wait_for(processes: "Iterable[tuple[int, int]]", seconds: float) -> None:
    """Until all of these have ended, or so many seconds are over."""
    with _together(processes) as ending:
        _wait(ending, seconds, trackers=True)


@contextmanager
def _together(processes: "Iterable[tuple[int, int]]") -> "Iterator[Any]":
    ending = _ending()
    try:
        for pid, start in processes:
            ending.add(pid, start)
        yield ending
    finally:
        ending.close()


def _end(ending: "Any", sig: int, grace: float) -> Ended:
    kills = sig == SIGKILL
    ending.signal(sig, _SIGNALLED)
    if not _wait(ending, _AFTER_SIGKILL if kills else grace) and not kills:
        ending.signal(SIGKILL, _KILLED)
        _wait(ending, _AFTER_SIGKILL)
    if ending.trackers() and not _wait(ending, _TRACKERS, trackers=True):
        ending.kill_trackers()
        _wait(ending, _TRACKERS, trackers=True)
    victims = list(ending.victims())
    return Ended(
        tuple(pid for pid, _, known in victims if known & _SIGNALLED),
        tuple(pid for pid, _, known in victims if known & _KILLED),
        tuple(pid for pid, start, known in victims if not known & _GONE and _proc.lives(pid, start)),
    )


def _wait(ending: "Any", seconds: float, trackers: bool = False) -> bool:
    """Whether all are gone within that time."""
    until = time.monotonic() + seconds
    while True:
        left = max(0.0, until - time.monotonic())
        if ending.wait(min(left, _SLICE), trackers):
            return True
        if not left:
            return False


def _check_grace(grace: object) -> float:
    if not isinstance(grace, (int, float)) or isinstance(grace, bool):
        raise TypeError(f"grace: seconds, not {type(grace).__name__}")
    if not 0 <= grace <= _GRACE_MAX:
        raise ValueError(f"grace: {grace} is not a number of seconds from 0 to ten years")
    return float(grace)


def _pid(target: object) -> int:
    pid = target if isinstance(target, int) else getattr(target, "pid", target)
    if not isinstance(pid, int) or isinstance(pid, bool):
        if pid is None and target is not None:
            raise ValueError(f"target: {target!r} has no PID (yet)")
        raise TypeError(f"target: a process object or a PID, not {type(target).__name__}")
    if not isinstance(target, int) and _state_of(target) is None:
        raise TypeError(f"target: {type(target).__name__} does not say whether it has ended")
    if not 1 < pid < 2**31:
        raise ValueError(f"target: {pid} is not the PID of a process that may be ended")
    return int(pid)


def _state_of(target: object) -> "str | None":
    """What tells, without waiting, that it has ended. Popen's poll() comes before its returncode."""
    names = ("poll", "returncode", "exitcode", "is_running")
    return next((name for name in names if hasattr(target, name)), None)


def _has_ended(target: object) -> bool:
    """Whether its PID may be another's by now."""
    name = None if isinstance(target, int) else _state_of(target)
    if name is None:
        return False
    said = getattr(target, name)
    if name == "is_running":
        return not said()
    return (said() if name == "poll" else said) is not None


def _reap(target: object) -> None:
    poll = getattr(target, "poll", None)
    if poll is not None:
        poll()


def check_namespace() -> None:
    """The numbers in /proc must be those that kill(2) takes."""
    if os.readlink("/proc/self") != str(os.getpid()):
        raise OSError(errno.ENOTSUP, "/proc shows another PID namespace than that of this process")


def _refuse_ancestors(pid: int) -> None:
    if pid == os.getpid():
        raise ValueError(f"target: {pid} is this process itself")
    if pid in _ancestors():
        raise ValueError(f"target: this process descends from {pid}")


def _ancestors() -> "Iterator[int]":
    process = _proc.read(os.getpid())
    while process is not None and process.parent > 0:
        yield process.parent
        process = _proc.read(process.parent)


def _group(target: object, pid: int) -> "int | None":
    """The group of that process, also of one that has just been reaped; None: nobody knows."""
    reaped = getattr(target, "returncode", None) is not None or (not hasattr(target, "poll") and _has_ended(target))
    top = _proc.read(pid)
    if reaped:
        return None if top is not None else pid
    if top is None or not _proc.is_leader(pid):
        if isinstance(target, int):
            raise ProcessLookupError(errno.ESRCH, f"kill_group: no process {pid}")
        return pid if _has_ended(target) else None
    if _has_ended(target) and not hasattr(target, "poll"):
        return None
    return top.group


def _ending(group: int = 0) -> "Any":
    if _core.backend == "compiled":
        return _Compiled(group)
    from . import _tree_slow

    return _tree_slow.Ending(group)


class _Compiled:
    """c_src/kill_tree.c."""

    def __init__(self, group: int) -> None:
        self._raw = _core.ffi.new("struct pds_ending *", {"group": group})

    def add(self, pid: int, start: int) -> None:
        _core.check(_core.lib.pds_ending_add(self._raw, pid, start))

    def signal(self, sig: int, known: int) -> None:
        _core.check(_core.lib.pds_ending_signal(self._raw, sig, known))

    def wait(self, seconds: float, trackers: bool) -> bool:
        return bool(_core.check(_core.lib.pds_ending_wait(self._raw, round(seconds * 1e9), trackers)))

    def trackers(self) -> bool:
        return any(known & _core.lib.PDS_TRACKER and not known & _GONE for _, _, known in self.victims())

    def kill_trackers(self) -> None:
        _core.check(_core.lib.pds_ending_kill_trackers(self._raw))

    def victims(self) -> "Iterator[tuple[int, int, int]]":
        """PID, start time, and what is known of it."""
        for i in range(self._raw.count):
            victim = self._raw.list[i]
            yield victim.pid, victim.start, getattr(victim, "is")

    def close(self) -> None:
        _core.lib.pds_ending_free(self._raw)
