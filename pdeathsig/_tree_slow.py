"""c_src/kill_tree.c in Python, for where it is not compiled."""

import os
import select
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

from . import _environ, _proc

_FREEZE_AT_MOST, _FREEZE_PATIENCE = 3.0, 0.02
_BLOCK_PATIENCE, _BLOCKS_PATIENCE = 0.05, 0.2
_GONE = 64


@dataclass
class _Victim:
    pid: int
    start: int
    was_stopped: bool = False
    frozen: bool = False
    refused: bool = False
    tracker: bool = False
    gone: bool = False
    blocks: bool = False
    known: int = 0


class Ending:
    def __init__(self, group: int) -> None:
        self._group = group
        self._list: list[_Victim] = []
        self._by_pid: dict[int, _Victim] = {}
        self._waited = 0.0  # seconds, in a freeze, for those who block the signal

    def add(self, pid: int, start: int) -> _Victim:
        if pid in self._by_pid:
            self._by_pid[pid].gone = True
        victim = self._by_pid[pid] = _Victim(pid, start)
        self._list.append(victim)
        return victim

    def signal(self, sig: int, known: int) -> None:
        if self._group:
            self._signal_group(sig, known)
            return
        gave_up = True
        try:
            self._freeze(sig)
            self._send_to_all(sig, known)
            gave_up = False
        finally:
            for victim in reversed(self._list):
                if victim.frozen and not (gave_up and victim.was_stopped):
                    _send(victim, signal.SIGCONT)
                victim.frozen = False

    def wait(self, seconds: float, trackers: bool) -> bool:
        until = time.monotonic() + seconds
        while True:
            for victim in self._list:
                if victim.gone or victim.refused or (victim.tracker and not trackers):
                    continue
                if not _gone_by(victim, until):
                    return False
                victim.gone = True
            if not (self._group and self._find_members()):
                return True

    def trackers(self) -> bool:
        return any(victim.tracker and not victim.gone for victim in self._list)

    def kill_trackers(self) -> None:
        for victim in self._list:
            if victim.tracker and _send(victim, signal.SIGKILL):
                victim.known |= 8

    def victims(self) -> "Iterator[tuple[int, int, int]]":
        for victim in self._list:
            yield victim.pid, victim.start, victim.known | (_GONE if victim.gone else 0)

    def close(self) -> None:
        pass

    def _send_to_all(self, sig: int, known: int) -> None:
        for victim in reversed(self._list):
            if not victim.tracker and _send(victim, sig):
                victim.known |= known

    def _freeze(self, sig: int) -> None:
        since = time.monotonic()
        self._waited = 0.0
        restless = True
        while restless and time.monotonic() < since + _FREEZE_AT_MOST:
            restless = self._freeze_once(sig, time.monotonic() > since + _FREEZE_PATIENCE)
            time.sleep(0.0001)

    def _freeze_once(self, sig: int, patient: bool) -> bool:
        """Whether somebody is new, or may still run."""
        children: dict[int, list[tuple[int, _proc.Process]]] = {}
        restless = False
        todo = []
        for pid in _proc.numbers("/proc"):
            process = _proc.read(pid)
            if process is not None and process.alive:
                children.setdefault(process.parent, []).append((pid, process))
                victim = self._by_pid.get(pid)
                if victim is not None and victim.start == process.start:
                    todo.append((pid, process))
        seen = set()
        for pid, process in todo:  # it grows
            if pid in seen or pid <= 1 or pid == os.getpid():
                continue
            seen.add(pid)
            todo += children.get(pid, ())
            victim = self._by_pid.get(pid)
            if victim is None or victim.start != process.start:
                victim = self.add(pid, process.start)
            victim.tracker |= _environ.must_outlive_its_parent(
                _proc.command(pid)
            )  # in the middle of exec it has no command line yet
            if victim.frozen:
                activity = _activity(pid, process)
                restless |= activity == "R" or (activity == "D" and not patient)
                waits = not victim.blocks and self._waited < _BLOCKS_PATIENCE
                if activity == "T" and waits and _blocks(pid, process, sig):
                    self._let_it_unblock(victim, sig)
                    restless = True
            elif not victim.refused:
                victim.was_stopped = process.state == "T"
                victim.frozen = True  # before it is: an exception may come any time
                _send(victim, signal.SIGSTOP)
                restless = True
        return restless

    def _let_it_unblock(self, victim: _Victim, sig: int) -> None:
        """As let_it_unblock() in c_src/kill_tree.c."""
        since = time.monotonic()
        _send(victim, signal.SIGCONT)
        while not victim.blocks:
            process = _proc.read(victim.pid)
            if process is None or process.start != victim.start or not _blocks(victim.pid, process, sig):
                break
            asleep = process.state == "S" and process.threads == 1
            victim.blocks = asleep or time.monotonic() > since + _BLOCK_PATIENCE
        _send(victim, signal.SIGSTOP)
        self._waited += time.monotonic() - since

    def _find_members(self) -> int:
        living = 0
        for pid in _proc.numbers("/proc"):
            process = _proc.read(pid)
            if process is None or process.group != self._group or not process.alive:
                continue
            victim = self._by_pid.get(pid)
            if victim is None or victim.start != process.start:
                victim = self.add(pid, process.start)
                victim.tracker = _turns_out_to_be_tracker(pid)
                _send(victim, 0)
            living += not (victim.refused or victim.tracker)
        return living

    def _signal_group(self, sig: int, known: int) -> None:
        if not self._find_members() or self._group == os.getpgrp():
            return
        one_by_one = sig == signal.SIGKILL and self.trackers()
        try:
            os.killpg(self._group, signal.SIGSTOP if one_by_one else sig)
            for victim in self._list:
                if not (one_by_one or victim.refused or victim.tracker or victim.gone):
                    victim.known |= known
            self._find_members()
            if one_by_one:
                self._send_to_all(signal.SIGKILL, known)
        except (ProcessLookupError, PermissionError):
            pass
        finally:
            try:
                os.killpg(self._group, signal.SIGCONT)
            except (ProcessLookupError, PermissionError):
                pass


def _turns_out_to_be_tracker(pid: int) -> bool:
    """In the middle of exec it has no command line yet. Who stays there for long is taken for one."""
    until = time.monotonic() + _FREEZE_PATIENCE
    while (command := _proc.command(pid)) == [""] and time.monotonic() < until:
        time.sleep(0.0001)
    return command == [""] or _environ.must_outlive_its_parent(command)


def _threads(pid: int, process: _proc.Process) -> "list[_proc.Process]":
    if process.threads <= 1:
        return [process]
    threads = [_proc.read(f"{pid}/task/{thread}") for thread in _proc.numbers(f"/proc/{pid}/task")]
    return [thread for thread in threads if thread is not None]


def _blocks(pid: int, process: _proc.Process, sig: int) -> bool:
    """As process_blocks() in c_src/tree.c."""
    bit = 1 << sig - 1 if 1 <= sig <= 31 else 0
    return bool(process.blocked & bit) and all(thread.blocked & bit for thread in _threads(pid, process))


def _activity(pid: int, process: _proc.Process) -> str:
    """As process_activity() in c_src/tree.c."""
    states = {thread.state for thread in _threads(pid, process)} - set("TtZX")
    return "T" if not states else "D" if states == {"D"} else "R"


def _open(pid: int) -> int:
    """A pidfd; -1 where the kernel has none."""
    try:
        return _proc.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:
        return -1


def _send(victim: _Victim, sig: int) -> bool:
    if victim.gone or victim.refused:
        return False
    pidfd = -1
    try:
        pidfd = _open(victim.pid)
        if not _proc.lives(victim.pid, victim.start):
            raise ProcessLookupError
        if pidfd >= 0:
            _proc.pidfd_send_signal(pidfd, sig)
        else:
            os.kill(victim.pid, sig)
    except ProcessLookupError:
        victim.gone = True
    except PermissionError:
        victim.refused = True
    finally:
        if pidfd >= 0:
            os.close(pidfd)
    return not (victim.gone or victim.refused)


def _gone_by(victim: _Victim, until: float) -> bool:
    try:
        pidfd = _open(victim.pid)
    except ProcessLookupError:
        return True
    try:
        while True:
            if not _proc.lives(victim.pid, victim.start):
                return True
            left = until - time.monotonic()
            if pidfd >= 0:
                end = select.poll()
                end.register(pidfd, select.POLLIN)
                return bool(end.poll(max(0.0, left * 1000)))
            if left <= 0:
                return False
            time.sleep(0.002)
    finally:
        if pidfd >= 0:
            os.close(pidfd)
