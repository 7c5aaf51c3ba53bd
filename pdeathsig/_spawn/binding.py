"""How a child is bound: what it gets when this process dies, and how much of what it starts."""

import signal
from typing import Any, NamedTuple

from .._base import native
from .._base.checks import SIGKILL, check_scope, check_signal
from .guard_command import GuardTerms, executable, guard_terms


class Binding(NamedTuple):
    """What a child gets when this process dies, and who of its group gets it too."""

    sig: int
    group: bool = False
    guard: "GuardTerms | None" = None


class _Default(int):
    """SIGKILL, if the caller has not asked for anything else."""

    def __repr__(self) -> str:
        return "SIGKILL"


KILL: int = _Default(SIGKILL)
_USUAL = Binding(SIGKILL)
USUAL_GRACE = 5  # seconds


def binding(
    pdeathsig: object, scope: object, grace: object = None, *, name: str = "pdeathsig", linger: bool = False
) -> "Binding | None":
    """The arguments of that name; None: not bound. TypeError or ValueError names the argument: ``name`` is what the
    first one is called there. ``linger``: a guard lets live what the program leaves behind."""
    if pdeathsig == SIGKILL and scope == "child" and grace is None and type(pdeathsig) is not bool and native.backend:
        return _USUAL
    check_scope(scope)
    if pdeathsig is None:
        if scope != "child":
            raise ValueError(f"scope: there is no {scope!r} to bind with pdeathsig=None")
        if grace is not None:
            raise ValueError("grace: there is no signal that it would follow with pdeathsig=None")
        return None
    if not isinstance(pdeathsig, int) or isinstance(pdeathsig, bool):
        raise TypeError(f"{name}: a signal number or None, not {type(pdeathsig).__name__}")
    check_signal(pdeathsig, name)
    native.require_linux("Popen()")
    if scope == "tree" or grace is not None:
        return _guarded_binding(pdeathsig, scope, grace, name, linger)
    if scope == "group" and pdeathsig != SIGKILL:
        raise ValueError(
            f"{name}: to a group only SIGKILL, not {int(pdeathsig)}; scope='child' can send any signal, and with "
            "grace= so can the others"
        )
    return Binding(int(pdeathsig), scope == "group")


def _guarded_binding(sig: int, scope: Any, grace: Any, name: str, linger: bool) -> Binding:
    executable()
    if grace is None:
        grace = None if sig == SIGKILL else USUAL_GRACE
    elif sig is KILL:
        sig = signal.SIGTERM
    return Binding(int(sig), guard=guard_terms(int(sig), grace, scope, name)._replace(linger=linger))
