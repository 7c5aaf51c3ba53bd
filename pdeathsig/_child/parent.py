"""Which process to die with, and how that is known.

The members of a family know each other by tokens. Each armed member exports
``PDEATHSIG_PARENT``: its token, then that of the member it is bound to. By it a child knows its
parent: also when that one died before the child could look, when there is a shell in between, and
when the child was forked away twice. A member that execs finds its own token first, and its
parent's behind it.

A token is PID:START:PIDNS:TIMENS. START is in clock ticks since boot as in /proc/PID/stat
(proc_pid_stat(5), field 22). PIDNS and TIMENS are the inodes of the namespaces in which PID and
START mean something. 0 or left out: not known.
"""

import os

from .._base import environ, native, procfs
from . import fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

TOKENS = "PDEATHSIG_PARENT"
# How the parent is known: Status.parent_known_by.
FORK, ENVIRONMENT, GETPPID = "fork", "environment", "getppid"


class Parent:
    """The process to die with: told by the parent-death signal, by a watched pidfd, or by both."""

    __slots__ = ("is_still_meant", "known_by", "signals", "watch")

    def __init__(
        self,
        *,
        signals: "int | None" = None,
        watch: "int | None" = None,
        known_by: str = "",
        is_still_meant: "Callable[[], bool] | None" = None,
    ) -> None:
        self.signals = signals
        """PID of the parent that the kernel's signal tells of. 0: outside this PID namespace."""
        self.watch = watch
        """PID of the process to watch by pidfd."""
        self.known_by = known_by
        self.is_still_meant = is_still_meant
        """Asked once the pidfd is open: whether it is of the process that is meant."""

    @property
    def nearest(self) -> int:
        """The PID above which ancestors are looked for; 0: there is none in this PID namespace."""
        return self.signals or self.watch or 0


class Token:
    """One process. PIDs are used again; a PID with its start time is not."""

    __slots__ = ("pid", "pid_namespace", "start", "time_namespace")

    def __init__(self, pid: int, start: int = 0, pid_namespace: int = 0, time_namespace: int = 0) -> None:
        self.pid, self.start = pid, start
        self.pid_namespace, self.time_namespace = pid_namespace, time_namespace

    def __str__(self) -> str:
        return f"{self.pid}:{self.start}:{self.pid_namespace}:{self.time_namespace}"

    def is_alive(self) -> bool:
        """Whether that process is there and no zombie. One that /proc hides is taken to be."""
        try:
            procfs.require_own_namespace()
            process = procfs.stat(self.pid)
        except OSError:
            return procfs.exists(self.pid)
        comparable = self.start and self.time_namespace in (0, procfs.namespace("time"))
        return process.alive and (process.start == self.start or not comparable)


def own_token() -> Token:
    """This process's."""
    pid = os.getpid()
    try:
        procfs.require_own_namespace()
        start = procfs.stat(pid).start
    except OSError:
        start = 0
    return Token(pid, start, procfs.namespace("pid"), procfs.namespace("time"))


def tokens() -> "list[Token]":
    """Those in the environment, nearest first. Raises ValueError where it has others."""
    value = os.environ.get(TOKENS, "")
    found = []
    for text in value.split(",") if value else ():
        fields = text.split(":")
        if not 2 <= len(fields) <= 4 or not all(field.isascii() and field.isdigit() for field in fields):
            raise ValueError(f"{TOKENS}={value!r}: not PID:START:PIDNS:TIMENS")
        token = Token(*(int(field[:20]) for field in fields))
        if not 0 < token.pid < 2**31:
            raise ValueError(f"{TOKENS}={value!r}: {token.pid} is not a PID")
        found.append(token)
    return found


def choose_parent() -> Parent:
    """Which process this one is to die with.

    Raises ValueError where the family's tokens are none.
    """
    kernel_parent: int = native.lib.pds_parent()
    found = _multiprocessing_creator(kernel_parent)
    if found is not None:
        return found
    if fork.daemon_bound_to:
        return Parent(watch=fork.daemon_bound_to)
    if native.lib.pds_parent_source():
        return _by_signal(kernel_parent, FORK)
    in_family = TOKENS in os.environ and not environ.is_off(os.environ.get("PDEATHSIG"))
    if in_family and not environ.untrusted_reason():
        found = _by_token(kernel_parent)
        if found is not None:
            return found
    return _by_signal(kernel_parent, GETPPID)


def _by_signal(pid: int, known_by: str) -> Parent:
    """A parent that may not signal this process is watched too: its parent-death signal is lost."""
    return Parent(signals=pid, watch=None if native.lib.pds_parent_may_signal() else pid, known_by=known_by)


def _multiprocessing_creator(kernel_parent: int) -> "Parent | None":
    """Under a fork server: the process that asked for this one.

    The kernel's parent is the server, which lives as long as its children. The creator is
    multiprocessing.parent_process(), and holds the other end of its sentinel.
    """
    creator: "Any" = fork.multiprocessing_parent()
    if creator is None or creator is fork.forkers_creator or creator.pid == kernel_parent:
        return None
    import select

    sentinel = select.poll()
    sentinel.register(creator.sentinel)
    return Parent(watch=creator.pid, is_still_meant=lambda: not sentinel.poll(0))


def _by_token(kernel_parent: int) -> "Parent | None":
    """By the token in the environment; None: it has none of another process in this namespace.

    A guard above that follows the head is preferred to the head itself: it tells once.
    """
    head = next((one for one in tokens() if one.pid != os.getpid()), None)
    if head is None or (head.pid_namespace and head.pid_namespace != procfs.namespace("pid")):
        return None
    if head.pid == kernel_parent and head.is_alive():
        return _by_signal(kernel_parent, ENVIRONMENT)
    guard = _guard_above(kernel_parent, head) if head.is_alive() else None
    if guard is not None and guard.pid == kernel_parent:
        return _by_signal(kernel_parent, ENVIRONMENT)
    if guard is not None:
        return Parent(watch=guard.pid, known_by=ENVIRONMENT, is_still_meant=guard.is_alive)
    # A program between this process and the head may end and leave it behind: the head's guard
    # ends it then. Without one, the program's death counts too.
    signals = kernel_parent if environ.scope() != "tree" and _descends(kernel_parent, head.pid) else None
    return Parent(signals=signals, watch=head.pid, known_by=ENVIRONMENT, is_still_meant=head.is_alive)


def _guard_above(pid: int, head: Token) -> "Token | None":
    """The guard at or above ``pid`` that ends all below it when ``head`` dies."""
    follows = f"\0--parent\0{head.pid}:{head.start}\0"
    try:
        procfs.require_own_namespace()
        for above, process in procfs.lineage(pid):
            if above in (1, head.pid):
                break
            options = "\0".join(procfs.command(above)).partition("\0--\0")[0] + "\0"
            if options.startswith("pdeathsig-run\0") and follows in options and "\0--scope\0tree\0" in options:
                return Token(above, process.start)
    except OSError:
        pass
    return None


def _descends(pid: int, ancestor: int) -> bool:
    """Whether ``ancestor`` is ``pid`` or above it."""
    try:
        procfs.require_own_namespace()
        return pid == ancestor or any(process.parent == ancestor for _, process in procfs.lineage(pid))
    except OSError:
        return False
