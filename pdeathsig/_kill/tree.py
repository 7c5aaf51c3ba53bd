"""End what other code started, now: a tree of processes, or a process group."""

import errno
import os
import time
from signal import SIGTERM
from typing import TYPE_CHECKING, NamedTuple

from .._base import native, procfs
from .._base.checks import SIGKILL, check_seconds, check_signal
from .target import HasPid, Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

native.load_cffi()  # now: later a process may not reach it, or have no descriptor left
_SLICE = 0.1  # seconds in C before Python may run its signal handlers
_AFTER_SIGKILL = 5.0  # seconds; a process that is still there then waits in the kernel
_TRACKERS = 1.0  # seconds for a resource tracker to unlink what the others left


class Ended(NamedTuple):
    """What ``kill_tree`` and ``kill_group`` did. All empty: there was no process any more."""

    signalled: "tuple[int, ...]"
    """PIDs that were sent the signal."""
    killed: "tuple[int, ...]"
    """PIDs that needed SIGKILL after the grace, also those that were started meanwhile."""
    left: "tuple[int, ...]"
    """PIDs that live on: those that this process may not signal (EPERM), and those that even
    SIGKILL has not ended within 5 s, as they wait in the kernel (state D)."""


def kill_tree(target: "HasPid | int", sig: "int | str" = SIGTERM, grace: float = 5) -> Ended:
    """End a process and all below it, now, and wait until they are gone.

    All of them are stopped first, so that none escapes by forking. Then each gets ``sig``, and goes
    on; also those that were stopped before. What still lives when the grace is over gets SIGKILL,
    with all that it has started meanwhile. It returns as soon as the last one is gone. Zombies are
    gone: only a ``subprocess.Popen`` that is the target is reaped, as by its ``poll()``.

    The resource trackers of multiprocessing and loky, and torch_shm_manager, come last. They are
    not signalled: they unlink the shared memory that the others left, and exit by themselves. After
    a second they get SIGKILL.

    Out of reach is what is not below the target any more: a daemon that lost its parent, before or
    by ``sig``.

    :param target: a ``subprocess.Popen``, a Process of asyncio, multiprocessing or psutil, or a
        PID. Of an object that says that it has ended, the PID may be another's: nothing is done. A
        mere PID is believed.
    :param sig: a signal, by number or name (``"TERM"``, ``"SIGTERM"``). With SIGKILL there is no
        grace.
    :param grace: seconds between ``sig`` and SIGKILL; 0: none.

    Returns an ``Ended``. Raises ProcessLookupError if there is no process with that PID; TypeError
    or ValueError that names the argument, also if the target is this process or one that it
    descends from; OSError with the name of the system call; NotImplementedError where the
    extension is not compiled. A KeyboardInterrupt gets through while it waits; no process is
    stopped then, nor when it raises.

    Rests on pidfd_open(2), pidfd_send_signal(2) and proc_tid_children(5); without them (Linux
    before 5.3), on PIDs compared with their start time, and on proc_pid_stat(5).
    """
    native.require_extension("kill_tree()")
    sig, grace = check_signal(sig), check_seconds(grace)
    top = Target(target)
    pid = top.top_pid
    procfs.require_own_namespace()
    _refuse_ancestors(pid)
    process = procfs.read(pid)  # before it is asked: while it is not reaped, its PID is its own
    if top.has_ended():
        return Ended((), (), ())
    if process is None or not procfs.is_process(pid):
        raise ProcessLookupError(errno.ESRCH, f"kill_tree: no process {pid}")
    if not process.alive:
        return Ended((), (), ())
    try:
        with _Ending() as ending:
            ending.add(pid, process.start)
            return _end(ending, sig, grace)
    finally:
        top.reap()


def kill_group(target: "HasPid | int", sig: "int | str" = SIGTERM, grace: float = 5) -> Ended:
    """End the process group of a process, now, and wait until its members are gone.

    All get ``sig`` at once, and go on if they were stopped. What still lives when the grace is over
    gets SIGKILL. Resource trackers, which ignore SIGTERM, are treated as by ``kill_tree``.

    Where the target led its group and has been reaped, its PID is still the group's number as long
    as there are members: a shell's background jobs are reached by the shell's ``Popen``. If a
    process has that PID again, the group was another's: nothing is done.

    Takes, returns and raises what ``kill_tree`` does; ValueError if it is the group of this
    process. Rests on kill(2).
    """
    native.require_extension("kill_group()")
    sig, grace = check_signal(sig), check_seconds(grace)
    leader = Target(target)
    procfs.require_own_namespace()
    group = _group(leader)
    if group is None:
        return Ended((), (), ())
    if group == os.getpgrp():
        raise ValueError(f"target: {group} is the process group of this process itself")
    if group <= 1:
        raise ValueError(f"target: the process group of {leader.pid} is {group}, which is not to be signalled")
    try:
        with _Ending(group) as ending:
            return _end(ending, sig, grace)
    finally:
        leader.reap()


def end_now(processes: "Iterable[tuple[int, int]]") -> Ended:
    """Send SIGKILL to these processes (PID, start time) and all below, as ``kill_tree`` does."""
    with _Ending() as ending:
        for pid, start in processes:
            ending.add(pid, start)
        return _end(ending, SIGKILL, 0)


def _end(ending: "_Ending", sig: int, grace: float) -> Ended:
    kills = sig == SIGKILL
    ending.signal(sig, native.lib.PDS_SIGNALLED)
    if not _wait(ending, _AFTER_SIGKILL if kills else grace) and not kills:
        ending.signal(SIGKILL, native.lib.PDS_KILLED)
        _wait(ending, _AFTER_SIGKILL)
    if ending.trackers() and not _wait(ending, _TRACKERS, trackers=True):
        ending.kill_trackers()
        _wait(ending, _TRACKERS, trackers=True)
    victims = list(ending.victims())
    return Ended(
        tuple(pid for pid, _, known in victims if known & native.lib.PDS_SIGNALLED),
        tuple(pid for pid, _, known in victims if known & native.lib.PDS_KILLED),
        tuple(pid for pid, start, known in victims if not known & native.lib.PDS_GONE and procfs.lives(pid, start)),
    )


def _wait(ending: "_Ending", seconds: float, trackers: bool = False) -> bool:
    """Whether all are gone within that time."""
    until = time.monotonic() + seconds
    while True:
        left = max(0.0, until - time.monotonic())
        if ending.wait(min(left, _SLICE), trackers):
            return True
        if not left:
            return False


def _refuse_ancestors(pid: int) -> None:
    if pid == os.getpid():
        raise ValueError(f"target: {pid} is this process itself")
    if any(process.parent == pid for _, process in procfs.lineage(os.getpid())):
        raise ValueError(f"target: this process descends from {pid}")


def _group(leader: Target) -> "int | None":
    """The group of that process, also of one that has just been reaped; None: it is not known."""
    is_reaped = leader.is_reaped()
    pid, process = leader.pid, procfs.read(leader.pid)
    if is_reaped:
        return None if process is not None else pid
    if process is not None and leader.top_pid != pid:
        reaper = procfs.read(process.parent)  # of the guard: it may have reaped the target before
        if reaper is None or reaper.parent != leader.top_pid:
            return None
    if process is None or not procfs.is_process(pid):
        if leader.is_pid:
            raise ProcessLookupError(errno.ESRCH, f"kill_group: no process {pid}")
        return pid if leader.has_ended() else None
    if not leader.is_popen and leader.has_ended():
        return None
    return process.group


class _Ending:
    """Owns a struct pds_ending (c_src/pdeathsig.h)."""

    def __init__(self, group: int = 0) -> None:
        self._raw = native.ffi.new("struct pds_ending *", {"group": group})

    def __enter__(self) -> "_Ending":
        return self

    def __exit__(self, *_: object) -> None:
        native.lib.pds_ending_free(self._raw)

    def add(self, pid: int, start: int) -> None:
        native.check(native.lib.pds_ending_add(self._raw, pid, start))

    def signal(self, sig: int, known: int) -> None:
        native.check(native.lib.pds_ending_signal(self._raw, sig, known))

    def wait(self, seconds: float, trackers: bool) -> bool:
        return bool(native.check(native.lib.pds_ending_wait(self._raw, round(seconds * 1e9), trackers)))

    def trackers(self) -> bool:
        return any(known & native.lib.PDS_TRACKER and not known & native.lib.PDS_GONE for _, _, known in self.victims())

    def kill_trackers(self) -> None:
        native.lib.pds_ending_kill_trackers(self._raw)

    def victims(self) -> "Iterator[tuple[int, int, int]]":
        """PID, start time, and what is known of it."""
        for i in range(self._raw.count):
            victim = self._raw.list[i]
            yield victim.pid, victim.start, victim.known
