"""exec in a forked child that arms itself: the program that it becomes is bound too.

The handler that tells the parent's death from a thread's ends with the exec. So right before it the
signal itself takes over, from whatever follows the process that forked this one: the kernel's
setting, if that process's main thread forked; else a lifeline, which every child that another
thread forks has from the fork. If the exec fails, all is as before.

os.execv and os.execve are replaced: all others of that family call them. A module that imported
them by name earlier is not reached.
"""

import os

from .._base import environ, native
from .._base.patching import Patch, look_like
from . import fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def hold_across_exec(wanted: bool) -> None:
    """Whether children forked from now on are held across exec."""
    if native.backend != "compiled":
        return
    native.lib.pds_lifeline_for_forked(wanted)
    for patch in _PATCHES:
        if wanted:
            patch.apply()
        else:
            patch.undo()


def _held_exec(name: str) -> Patch:
    def held_exec(*arguments: "Any", **keywords: "Any") -> "Any":
        inherited = fork.inherited
        if inherited is None or inherited.semantics == "thread" or not native.lib.pds_parent_source():
            return patch.original(*arguments, **keywords)
        try:
            _hand_over(inherited.sig, keywords.get("argv", arguments[1] if len(arguments) > 1 else ()))
            patch.original(*_wrapped(*arguments, **keywords))
        finally:  # not reached by an exec that succeeds
            native.lib.pds_exec_failed()
            inherited.rearm(inherited.ancestors)

    patch = Patch(os, name, held_exec)
    look_like(held_exec, patch.original)
    if patch.original in os.supports_fd:
        os.supports_fd.add(held_exec)
    return patch


def _hand_over(sig: int, argv: "Any") -> None:
    """From the handler to the signal itself."""
    if environ.is_resource_tracker(argv):
        native.check(native.lib.pds_disarm())
    elif native.check(native.lib.pds_exec_begins(sig)):
        native.lib.pds_deliver_now(environ.death_notice(native.lib.pds_parent(), sig, None))


def _wrapped(path: "Any", argv: "Any", *env: "Any", **named: "Any") -> "tuple[Any, ...]":
    env = env or tuple(named.values())
    if fork.wrap_program is None or isinstance(path, int):
        return path, argv, *env
    program = fork.wrap_program(os.fsencode(path), argv, *(env or (None,)))
    return (path, argv, *env) if program is None else (*program, *env)


_PATCHES = [_held_exec(name) for name in ("execv", "execve")]
