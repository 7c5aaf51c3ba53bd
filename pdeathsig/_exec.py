"""exec in a process whose forked children arm themselves: what such a child is armed with holds in the program that it
becomes.

The handler that tells the parent's death from a thread's ends with the exec. So right before it the signal itself takes
over, from whatever follows the process that forked us: the kernel's setting, if its main thread did; else a lifeline,
which every child that another thread forks has from the fork. If the exec fails, all is as before.

os.execv and os.execve are replaced: all others of that family call them. Who has imported them by name earlier is not
reached.
"""

import os
import sys

from . import _arm, _core, _daemon
from ._environ import must_outlive_its_parent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_NAMES = ("execv", "execve")
_real: "dict[str, Callable[..., Any]]" = {name: getattr(os, name) for name in _NAMES}


def follow(wanted: bool) -> None:
    """Whether children forked from now on are held across exec."""
    if _core.backend != "compiled":
        return
    _core.lib.pds_lifeline_for_forked(wanted)
    for name, ours in _OURS.items():
        before, after = (_real[name], ours) if wanted else (ours, _real[name])
        if getattr(os, name) is before:  # else somebody has put himself in its place
            setattr(os, name, after)


def _leaving(name: str) -> "Callable[..., Any]":
    real = _real[name]

    def leaving(*arguments: "Any", **keywords: "Any") -> "Any":
        held = _arm.inherited()
        if held is None or held[2] == "thread" or not _core.lib.pds_parent_source():
            return real(*arguments, **keywords)
        try:
            _begin(held[0], arguments, keywords)
            real(*_with_guard(*arguments, **keywords))
        finally:  # not reached by an exec that succeeds
            _core.lib.pds_exec_failed()
            _arm.arm(held[0], grace=held[1], inherit=True, ancestors=1 + len(_arm.ancestors_watched))

    leaving.__name__, leaving.__qualname__, leaving.__doc__ = name, name, real.__doc__
    leaving.__wrapped__ = real  # type: ignore[attr-defined]
    if real in os.supports_fd:
        os.supports_fd.add(leaving)
    return leaving


def _begin(sig: int, arguments: "tuple[Any, ...]", keywords: "dict[str, Any]") -> None:
    argv = keywords.get("argv", arguments[1] if len(arguments) > 1 else ())
    if is_tracker(argv):
        _core.check(_core.lib.pds_disarm())
    elif _core.check(_core.lib.pds_exec_begins(sig)):
        _core.lib.pds_fire(_arm.notice(_core.lib.pds_parent(), sig, None))


def _with_guard(path: "Any", argv: "Any", *env: "Any", **named: "Any") -> "tuple[Any, ...]":
    """In a family a program that does not arm itself gets a guard, however it is started. It follows our parent."""
    env = env or tuple(named.values())
    family = sys.modules.get("pdeathsig._family")
    if family is None or not family.guards() or isinstance(path, int):
        return path, argv, *env
    from . import _guard, _members  # by now they are imported: pdeathsig._before_fork

    bound = _members.binding(argv, [os.fsencode(path)], *(env or (None,)))
    if bound is None or bound.guard is None:
        return path, argv, *env
    (program,), words = _guard.in_front(bound.guard, _daemon.parent(), [os.fsencode(path)], argv)
    return program, words, *env


def is_tracker(argv: "Any") -> bool:
    """Whether that is the command line of a resource tracker; nobody's, if it is none at all."""
    try:
        return must_outlive_its_parent([os.fsdecode(argument) for argument in argv])
    except TypeError:
        return False


_OURS = {name: _leaving(name) for name in _NAMES}
