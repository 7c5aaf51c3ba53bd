"""What a member of the family starts, and how that is bound.

This very Python will arm itself when it starts, and bind all it starts in turn: so it is bound
alone. Any other program gets a guard, for what it starts. What such a program leaves behind when it
ends, as ``sh -c "server &"`` does, lives as long as the member that started it.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .._base.checks import SIGKILL
from .._base.environ import is_resource_tracker
from .._child.fork import parent_pid
from .._spawn import fork_exec as spawn
from .._spawn import guard_command, os_functions
from .._spawn.binding import DEFAULT_GRACE, Binding, choose_binding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .hooks import Terms

_OFF = (b"", b"0")
_SITE = (b"PYTHONHOME", b"PYTHONNOUSERSITE")  # with others than ours, it may find other site-packages
_WITHOUT_SITE = "EIsS"


def fork_exec(terms: "Terms", original: "Callable[..., int]", arguments: "tuple[Any, ...]") -> int:
    """As CPython's."""
    bound = None if spawn.is_bound(arguments) else how_bound(terms, arguments[0], arguments[1], arguments[5])
    if bound is None:
        return original(*arguments)
    return spawn.start_bound(bound, original, arguments)


def call_os_function(
    terms: "Terms", name: str, original: "Callable[..., Any]", arguments: "tuple[Any, ...]", options: "dict[str, Any]"
) -> Any:
    """As the function of os that has this name."""

    def bind(args: Any, executables: "list[bytes]", env: Any) -> "Binding | None":
        return how_bound(terms, args, executables, env)

    return os_functions.call(name, bind, original, arguments, options)


def with_guard(terms: "Terms", path: bytes, argv: Any, env: Any) -> "tuple[bytes, list[bytes]] | None":
    """What a forked child of a member executes instead; None: the program itself. The guard follows its parent."""
    bound = how_bound(terms, argv, [path], env)
    if bound is None or bound.guard is None:
        return None
    (program,), words = guard_command.in_front(bound.guard, parent_pid(), [path], argv)
    return program, words


def how_bound(
    terms: "Terms",
    args: "Sequence[Any]",
    executables: "Sequence[bytes]",
    env: "Sequence[bytes] | Mapping[Any, Any] | None",
) -> "Binding | None":
    """How a program is bound: its arguments, where it is looked for, its environment (None: ours). None: not at all."""
    argv = [os.fsdecode(argument) for argument in args]
    variables = _variables(env)
    if is_resource_tracker(argv) or variables.get(b"PDEATHSIG") in _OFF:
        return None
    itself = terms.arms_at_start and _arms_itself(argv, executables, variables)
    if itself or not _has_guard():
        return Binding(terms.sig)
    grace = terms.grace
    if terms.scope == "group" and terms.sig != SIGKILL:
        grace = grace or DEFAULT_GRACE  # a guard's; the kernel sends only SIGKILL to a group
    return choose_binding(terms.sig, terms.scope, grace, linger=True)


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
    if b"PDEATHSIG" not in variables or not argv:
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
    try:
        return bool(guard_command.executable())
    except FileNotFoundError:
        return False
