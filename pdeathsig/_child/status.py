"""What is armed, and whether it still holds."""

import os
from dataclasses import dataclass
from signal import Signals
from typing import TYPE_CHECKING, Any

from .._base import environ, native, procfs
from .._base.checks import signal_name
from . import arm, fork, parent

native.load_cffi()  # now: later a process may not reach it, or have no descriptor left

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Status:
    """A picture of the moment; ``print`` it."""

    armed: bool
    """Whether ``arm`` was called, and not undone; nor has the parent's death been delivered."""
    signal: "int | None"
    """The signal number that this process gets when its parent dies; None: not armed."""
    grace: "float | None"
    """Seconds from that signal to SIGKILL; None: no SIGKILL follows."""
    parent: "int | None"
    """PID of the parent that the awaited signal tells of. 0: outside this PID namespace; None: none."""
    parent_known_by: "str | None"
    """Where that PID comes from: ``"fork"``, ``"environment"`` (the family) or ``"getppid"``."""
    watching: "int | None"
    """PID of a process watched by pidfd, or None."""
    ancestors: "tuple[int, ...]"
    """PIDs of the ancestors above the parent that are watched by pidfd too, the nearest first."""
    inherit: bool
    """Whether children made by fork arm themselves."""
    mechanism: str
    """``"process"``: a signal verified by getppid(); ``"thread"``: the kernel's own signal;
    ``"pidfd"``; ``"none"``."""
    backend: str
    """``"compiled"``, ``"ctypes"`` or ``"syscall"``; empty on a platform that is not Linux."""
    carrier: "int | None"
    """The number of the real-time signal that tells of the parent's death."""
    holder: "int | None"
    """The thread ID (TID) of the thread that holds the kernel's setting."""
    kernel_signal: "int | None"
    """What PR_GET_PDEATHSIG says on that thread. 0: nothing is set; None: it could not be asked."""
    problems: "tuple[str, ...]"
    """What has disarmed it since, in words. Empty: all is well."""

    def __bool__(self) -> bool:
        """Armed, and nothing has disarmed it since."""
        return self.armed and not self.problems

    def __str__(self) -> str:
        lines = [f"pdeathsig: {self._headline()}"]
        if self.armed:
            lines.append(f"  mechanism  {self._mechanism()}")
        kernel = "could not be asked" if self.kernel_signal is None else _name(self.kernel_signal)
        holder = f" on thread {self.holder}" if self.holder else ""
        lines.append(f"  kernel     PR_GET_PDEATHSIG{holder}: {kernel}")
        lines.append(f"  backend    {self.backend or 'none: not Linux'}")
        lines += [f"  PROBLEM    {problem}" for problem in self.problems]
        return "\n".join(lines)

    def _headline(self) -> str:
        if not self.armed:
            return "not armed"
        processes = []
        if self.parent is not None:
            outside = "the parent outside this PID namespace"
            processes.append(f"parent {self.parent} (known by {self.parent_known_by})" if self.parent else outside)
        if self.watching and self.watching != self.parent:
            processes.append(f"process {self.watching}")
        processes += [f"ancestor {pid}" for pid in self.ancestors]
        then = f", SIGKILL {self.grace:g} s later" if self.grace else ""
        thread = "the thread that started us in " if self.mechanism == "thread" else ""
        return f"armed: {_name(self.signal or 0)} when {thread}{' or '.join(processes)} dies{then}"

    def _mechanism(self) -> str:
        if self.mechanism == "thread":
            return "the kernel's own parent-death signal: also when only the thread that started us exits"
        parts = []
        if self.mechanism == "process":
            how = "verified by getppid()" if self.parent else "not to be verified: also when only a thread there exits"
            parts.append(f"parent-death signal {_name(self.carrier or 0)}, {how}")
        if self.watching or self.ancestors:
            pids = dict.fromkeys(pid for pid in (self.watching, *self.ancestors) if pid)
            parts.append(f"pidfd of {', '.join(map(str, pids))}")
        return " and ".join(parts) + (", armed again in forked children" if self.inherit else "")


def status() -> Status:
    """What is armed in this process, by which mechanism, and whether anything has disarmed it.

    Changed credentials do, a blocked signal, or a replaced handler. From another thread than the
    one that holds the setting, that thread is asked: the main one by a signal, within a second.
    Raises OSError with the name of the system call.
    """
    if not native.backend:
        return Status(False, None, None, None, None, None, (), False, "none", "", None, None, None, ())
    if native.backend == "compiled":
        raw = native.ffi.new("struct pds_status *")
        native.check(native.lib.pds_status(raw))
    else:
        raw = native.lib.status()
    armed = bool(raw.mechanism) and not raw.delivered
    mechanism = _mechanism(raw.mechanism) if armed else "none"
    watches_pidfds = armed and raw.mechanism & native.lib.PDS_WATCH
    watching = arm.armed_parent.watch if watches_pidfds and arm.armed_parent else None
    ancestors = arm.armed_ancestors if watches_pidfds else ()
    has_parent = armed and raw.parent >= 0
    return Status(
        armed=armed,
        signal=raw.sig if armed else None,
        grace=raw.grace_ns / 1e9 if armed and raw.grace_ns else None,
        parent=raw.parent if has_parent else None,
        parent_known_by=_parent_known_by() if has_parent else None,
        watching=watching or None,
        ancestors=ancestors,
        inherit=armed and fork.inherited is not None,
        mechanism=mechanism,
        backend=native.backend,
        carrier=raw.carrier if mechanism == "process" else None,
        holder=raw.holder or None,
        kernel_signal=raw.kernel_sig if raw.kernel_sig >= 0 else None,
        problems=tuple(_problems(raw, mechanism, watching, ancestors)),
    )


def _problems(raw: Any, mechanism: str, watching: "int | None", ancestors: "tuple[int, ...]") -> "Iterator[str]":
    """:param raw: a struct pds_status."""
    if mechanism == "none":
        if environ.ignored_because:
            yield f"PDEATHSIG was set, and is ignored: {environ.ignored_because}"
        return
    expected = raw.sig if mechanism == "thread" else raw.carrier
    if mechanism != "pidfd" and raw.kernel_sig not in (expected, -1):
        yield _forgotten(raw.kernel_sig)
    if mechanism != "thread":
        if not raw.carrier_handled:
            yield f"the handler of {_name(raw.carrier)} was replaced"
        elif _blocked_everywhere(raw.carrier) and not raw.watched:
            yield f"{_name(raw.carrier)}, which carries the parent's death, is blocked in every thread"
    if mechanism != "pidfd" and not watching and not native.lib.pds_parent_may_signal():
        yield f"parent {raw.parent} runs as another user, and may not signal this process; arm again"
    yield from _without_effect(raw.sig, raw.grace_ns > 0)
    watched = {watching, *ancestors} - {None}
    if raw.watched_lost or raw.watched < len(watched):
        which = watched.pop() if len(watched) == 1 else "a watched process"
        yield f"the pidfd of {which} was closed"


def _forgotten(kernel: int) -> str:
    if kernel:
        return f"other code has set the parent-death signal to {_name(kernel)}"
    return "the kernel has forgotten the setting: credentials have changed since; arm again"


def _without_effect(sig: int, kill_follows: bool) -> "Iterator[str]":
    """What keeps the signal itself from having an effect. With a grace, SIGKILL follows anyway."""
    if kill_follows or sig in (Signals.SIGKILL, Signals.SIGSTOP):
        return
    if procfs.signal_set(b"SigIgn", "/proc/self/status") >> (sig - 1) & 1:
        yield f"{_name(sig)} is ignored"
    elif _blocked_everywhere(sig):
        yield f"{_name(sig)} is blocked in every thread"


def _blocked_everywhere(sig: int) -> bool:
    try:
        tasks = os.listdir("/proc/self/task")
    except OSError:
        return False
    return all(procfs.signal_set(b"SigBlk", f"/proc/self/task/{task}/status") >> (sig - 1) & 1 for task in tasks)


def _mechanism(bits: int) -> str:
    """The main one; a pidfd is that only where it is alone."""
    if bits & native.lib.PDS_PROCESS:
        return "process"
    return "thread" if bits & native.lib.PDS_THREAD else "pidfd"


def _parent_known_by() -> str:
    if native.lib.pds_parent_source():
        return parent.FORK
    by_token = arm.armed_parent is not None and arm.armed_parent.known_by == parent.ENVIRONMENT
    return parent.ENVIRONMENT if by_token else parent.GETPPID


def _name(sig: int) -> str:
    return signal_name(sig) if sig else "nothing"
