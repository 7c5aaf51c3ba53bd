"""What fork leaves to a child: what it arms itself with, and which process a daemon is bound to.

A daemon is made by fork, setsid, fork; then the process in the middle exits (daemon(7)). Bound to
that one, it would die as soon as it has been made. So it is bound to what that one was bound to.
The process in the middle is a plain fork that has itself called setsid(2). It is no worker of
multiprocessing (its children are to die with it), and not on a terminal of its own by forkpty(3).

State of this process, all of it written by ``_arm.arm`` and ``_family.membership.join``, or in a
forked child by the handler at the end of this file.
"""

import os
import sys

from .._base import native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Inherited:
    """What children made by fork arm themselves with."""

    __slots__ = ("_arm", "ancestors", "grace", "semantics", "sig")

    def __init__(
        self, arm: "Callable[..., None]", sig: int, grace: "float | None", semantics: str, ancestors: int
    ) -> None:
        self._arm, self.sig, self.grace = arm, sig, grace
        self.semantics = semantics
        """Of the parent's death: "process" or "thread"."""
        self.ancestors = ancestors
        """How many this process has armed itself for. A forked child does for its parent alone."""

    def rearm(self, ancestors: int = 1) -> None:
        self._arm(self.sig, grace=self.grace, parent=self.semantics, inherit=True, ancestors=ancestors)


inherited: "Inherited | None" = None
# Modules that call exec right after fork. A child of theirs does not arm itself: the exec would
# end the handler, and the carrier signal would then kill.
exec_callers = {"subprocess"}
# What a family adds, after the child has armed itself, and where it could not.
after_rearming: "Callable[[], None] | None" = None
on_failure: "Callable[[OSError], None] | None" = None

# What a family executes in the place of a program that does not arm itself. Takes the path, the
# arguments and the environment (None: this process's). Returns None: the program as it is.
wrap_program: "Callable[[bytes, Any, Any], tuple[bytes, list[bytes]] | None] | None" = None

daemon_bound_to = 0  # PID; 0: this process is no daemon
_own_daemons_bound_to = 0  # PID, if this process makes some
_creator: object = None
# multiprocessing's parent_process() when this process was forked: then it is the forker's.
forkers_creator: object = None


def parent_pid() -> int:
    """The PID of the process to die with: the forker, or what a daemon is bound to."""
    return daemon_bound_to or int(native.lib.pds_parent())


def daemon_maker_pid() -> int:
    """The PID of the process that made this daemon; 0: this process is none."""
    return int(native.lib.pds_parent()) if daemon_bound_to else 0


def multiprocessing_parent() -> object:
    """``multiprocessing.parent_process()``; None where multiprocessing is not imported."""
    process = sys.modules.get("multiprocessing.process")
    parent_process = getattr(process, "parent_process", None)
    return parent_process() if parent_process else None


def _note_daemon() -> None:
    global daemon_bound_to, _own_daemons_bound_to, _creator
    forker = native.lib.pds_parent()
    leader = _session_leader()
    of_a_maker = leader == forker != 0 and forkers_creator is _creator
    daemon_bound_to = _own_daemons_bound_to if of_a_maker and native.backend == "compiled" else 0
    _own_daemons_bound_to = 0 if leader == os.getpid() else daemon_bound_to or forker
    _creator = forkers_creator


def _session_leader() -> int:
    """Its PID; 0: it is outside this PID namespace, or getsid(2) is denied."""
    try:
        return os.getsid(0)
    except OSError:
        return 0


def _rearm(armed_with: Inherited) -> None:
    global daemon_bound_to
    try:
        armed_with.rearm()
    except OSError:
        if not daemon_bound_to:
            raise
        daemon_bound_to = 0  # pidfd_open(2) is missing or denied: bound to the forker then
        armed_with.rearm()


def _after_fork_in_child() -> None:
    global forkers_creator
    forkers_creator = multiprocessing_parent()
    if inherited is None:
        return
    _note_daemon()
    caller = sys._getframe().f_back
    if caller is not None and caller.f_globals.get("__name__") in exec_callers:
        return
    try:
        _rearm(inherited)
    except OSError as error:
        if on_failure is None:
            raise  # Python prints it, and the child goes on
        on_failure(error)
    if after_rearming is not None:
        after_rearming()


if native.backend:
    os.register_at_fork(after_in_child=_after_fork_in_child)
