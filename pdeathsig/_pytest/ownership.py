"""Which processes this session has started, directly or not, and which test or fixture owns each.

A process is ours if its parent is. A daemon, which has left the tree by a double fork, is ours if
its environment has our mark. It also is ours if it was forked from us and has not called exec. The
addresses of its memory tell: the kernel chooses them at random on exec, and fork keeps them.

This process is no subreaper, though that would find all daemons. The os.wait() of a test would get
them.
"""

import os
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from .._base import environ, procfs
from .libraries import shared_pids
from .mark import Mark
from .new_processes import NewProcesses

if TYPE_CHECKING:
    from collections.abc import Iterable

_numbers = count(1)


class Owner:
    """A test or a fixture, which answers for the processes that it has started."""

    def __init__(self, name: str) -> None:
        self.name, self.number = name, next(_numbers)


class Leftover(NamedTuple):
    """A living process of an owner that should have ended it."""

    pid: int
    process: procfs.Process
    owner: Owner
    parent_is_ours: bool
    forked_from_us: bool
    """And it has not called exec."""

    @property
    def identity(self) -> "tuple[int, int]":
        return self.pid, self.process.start


class OwnedProcesses:
    """The processes of this session, with their owners. Each new owner begins with a scan."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        us = procfs.read(self.pid)
        assert us is not None
        self._mark = Mark(self.pid, us.start)
        self._owned: "dict[tuple[int, int], Owner]" = {}  # by PID and start time
        self._default_owner = Owner("the session")  # of what is started between tests
        self._current = [self._default_owner]  # the last one is the current owner
        self._owners: "dict[int, Owner]" = {}  # by number: a mark counts while its owner is here
        self._new = NewProcesses()
        self._image: "tuple[bytes, ...] | None" = None
        others = self._adopt(self._new.scan())
        self._image = _unique_image(us, others)

    def close(self) -> None:
        self._mark.remove()

    def enter(self, owner: Owner) -> Owner:
        """Make this the owner of all that is started from now on."""
        self.scan()
        self._current.append(owner)
        self._owners[owner.number] = owner
        self._mark.set(owner.number)
        return owner

    def leave(self, owner: Owner) -> None:
        """Make the owner before it the current one again. What the last scan saw stays its own."""
        if owner in self._current:
            del self._current[self._current.index(owner) :]
        self._mark.set(self._current[-1].number)

    def forget(self, owners: "Iterable[Owner]") -> None:
        """Give what appears with their marks from now on to the current owner."""
        for owner in owners:
            self._owners.pop(owner.number, None)

    def scan(self) -> None:
        self._adopt(self._new.scan())

    def scan_until_stable(self) -> None:
        """Scan, also for processes that are in the middle of fork or exec."""
        for processes in self._new.scan_until_stable():
            self._adopt(processes)

    def find_leftovers(self, owners: "Iterable[Owner]") -> "list[Leftover]":
        self.scan_until_stable()
        leftovers = []
        for (pid, start), owner in list(self._owned.items()):
            if owner not in owners:
                continue
            process = procfs.read(pid)
            if process is None or process.start != start or not process.alive:
                del self._owned[pid, start]
            elif pid in shared_pids() or environ.is_resource_tracker(procfs.command(pid)):
                self._owned[pid, start] = self._default_owner
            else:
                forked = process.image == self._image
                leftovers.append(Leftover(pid, process, owner, self._is_ours(process.parent), forked))
        return leftovers

    def _adopt(self, processes: "dict[int, procfs.Process]") -> "list[procfs.Process]":
        """Find those that are ours, and their owners. Return the others."""
        unknown = {
            pid: process
            for pid, process in processes.items()
            if process.alive and pid != self.pid and (pid, process.start) not in self._owned
        }
        while unknown:
            found = {pid: self._mark.read(pid) for pid, process in unknown.items() if self._is_ours(process.parent)}
            found = found or self._find_daemons(unknown)
            if not found:
                break
            for pid, number in found.items():
                process = unknown.pop(pid)
                if procfs.is_process(pid):
                    self._owned[pid, process.start] = self._choose_owner(process, number)
        return list(unknown.values())

    def _owner_of(self, pid: int) -> "Owner | None":
        process = procfs.read(pid)
        return self._owned.get((pid, process.start)) if process is not None else None

    def _is_ours(self, pid: int) -> bool:
        return pid == self.pid or self._owner_of(pid) is not None

    def _find_daemons(self, processes: "dict[int, procfs.Process]") -> "dict[int, int | None]":
        """Return the processes that have our mark, with its number, or our addresses."""
        found: "dict[int, int | None]" = {}
        if not self._owners:  # no process can have our mark yet: save the time to read all environments
            return found
        for pid, process in processes.items():
            number = self._mark.read(pid)
            if number is not None or process.image == self._image:
                found[pid] = number
            else:  # an exec may have hidden both
                self._new.scan_again(pid, process)
        return found

    def _choose_owner(self, process: procfs.Process, number: "int | None") -> Owner:
        """Return the owner that the mark names, else that of the parent, else the current one."""
        if process.parent != self.pid and process.parent in shared_pids():
            return self._current[-1]  # a fork server has the mark of the test that used it first
        parents = self._owner_of(process.parent)
        owner = self._owners.get(number or 0) or self._owners.get(parents.number if parents else 0)
        return owner or self._current[-1]


def _unique_image(us: procfs.Process, others: "Iterable[procfs.Process]") -> "tuple[bytes, ...] | None":
    """Return the addresses of our memory, if only our forked children share them.

    None: the kernel does not choose them at random, or our parent has forked others like us.
    """
    if b"0" in us.image or not procfs.has_random_addresses() or any(other.image == us.image for other in others):
        return None
    return us.image
