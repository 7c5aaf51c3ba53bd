"""A daemon made by a member of the family: fork, setsid, fork, and the process in the middle exits (daemon(7)).

Bound to the one that forked it, it would die as soon as it has been made. So it is bound to whom the one in the middle
was bound to, as what a shell leaves behind is. The one in the middle is a plain fork that has itself called setsid(2):
no worker of multiprocessing, whose children are to die with it, and not on a terminal of its own by forkpty(3).
"""

import os

from . import _core

bound_to = 0  # PID; 0: this process is no daemon
_could_be_for = 0  # whom this process's own daemons are bound to, if it makes some
_creator: object = None


def after_fork_in_child() -> None:
    global bound_to, _could_be_for, _creator
    forker, creator = _core.lib.pds_parent(), _core.forkers_creator()
    leader = _session_leader()
    of_a_maker = leader == forker != 0 and creator is _creator
    bound_to = _could_be_for if of_a_maker and _core.backend == "compiled" else 0
    _could_be_for = 0 if leader == os.getpid() else bound_to or forker
    _creator = creator


def _session_leader() -> int:
    """The PID of ours; 0: it is outside this PID namespace, or getsid(2) is denied."""
    try:
        return os.getsid(0)
    except OSError:
        return 0


def parent() -> int:
    """The PID of the process to die with: who forked us, or that."""
    return bound_to or int(_core.lib.pds_parent())


def in_the_middle() -> int:
    """The PID of the process that made this daemon; 0: it is none."""
    return int(_core.lib.pds_parent()) if bound_to else 0
