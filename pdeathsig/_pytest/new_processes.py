"""Find the processes that have been started since the last scan.

The kernel tells the last PID that it gave out. So a scan reads only the PIDs since the last scan.
Where that is not possible, it reads all of /proc.
"""

import fcntl
import os
import time
from typing import TYPE_CHECKING

from .._base import procfs

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_PIDS = 256  # to be read one by one
_PIDS_ARE_UNIQUE = 1.0  # seconds in which the kernel does not give out the same PID twice
_FORK_OR_EXEC = 2.0  # seconds that a fork or an exec takes at most, on a busy machine
_TICKS = os.sysconf("SC_CLK_TCK")


class NewProcesses:
    """Remembers the last scan, and the PIDs that were in the middle of fork or exec."""

    def __init__(self) -> None:
        self._last_pid: "int | None" = None
        self._time = 0.0  # since boot
        self._unfinished: "list[int]" = []

    def scan(self) -> "dict[int, procfs.Process]":
        """Return the processes since the last scan; threads too, as their IDs are PIDs."""
        last_pid, now = procfs.last_pid(), time.clock_gettime(time.CLOCK_BOOTTIME)
        if last_pid is not None and last_pid == self._last_pid and not self._unfinished:
            return {}
        pids, earliest = self._pids_since(last_pid, now), 0
        if pids is None:
            pids, earliest = procfs.numbers("/proc"), int(self._time * _TICKS) - 2
        self._last_pid, self._time, self._unfinished = last_pid, now, []
        new = {}
        for pid in pids:
            process = procfs.read(pid)
            if process is not None and process.start >= earliest:
                new[pid] = process
            elif process is None and _is_being_forked(pid):
                self._unfinished.append(pid)
        return new

    def scan_until_stable(self) -> "Iterator[dict[int, procfs.Process]]":
        """Scan until no fork and no exec is under way, and none has begun during the scan."""
        until = time.monotonic() + _FORK_OR_EXEC
        yield self.scan()
        while (self._unfinished or procfs.last_pid() != self._last_pid) and time.monotonic() < until:
            os.sched_yield()
            yield self.scan()
        # What is left without an entry in /proc is the number of a session.
        self._unfinished = [pid for pid in self._unfinished if procfs.read(pid) is not None]

    def scan_again(self, pid: int, before: procfs.Process) -> None:
        """Read this process in the next scan too, if it was or is in the middle of exec.

        Its environment is then still being written. A kernel thread, a child of 2 or 0, looks the
        same. So does a process that we may not inspect.
        """
        now = procfs.read(pid)
        if now is None or now.start != before.start or (before.has_code and now.has_code and now.image == before.image):
            return
        if now.parent not in (0, 2) and procfs.may_read_environment(pid):
            self._unfinished.append(pid)

    def _pids_since(self, last_pid: "int | None", now: float) -> "list[int] | None":
        """Return the PIDs given out since the last scan; None: unknown, or too many."""
        if last_pid is None or self._last_pid is None or now > self._time + _PIDS_ARE_UNIQUE:
            return None
        if not 0 <= last_pid - self._last_pid <= _MOST_PIDS:
            return None
        return [*self._unfinished, *range(self._last_pid + 1, last_pid + 1)]


def _is_being_forked(pid: int) -> bool:
    """Return whether a process has this PID, but no entry in /proc yet.

    F_SETOWN of fcntl(2) finds it. It also finds a process group that has this number and has lost
    its leader. kill(2) finds only the group.
    """
    try:
        with open(os.devnull, "rb") as file:
            fcntl.fcntl(file, fcntl.F_SETOWN, pid)
    except OSError:
        return False
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
