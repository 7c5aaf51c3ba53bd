"""Which processes this one has started, directly or not, and on whose account; for pytest --no-orphans.

A process is ours if it is below us; if its environment has our mark; or if it was forked from us and never execed,
which the addresses of its stack tell: the kernel draws them at random on exec, and fork keeps them. The last two find
who has left the tree by a double fork. No subreaper: that would hand the orphans to the program's own os.wait().

What makes it cheap: /proc/loadavg tells the last PID given out. Who is new has one given out since the last look.
"""

import fcntl
import gc
import os
import sys
import threading
import time
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from .._base import environ, procfs
from .._kill import tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

VARIABLE = "PDEATHSIG_TEST"
PATIENCE = 1.0  # seconds for those that are about to end, as after terminate() without wait()
_POOL = 2.0  # seconds for a multiprocessing.Pool to end its own way
_ROUNDS = 10  # of killing those that somebody starts in place of the killed
_MOST = 20  # processes to name
_NO_RANDOM_ADDRESSES = 0x0040000  # personality(2)
_FEW = 256  # PIDs, to be tried one by one
_SOON = 1.0  # seconds in which PIDs do not come round
_EXEC = 2.0  # seconds for a fork or an exec on a busy machine
_TICKS = os.sysconf("SC_CLK_TCK")

_numbers = count(1)


class Owner:
    """On whose account processes are started at the moment."""

    def __init__(self, name: str) -> None:
        self.name, self.number = name, next(_numbers)


class _Ours(NamedTuple):
    start: int
    owner: Owner


class _Left(NamedTuple):
    pid: int
    process: procfs.Process
    owner: Owner

    @property
    def identity(self) -> "tuple[int, int]":
        return self.pid, self.process.start


class Watch:
    """What is ours, seen at every change of owner."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._before = os.environ.get(VARIABLE)
        me = procfs.read(self.pid)
        assert me is not None
        self._mark = f"{self.pid}:{me.start}:"
        self._image: "tuple[bytes, ...] | None" = None
        self._last_pid = _last_pid if _last_pid_is_true() else lambda: None
        self._last: "int | None" = None
        self._time = 0.0
        self._again: "list[int]" = []  # PIDs given out, of processes that could not be looked at yet
        self._ours: "dict[int, _Ours]" = {}
        self._somebody = Owner("somebody else")  # all that is started between tests
        self._stack = [self._somebody]
        self._owners: "dict[int, Owner]" = {}
        others = self._new(self._last_pid())
        self._adopt(others)
        self._image = self._image_that_only_ours_have(me, others.values())

    def close(self) -> None:
        """Take the mark away."""
        if self._before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = self._before

    def enter(self, owner: Owner) -> Owner:
        """From now on processes are started on the account of ``owner``."""
        self.look()
        self._stack.append(owner)
        self._owners[owner.number] = owner
        self._export()
        return owner

    def leave(self, owner: Owner) -> None:
        """Back to whoever was before. It stays answerable for what it has started up to the last look."""
        if owner in self._stack:
            del self._stack[self._stack.index(owner) :]
        self._export()

    def settle(self, owners: "list[Owner]") -> str:
        """The processes of these owners: those still there after a moment are killed, and named in the text returned.
        No text: there were none."""
        until = time.monotonic() + PATIENCE
        while left := self._left(owners):
            patience = until - time.monotonic()
            if patience <= 0:
                break
            tree.wait_for((one.identity for one in left), patience)
        said = self._say(left) if left else ""
        for _ in range(_ROUNDS):
            if not left:
                break
            self._end(left)
            left = self._left(owners)
        if left:
            said += f"\nStill there, as they may not be killed, or come back: {', '.join(str(one.pid) for one in left)}"
        self.forget(owners)
        return said

    def has_nothing_of(self, owners: "list[Owner]") -> bool:
        """Whether they had started nothing that was there at a look, which is the usual case."""
        return not any(known.owner in owners for known in self._ours.values())

    def forget(self, owners: "list[Owner]") -> None:
        """What appears with their mark from now on is on the account of whoever is."""
        for owner in owners:
            self._owners.pop(owner.number, None)

    def _export(self) -> None:
        mine = f"{self._mark}{self._stack[-1].number}"
        os.environ[VARIABLE] = f"{self._before} {mine}" if self._before else mine

    def look(self) -> None:
        """Take note of who is new."""
        last = self._last_pid()
        if last is None or last != self._last or self._again:
            self._adopt(self._new(last))

    def look_well(self) -> None:
        """The same; waits for those who are in the middle of exec, and looks for those started during the look."""
        until = time.monotonic() + _EXEC
        self.look()
        while (self._again or self._last_pid() != self._last) and time.monotonic() < until:
            os.sched_yield()
            self.look()
        self._again = [pid for pid in self._again if procfs.read(pid) is not None]  # else a session has its number

    def _new(self, last: "int | None") -> "dict[int, procfs.Process]":
        """All that have been started since the last call."""
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        pids, since = self._given_out(last, now), 0
        if pids is None:
            pids, since = procfs.numbers("/proc"), int(self._time * _TICKS) - 2
        self._last, self._time = last, now
        self._again, new = [], {}
        for pid in pids:
            process = procfs.read(pid)
            if _is_being_forked(pid) if process is None else process.start >= since and _is_in_exec(pid, process):
                self._again.append(pid)  # where it belongs will be seen after the fork or the exec
            if process is not None and process.start >= since and self._is_unknown(pid, process):
                new[pid] = process
        return new

    def _given_out(self, last: "int | None", now: float) -> "list[int] | None":
        """The PIDs, of threads too, since the last call. None: better look at all."""
        if last is None or self._last is None or now > self._time + _SOON or not 0 <= last - self._last <= _FEW:
            return None
        return [*self._again, *range(self._last + 1, last + 1)]

    def _is_unknown(self, pid: int, process: procfs.Process) -> bool:
        known = self._ours.get(pid)
        return process.alive and pid != self.pid and (known is None or known.start != process.start)

    def _adopt(self, processes: "dict[int, procfs.Process]") -> None:
        """Move those that are ours."""
        mine = list(processes)
        while mine:
            mine = [pid for pid, process in processes.items() if self._is_parent(process.parent)]
            numbers = {} if mine else self._marked(processes)
            mine = mine or list(numbers)
            for pid in mine:
                process = processes.pop(pid)
                if procfs.is_process(pid):
                    number = numbers[pid] if pid in numbers else self._number(pid)
                    self._ours[pid] = _Ours(process.start, self._owner_of(process, number))

    def _is_parent(self, pid: int) -> bool:
        if pid == self.pid:
            return True
        known = self._ours.get(pid)
        process = procfs.read(pid) if known else None
        return known is not None and process is not None and process.start == known.start

    def _marked(self, processes: "dict[int, procfs.Process]") -> "dict[int, int | None]":
        """Those with our mark, and the number in it. It is read once: during an exec it is not there."""
        if not self._owners:  # before the first one nobody has a mark, and reading all environments would take its time
            return {}
        found: "dict[int, int | None]" = {}
        for pid, process in processes.items():
            number = self._number(pid)
            if number is not None or process.image == self._image:
                found[pid] = number
            elif _has_execed(pid, process):  # perhaps after the look at it, and before that at its environment
                self._again.append(pid)
        return found

    def _number(self, pid: int) -> "int | None":
        """The owner's, by the mark in the environment with which that process was started."""
        for mark in _variable(pid, VARIABLE).split():
            if mark.startswith(self._mark) and mark[len(self._mark) :].isdigit():
                return int(mark[len(self._mark) :])
        return None

    def _owner_of(self, process: procfs.Process, number: "int | None") -> Owner:
        """By its mark, else its parent's. The children of what is kept for all are on the account of who is now: a fork
        server has the environment of the test that came first."""
        if process.parent != self.pid and process.parent in _kept():
            return self._stack[-1]
        owner = self._owners.get(number or 0)
        parent = self._ours.get(process.parent)
        if owner is None and parent is not None and parent.owner.number in self._owners:
            owner = parent.owner
        return owner or self._stack[-1]

    def _image_that_only_ours_have(
        self, me: procfs.Process, others: "Iterable[procfs.Process]"
    ) -> "tuple[bytes, ...] | None":
        """None: who forked us may fork others, or the kernel draws no random addresses."""
        if b"0" in me.image or not _random_addresses() or any(process.image == me.image for process in others):
            return None
        return me.image

    def _left(self, owners: "Iterable[Owner]") -> "list[_Left]":
        self.look_well()
        left = []
        for pid, known in list(self._ours.items()):
            if known.owner not in owners:
                continue
            process = procfs.read(pid)
            if process is None or process.start != known.start or not process.alive:
                del self._ours[pid]
            elif pid in _kept() or environ.is_resource_tracker(procfs.command(pid)):
                self._ours[pid] = _Ours(known.start, self._somebody)
            else:
                left.append(_Left(pid, process, known.owner))
        return left

    def _end(self, left: "list[_Left]") -> None:
        pids = {one.pid for one in left}
        held = _objects()
        for pool in held:
            if pids.intersection(getattr(worker, "pid", None) for worker in getattr(pool, "_pool", ())):
                _in_time(pool.terminate, _POOL)
        tree.end_now(one.identity for one in left)
        for popen in held:
            if getattr(popen, "pid", None) in pids:
                popen.poll()
        children = sys.modules.get("multiprocessing.process")
        if children is not None:
            children.active_children()  # reaps them
        for one in left:
            if one.process.parent == self.pid:
                _reap(one.pid)

    def _say(self, left: "list[_Left]") -> str:
        lines = []
        for owner in dict.fromkeys(one.owner for one in left):
            these = [one for one in left if one.owner is owner]
            what = "1 process" if len(these) == 1 else f"{len(these)} processes"
            lines.append(f"{owner.name} left {what} behind (killed):")
            lines += (line for one in these[:_MOST] for line in self._describe(one))
            lines += [f"  and {len(these) - _MOST} more"] * (len(these) > _MOST)
        return "\n".join(lines)

    def _describe(self, one: _Left) -> "Iterator[str]":
        parent = one.process.parent
        forked = ", forked from pytest" if one.process.image == self._image else ""
        stopped = ", stopped" if one.process.state == "T" else ""
        yield f"  {one.pid}  {_name(one.pid)}{forked}{stopped}"
        if self._is_parent(parent):
            yield f"      child of {parent}{' (pytest)' if parent == self.pid else f'  {_name(parent)}'}"
        else:
            yield f"      orphan: who started it has ended; now a child of {parent}"
        test = _variable(one.pid, "PYTEST_CURRENT_TEST")
        if test:
            yield f"      started in {test}"


def _last_pid() -> int:
    """The last PID (of a process or thread) that was given out in this PID namespace: proc_loadavg(5)."""
    with open("/proc/loadavg", "rb") as file:
        return int(file.read().split()[-1])


def _last_pid_is_true() -> bool:
    """Not where somebody puts a file of his own there that is behind the times, as lxcfs does."""
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    try:
        return _last_pid() >= (thread.native_id or 0)
    except (OSError, ValueError, IndexError):
        return False


def _random_addresses() -> bool:
    try:
        with open("/proc/self/personality") as file:
            personality = int(file.read(), 16)
        with open("/proc/sys/kernel/randomize_va_space") as file:
            return file.read().strip() != "0" and not personality & _NO_RANDOM_ADDRESSES
    except (OSError, ValueError):
        return False


def _is_being_forked(pid: int) -> bool:
    """It has its number, but no entry in /proc yet. Only fcntl(2), F_SETOWN, finds it; and what is left of a group that
    has this number, which kill(2) finds too."""
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


def _has_execed(pid: int, before: procfs.Process) -> bool:
    """Or is about to."""
    now = procfs.read(pid)
    return now is not None and now.start == before.start and (now.image != before.image or not now.has_code)


def _is_in_exec(pid: int, process: procfs.Process) -> bool:
    """Its environment is not complete yet; unlike kernel threads, and those whose environment may not be seen."""
    return not process.has_code and process.parent not in (0, 2) and _may_read(f"/proc/{pid}/environ")


def _may_read(path: str) -> bool:
    try:
        with open(path, "rb"):
            return True
    except OSError:
        return False


def _kept() -> "set[int]":
    """What libraries keep here for whoever comes next: the fork server, and loky's (joblib's) reusable pool."""
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    kept = {getattr(server, "_forkserver_pid", None) or 0}
    for name in ("loky.reusable_executor", "joblib.externals.loky.reusable_executor"):
        module = sys.modules.get(name)
        storage = getattr(module, "_executor_storage", None)  # since loky 3.7: one a thread
        executor = getattr(storage, "executor", None) or getattr(module, "_executor", None)
        kept.update(getattr(executor, "_processes", None) or ())
    return kept


def _objects() -> "list[Any]":
    """The objects that stand for processes. A Popen whose child somebody else reaps says 0. A Pool has to be told, as
    it starts new workers in place of those that die."""
    classes = [("subprocess", "Popen"), ("multiprocessing.pool", "Pool")]
    wanted = tuple(
        found for module, name in classes if isinstance(found := getattr(sys.modules.get(module), name, None), type)
    )
    return [thing for thing in gc.get_objects() if issubclass(type(thing), wanted)]


def _in_time(call: "Callable[[], object]", seconds: float) -> None:
    """A pool that has lost a worker may hang."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


def _read(pid: int, file: str) -> str:
    try:
        with open(f"/proc/{pid}/{file}", "rb") as opened:
            return os.fsdecode(opened.read())
    except OSError:
        return ""


def _name(pid: int) -> str:
    words = " ".join(procfs.command(pid)) or f"[{_read(pid, 'comm').strip()}]"
    line = " ".join(words.split())
    return line if len(line) <= 200 else f"{line[:200]}..."


def _variable(pid: int, name: str) -> str:
    """Of the environment with which it was started."""
    for variable in _read(pid, "environ").split("\0"):
        if variable.startswith(f"{name}="):
            return variable[len(name) + 1 :]
    return ""
