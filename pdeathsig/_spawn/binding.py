"""How a child is bound: what it gets when this process dies, and how much of what it starts."""

import os
import signal
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from .._base import native
from .._base.checks import SIGKILL, check_scope, check_signal
from .guard_command import GuardTerms, executable, guard_terms


class Binding(NamedTuple):
    """The terms of one bound child."""

    sig: int  # what it gets when this process dies
    group: bool = False  # and all of its process group
    guard: "GuardTerms | None" = None  # a guard is started, and ends what is below it

    @property
    def scope(self) -> str:
        """How much of what the child starts ends with it."""
        if self.guard is not None:
            return self.guard.scope
        return "group" if self.group else "child"


class _Default(int):
    """SIGKILL where the caller has not named a signal. With a grace it becomes SIGTERM."""

    def __repr__(self) -> str:
        return "SIGKILL"


KILL: int = _Default(SIGKILL)
DEFAULT_GRACE = 5  # seconds
_DEFAULT_BINDING = Binding(SIGKILL)
_SHELLS = ("sh", "ash", "bash", "dash", "fish", "ksh", "mksh", "zsh")


def choose_binding(
    pdeathsig: object,
    scope: object = None,
    grace: object = None,
    *,
    shell: bool = False,
    name: str = "pdeathsig",
    linger: bool = False,
) -> "Binding | None":
    """Check the arguments of that name, and return what they come to. None: not bound.

    :param scope: None: "child", and "tree" for a shell command.
    :param shell: the program is a shell that runs a command.
    :param name: what the caller calls the first one, for messages.
    :param linger: a guard lets live what the program leaves behind when it ends.

    Raises TypeError or ValueError that names the argument; FileNotFoundError if a guard is needed
    and was not built; NotImplementedError where this is not Linux.
    """
    if scope is None:
        scope = "tree" if shell and pdeathsig is not None and shell_can_be_tree() else "child"
    if pdeathsig is KILL and scope == "child" and grace is None and native.backend:
        return _DEFAULT_BINDING
    check_scope(scope)
    if pdeathsig is None:
        if scope != "child":
            raise ValueError(f"scope: there is no {scope!r} to bind with pdeathsig=None")
        if grace is not None:
            raise ValueError("grace: there is no signal that it would follow with pdeathsig=None")
        return None
    sig = pdeathsig if pdeathsig is KILL else check_signal(pdeathsig, name)
    native.require_linux("Popen()")
    if scope == "tree" or grace is not None:
        return _guarded_binding(sig, scope, grace, name, linger)
    if scope == "group" and sig != SIGKILL:
        raise ValueError(
            f"{name}: to a group only SIGKILL, not {int(sig)}; scope='child' can send any signal, and with "
            "grace= so can the others"
        )
    return Binding(int(sig), scope == "group")


def is_shell_command(argv: "Sequence[Any]") -> bool:
    """Whether that looks like what subprocess makes of ``shell=True``: /bin/sh -c command.

    Its ``executable=`` takes the place of /bin/sh. So that is any path of a shell.
    """
    if len(argv) < 3 or argv[1] not in ("-c", b"-c"):
        return False
    directory, name = os.path.split(os.fsdecode(argv[0]))
    return directory != "" and name in _SHELLS


def shell_can_be_tree() -> bool:
    """Whether the guard can be executed. Warns if not: a shell alone is bound then."""
    try:
        executable()
    except FileNotFoundError as error:
        warnings.warn(
            f"what a shell starts is not bound: {error.strerror}; or say scope='child'", RuntimeWarning, stacklevel=5
        )
        return False
    return True


def _guarded_binding(sig: int, scope: Any, grace: Any, name: str, linger: bool) -> Binding:
    executable()  # it may be missing: the caller is told now
    if grace is None:
        grace = None if sig == SIGKILL else DEFAULT_GRACE
    elif sig is KILL:
        sig = signal.SIGTERM
    return Binding(int(sig), guard=guard_terms(int(sig), grace, scope, name)._replace(linger=linger))
