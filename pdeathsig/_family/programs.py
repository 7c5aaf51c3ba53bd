"""What a member of the family starts, and how that is bound.

Another run of this Python arms itself when it starts, and binds in turn what it starts. So it is
bound alone. Any other program gets a guard, for what it starts. Background jobs that a program
leaves behind, as ``sh -c "server &"`` does, end when the member that started the program ends.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .._base.checks import SIGKILL
from .._base.environ import is_off, is_resource_tracker
from .._child.fork import parent_pid
from .._spawn import fork_exec as bound_fork_exec
from .._spawn import guard_command, os_functions
from .._spawn.binding import DEFAULT_GRACE, Binding, choose_binding

if TYPE_CHECKING:
    from .hooks import Terms

# Other values than this process's may make Python look for its packages elsewhere.
_SITE_VARIABLES = (b"PYTHONHOME", b"PYTHONNOUSERSITE")
# Options of Python: without site, or perhaps without the site-packages that pdeathsig is in.
_OPTIONS_WITHOUT_SITE = "EIsS"


def fork_exec(terms: "Terms", original: "Callable[..., int]", arguments: "tuple[Any, ...]") -> int:
    """Start what CPython's ``fork_exec`` would start, bound by these terms."""
    if bound_fork_exec.is_bound(arguments):
        return original(*arguments)
    args, executables, *_, env = arguments[:6]
    binding = program_binding(terms, args, executables, env)
    if binding is None:
        return original(*arguments)
    return bound_fork_exec.start_bound(binding, original, arguments)


def call_os_function(
    terms: "Terms", name: str, original: "Callable[..., Any]", arguments: "tuple[Any, ...]", options: "dict[str, Any]"
) -> Any:
    """Do what the function of ``os`` with that name does, with the child bound by these terms."""

    def bind(args: Any, executables: "list[bytes]", env: Any) -> "Binding | None":
        return program_binding(terms, args, executables, env)

    return os_functions.call(name, bind, original, arguments, options)


def wrap_exec(terms: "Terms", path: bytes, argv: Any, env: Any) -> "tuple[bytes, list[bytes]] | None":
    """Return what a forked child of a member is to execute instead; None: the program itself.

    The guard follows the process that the child itself follows.
    """
    binding = program_binding(terms, argv, [path], env)
    if binding is None or binding.guard is None:
        return None
    (program,), words = guard_command.put_guard_before(binding.guard, parent_pid(), [path], argv)
    return program, words


def program_binding(
    terms: "Terms",
    args: "Sequence[Any]",
    executables: "Sequence[bytes]",
    env: "Sequence[bytes] | Mapping[Any, Any] | None",
) -> "Binding | None":
    """Return how a program is bound. None: not at all.

    :param executables: the paths that are tried in turn.
    :param env: None: this process's.
    """
    argv = [os.fsdecode(argument) for argument in args]
    variables = _variables(env)
    leaves = b"PDEATHSIG" in variables and is_off(os.fsdecode(variables[b"PDEATHSIG"]))
    if leaves or is_resource_tracker(argv):
        return None
    arms_itself = terms.arms_at_start and _is_this_python(argv, executables, variables)
    if arms_itself or not _guard_is_built():
        return Binding(terms.sig)
    grace = terms.grace
    if terms.scope == "group" and terms.sig != SIGKILL:
        grace = grace or DEFAULT_GRACE  # so a guard ends it: the kernel sends a group SIGKILL only
    return choose_binding(terms.sig, terms.scope, grace, linger=True)


def _variables(env: "Sequence[bytes] | Mapping[Any, Any] | None") -> "dict[bytes, bytes]":
    """The child's variables that matter here."""
    names = (b"PDEATHSIG", *_SITE_VARIABLES)
    if env is None:
        return {name: os.environb[name] for name in names if name in os.environb}
    if not isinstance(env, Sequence):
        encoded = ((os.fsencode(name), os.fsencode(env[name])) for name in env.keys())  # noqa: SIM118
        return {name: value for name, value in encoded if name in names}
    pairs = (variable.partition(b"=") for variable in env)
    return {name: value for name, _, value in pairs if name in names}


def _is_this_python(argv: "list[str]", executables: "Sequence[bytes]", variables: "dict[bytes, bytes]") -> bool:
    """Whether that is another run of this Python, which arms itself.

    False if in doubt: a program that arms itself may have a guard as well.
    """
    if b"PDEATHSIG" not in variables or not argv:
        return False
    if any(variables.get(name) != os.environb.get(name) for name in _SITE_VARIABLES):
        return False
    directory = os.path.dirname(sys.executable)
    program = next((path for path in map(os.fsdecode, executables) if os.access(path, os.X_OK)), "")
    # Python looks for its site-packages from where argv[0] is.
    if not directory or os.path.dirname(program) != directory or argv[0] not in (program, os.path.basename(program)):
        return False
    return (
        os.path.basename(program).startswith(("python", "pypy"))
        and os.path.samefile(program, sys.executable)
        and not _runs_without_site(argv)
    )


def _runs_without_site(argv: "list[str]") -> bool:
    """Whether Python may start without importing pdeathsig: by -S, -I, -E, -s or a long option."""
    options = iter(argv[1:])
    for option in options:
        if option[:1] != "-" or option == "-":
            break
        for letter in option[1:]:
            if letter in _OPTIONS_WITHOUT_SITE or letter == "-":
                return True
            if letter in "cm":
                return False
            if letter in "WX":
                if option.endswith(letter):
                    next(options, None)
                break
    return False


def _guard_is_built() -> bool:
    try:
        return bool(guard_command.executable())
    except FileNotFoundError:
        return False
