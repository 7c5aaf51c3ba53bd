"""What a member of the family starts, and how that is bound.

This very Python will arm itself when it starts, and bind all it starts in turn: so it is bound alone. Any other program
gets a guard, for what it starts. What such a program leaves behind when it ends, a server that it started in the
background, lives as long as we do.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from . import _environ, _family, _fork_exec, _os_spawn, _seam
from ._arm import SIGKILL

_OFF = (b"", b"0")
_SITE = (b"PYTHONHOME", b"PYTHONNOUSERSITE")  # with others than ours, it may find other site-packages
_WITHOUT_SITE = "EIsS"


def fork_exec(arguments: "tuple[Any, ...]") -> int:
    """As CPython's."""
    bound = None if _fork_exec.is_bound(arguments) else binding(arguments[0], arguments[1], arguments[5])
    if bound is None:
        return _seam.cpython(*arguments)
    return _fork_exec.start(bound, _seam.cpython, arguments)


def binding(
    args: "Sequence[Any]", executables: "Sequence[bytes]", env: "Sequence[bytes] | Mapping[Any, Any] | None"
) -> "_fork_exec.Binding | None":
    """Of a program: its arguments, where it is looked for, its environment (None: ours). None: it is not bound."""
    argv = [os.fsdecode(argument) for argument in args]
    variables = _variables(env)
    if _family.terms is None or _environ.must_outlive_its_parent(argv) or variables.get(b"PDEATHSIG") in _OFF:
        return None
    sig, grace, scope = _family.terms
    if _arms_itself(argv, executables, variables) or not _has_guard():
        return _fork_exec.Binding(sig)
    if scope == "group" and sig != SIGKILL:
        grace = grace or _fork_exec.USUAL_GRACE  # a guard's; the kernel sends only SIGKILL to a group
    return _fork_exec.binding(sig, scope, grace, linger=True)


def _variables(env: "Sequence[bytes] | Mapping[Any, Any] | None") -> "dict[bytes, bytes]":
    """Those of the child that matter here."""
    names = (b"PDEATHSIG", *_SITE)
    if env is None:
        return {name: os.environb[name] for name in names if name in os.environb}
    if not isinstance(env, Sequence):
        encoded = ((os.fsencode(name), os.fsencode(env[name])) for name in env.keys())  # noqa: SIM118
        return {name: value for name, value in encoded if name in names}
    pairs = (variable.partition(b"=") for variable in env)
    return {name: value for name, _, value in pairs if name in names}


def _arms_itself(argv: "list[str]", executables: "Sequence[bytes]", variables: "dict[bytes, bytes]") -> bool:
    """Whether it is this Python. If in doubt it is not: a guard is never wrong."""
    if not (_environ.by_site and b"PDEATHSIG" in variables and argv):
        return False
    if any(variables.get(name) != os.environb.get(name) for name in _SITE):
        return False
    directory = os.path.dirname(sys.executable)
    program = next((path for path in map(os.fsdecode, executables) if os.access(path, os.X_OK)), "")
    # Python looks for its site-packages from where argv[0] is.
    if not directory or os.path.dirname(program) != directory or argv[0] not in (program, os.path.basename(program)):
        return False
    return (
        os.path.basename(program).startswith(("python", "pypy"))
        and os.path.samefile(program, sys.executable)
        and not _leaves_out_site(argv)
    )


def _leaves_out_site(argv: "list[str]") -> bool:
    """By -S; or by -I, -E, -s, if pdeathsig is installed for a user. A long option: perhaps."""
    options = iter(argv[1:])
    for option in options:
        if option[:1] != "-" or option == "-":
            break
        for letter in option[1:]:
            if letter in _WITHOUT_SITE or letter == "-":
                return True
            if letter in "cm":
                return False
            if letter in "WX":
                if option.endswith(letter):
                    next(options, None)
                break
    return False


def _has_guard() -> bool:
    from . import _guard

    try:
        return bool(_guard.executable())
    except FileNotFoundError:
        return False


OS = {name: _os_spawn.in_place_of(name, binding, lambda name=name: _seam.beneath[name]) for name in _seam.OS}  # type: ignore[misc]
