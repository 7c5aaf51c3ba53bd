"""os.posix_spawn, os.posix_spawnp, os.system, os.spawnv and its family, with the child bound.

Results, errors and audit events are those of ``os``. The child's path is
c_src/spawn/posix_spawn.c. Where an argument is not right, CPython's own function is called to
raise the error, in a way in which it cannot start a program.
"""

import _signal
import operator
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from .._base import native
from .._base.checks import SIGKILL
from . import fork_exec, guard_command
from .binding import Binding

_ABSENT = object()
_ABSENT_OR_NONE = None if sys.version_info >= (3, 14) else _ABSENT
_CLOSE_FROM = getattr(os, "POSIX_SPAWN_CLOSEFROM", None)  # new in 3.14
_LAST_SIGNAL = 64
_SHELL = b"/bin/sh"

# Says how a program is bound, by its arguments, the paths that are tried in turn, and its
# environment. None: not bound.
Bind = Callable[[Any, "list[bytes]", Any], "Binding | None"]


def call(
    name: str, bind: Bind, original: "Callable[..., Any]", arguments: "tuple[Any, ...]", options: "dict[str, Any]"
) -> Any:
    """Do what ``os``'s function of that name does, with the child bound.

    :param original: that function, called if the child is not to be bound.

    Raises what it raises, and OSError with the name of the system call.
    """
    if name == "system":
        return _system(bind, original, *arguments, **options)
    if name == "_spawnvef":
        return _spawnvef(bind, original, *arguments, **options)
    return _posix_spawn(name, bind, original, arguments, options)


class Program(NamedTuple):
    """What the child is to execute."""

    executables: "list[bytes]"  # tried in turn
    argv: "list[bytes]"
    env: "list[bytes] | None"  # None: this process's


class Options(NamedTuple):
    """How posix_spawn(3) is to start it, in the extension's structs."""

    spawn: Any  # struct pds_spawn: new_session and process_group
    posix: Any  # struct pds_posix
    actions: Any = ()  # struct pds_action[]
    fields: "Sequence[dict[str, Any]]" = ()  # of the actions; they keep the paths alive


def _posix_spawn(
    name: str, bind: Bind, original: "Callable[..., int]", arguments: "tuple[Any, ...]", options: "dict[str, Any]"
) -> int:
    try:
        path, argv, env = arguments
        encoded = _encoded(path)
        executables = _in_path(encoded) if name == "posix_spawnp" else [encoded]
        bound = bind(argv, executables, env)
        if bound is not None:
            program = Program(executables, _argv(argv), _environment(env))
            converted = _convert_options(**options)
    except Exception as error:
        _refuse(original, arguments, options, error)
    if bound is None:
        return original(*arguments, **options)
    path = os.fspath(path)
    sys.audit("os.posix_spawn", path, argv, env)
    return start(bound, path, program, converted)


def _refuse(
    original: "Callable[..., Any]", arguments: "tuple[Any, ...]", options: "dict[str, Any]", error: Exception
) -> NoReturn:
    """Raise what CPython's posix_spawn says of these arguments; if it would take them, ``error``.

    By now an iterator among them may be used up, and the program would start, unbound. So the path
    is replaced by an empty one, which no program has.
    """
    try:
        original("", *arguments[1:], **options)
    except OSError as refused:
        if refused.filename != "":
            raise
    raise error


def _convert_options(
    *,
    file_actions: Any = (),
    setpgroup: Any = _ABSENT_OR_NONE,
    resetids: Any = False,
    setsid: Any = False,
    setsigmask: Any = _ABSENT,
    setsigdef: Any = _ABSENT,
    scheduler: Any = _ABSENT_OR_NONE,
) -> Options:
    """Raises some error if an option is not right. cffi refuses numbers that are too large."""
    fields = [] if file_actions is None else [_action(action) for action in file_actions]
    new = native.ffi.new
    actions = new("struct pds_action[]", fields)
    change, policy, priority = _scheduler(scheduler)
    posix = {
        "actions": actions,
        "actions_count": len(fields),
        "reset_ids": _flag(resetids),
        "scheduling": change,
        "policy": policy,
        "priority": priority,
        "set_mask": setsigmask is not _ABSENT,
        "mask": _signals(setsigmask),
        "defaults": _signals(setsigdef),
        "as_execvp": True,
    }
    spawn = {
        "new_session": _flag(setsid),
        "process_group": -1 if setpgroup is _ABSENT_OR_NONE else operator.index(setpgroup),
    }
    return Options(new("struct pds_spawn *", spawn), new("struct pds_posix *", posix), actions, fields)


def _spawnvef(bind: Bind, original: "Callable[..., int]", mode: int, file: Any, args: Any, env: Any, func: Any) -> int:
    """What os.spawnv and its family call. If the exec fails, the child's exit status is 127."""
    if func.__name__ not in ("execv", "execve", "execvp", "execvpe"):
        return original(mode, file, args, env, func)
    try:
        executables = _as_execvp(_encoded(file), env, in_path=func.__name__.startswith("execvp"))
        program = Program(executables, _argv(args), None if env is None else _environment(env))
        bound = bind(args, executables, env)
    except Exception:
        return original(mode, "", args, env, func)  # raises, or starts a child that ends with 127
    if bound is None:
        return original(mode, file, args, env, func)
    sys.audit("os.posix_spawn", file, args, env)
    new = native.ffi.new
    options = Options(new("struct pds_spawn *", {"process_group": -1}), new("struct pds_posix *", {"exits": True}))
    pid = start(bound, file, program, options)
    if mode == os.P_NOWAIT:
        return pid
    while True:
        status = os.waitpid(pid, 0)[1]
        if not os.WIFSTOPPED(status):
            return os.waitstatus_to_exitcode(status)


def _system(bind: Bind, original: "Callable[..., int]", command: Any) -> int:
    line = _encoded(command)  # CPython's errors too
    bound = bind([_SHELL, "-c", command], [_SHELL], None)
    if bound is None:
        return original(command)
    sys.audit("os.system", line)
    bound, program = _behind_guard(bound, Program([_SHELL], [b"sh", b"-c", b"--", line], None))
    spawn = native.ffi.new("struct pds_spawn *", {"process_group": 0 if bound.group else -1})
    held = _fill(spawn, bound, program)
    with fork_exec.lifeline_if(_needs_lifeline(bound), above=0) as spawn.lifeline:
        status: int = native.lib.pds_system(spawn)
    del held
    if status >= 0:
        return status
    failed = native.failed_call()
    if failed in ("posix_spawn", "clone"):
        return 127 << 8  # as if the shell had ended so: system(3)
    return -1 if failed == "waitpid" else native.check(status)


def start(bound: Binding, path: Any, program: Program, options: Options) -> int:
    """Start a program by posix_spawn(3). Returns the child's PID.

    :param path: what an OSError of posix_spawn names.
    """
    bound, program = _behind_guard(bound, program)
    spawn = options.spawn
    if bound.group and not spawn.new_session:
        if spawn.process_group not in (-1, 0):
            raise ValueError("setpgroup: with scope='group' the child leads its own process group")
        spawn.process_group = 0
    held = _fill(spawn, bound, program)
    highest = max((max(action["fd"], action.get("to", 0)) for action in options.fields), default=0)
    try:
        with fork_exec.lifeline_if(_needs_lifeline(bound), above=highest) as spawn.lifeline:
            result: int = native.lib.pds_posix_spawn(spawn, options.posix)
    except BaseException:  # KeyboardInterrupt
        fork_exec.end_child(spawn.pid)
        raise
    del held
    if result >= 0:
        return result
    if native.failed_call() in ("posix_spawn", "clone"):
        raise OSError(-result, os.strerror(-result), path)
    return native.check(result)


def _behind_guard(bound: Binding, program: Program) -> "tuple[Binding, Program]":
    """The program behind its guard, if any. The guard is bound until it follows by itself."""
    if bound.guard is None:
        return bound, program
    executables, argv = guard_command.put_guard_before(bound.guard, os.getpid(), program.executables, program.argv)
    return Binding(SIGKILL), Program(executables, argv, program.env)


def _fill(spawn: Any, bound: Binding, program: Program) -> "list[Any]":
    """Fill in the binding and the program.

    Returns what ``spawn`` points to: it must be held as long.
    """
    executables, argv, env = program
    spawn.sig, spawn.group = bound.sig, bound.group
    held = [_array(executables), _array(argv), [native.ffi.NULL] if env is None else _array(env)]
    spawn.executables, spawn.argv, spawn.envp = (array for array, *_ in held)
    return held


def _needs_lifeline(bound: Binding) -> bool:
    return bound.group or fork_exec.exec_clears_pdeathsig()


def _array(strings: "Sequence[bytes]") -> "list[Any]":
    """A C array of pointers that ends in NULL, and the strings that it points to."""
    copies = [native.ffi.new("char[]", string) for string in strings]
    return [native.ffi.new("char *[]", [*copies, native.ffi.NULL]), *copies]


def _encoded(value: Any) -> bytes:
    encoded = os.fsencode(value)
    if b"\0" in encoded:
        raise ValueError("embedded null byte")
    return encoded


def _argv(argv: Any) -> "list[bytes]":
    if not isinstance(argv, (list, tuple)):
        raise TypeError("argv: neither a tuple nor a list")
    arguments = [_encoded(argument) for argument in argv]
    if not arguments or not arguments[0]:
        raise ValueError("argv: no first element, or an empty one")
    return arguments


def _environment(env: Any) -> "list[bytes] | None":
    if env is None and sys.version_info >= (3, 13):
        return None
    if not hasattr(type(env), "__getitem__"):
        raise TypeError("env: no mapping")
    items = [(_encoded(key), _encoded(value)) for key, value in zip(env.keys(), env.values(), strict=True)]
    if any(not key or b"=" in key[1:] for key, _ in items):
        raise ValueError("env: illegal name of a variable")
    return [key + b"=" + value for key, value in items]


def _as_execvp(file: bytes, env: Any, in_path: bool) -> "list[bytes]":
    if not in_path or os.path.dirname(file):
        return [file]
    return [os.path.join(os.fsencode(directory), file) for directory in os.get_exec_path(env)]


def _in_path(file: bytes) -> "list[bytes]":
    """As posix_spawnp(3) looks for it: by this process's PATH."""
    if b"/" in file or not file:
        return [file]
    directories = os.environb.get(b"PATH", (os.confstr("CS_PATH") or "").encode()).split(b":")
    return [directory + b"/" + file if directory else file for directory in directories]


def _action(action: Any) -> "dict[str, Any]":
    """The fields of a struct pds_action."""
    if not isinstance(action, tuple):
        raise TypeError("file_actions: an element is no tuple")
    index, lib = operator.index, native.lib
    match (index(action[0]), *action[1:]):
        case os.POSIX_SPAWN_OPEN, fd, path, flags, mode:
            text = native.ffi.new("char[]", _encoded(path))
            how = {"flags": index(flags), "mode": index(mode) & 0o7777, "path": text}
            return {"what": lib.PDS_OPEN, "fd": _descriptor(fd), **how}
        case os.POSIX_SPAWN_CLOSE, fd:
            return {"what": lib.PDS_CLOSE, "fd": _descriptor(fd)}
        case os.POSIX_SPAWN_DUP2, fd, to:
            return {"what": lib.PDS_DUP2, "fd": _descriptor(fd), "to": _descriptor(to)}
        case what, fd if what == _CLOSE_FROM:
            return {"what": lib.PDS_CLOSE_FROM, "fd": _descriptor(fd)}
    raise TypeError("file_actions: no such action")


def _descriptor(fd: Any) -> int:
    number = operator.index(fd)
    # As posix_spawn_file_actions_addclose(3) checks it. No limit is -1.
    if not 0 <= number < (os.sysconf("SC_OPEN_MAX") % 2**64):
        raise ValueError("file_actions: a descriptor out of range")
    return number


def _flag(value: Any) -> bool:
    return bool(value if sys.version_info >= (3, 12) else operator.index(value))


def _scheduler(scheduler: Any) -> "tuple[bool, int, int]":
    """Whether it is to change; policy, or -1 for our own; priority."""
    if scheduler is _ABSENT_OR_NONE:
        return False, -1, 0
    if not isinstance(scheduler, tuple):
        raise TypeError("scheduler: no tuple")
    policy, parameters = scheduler
    if not isinstance(parameters, os.sched_param):
        raise TypeError("scheduler: no sched_param")
    priority = operator.index(parameters.sched_priority)
    if policy is None:
        return True, -1, priority
    if policy not in (os.SCHED_OTHER, os.SCHED_FIFO, os.SCHED_RR):  # as posix_spawnattr_setschedpolicy(3)
        raise ValueError("scheduler: no such policy")
    return True, operator.index(policy), priority


def _signals(signals: Any) -> int:
    """As a set of bits; bit 0 is signal 1."""
    if signals is _ABSENT:
        return 0
    bits = 0
    for signal in signals:
        number = operator.index(signal)
        if not 1 <= number <= _LAST_SIGNAL:
            raise ValueError("not the number of a signal")
        if number in _signal.valid_signals():
            bits |= 1 << (number - 1)
        else:
            warnings.warn(f"invalid signal number {number}, please use valid_signals()", RuntimeWarning, stacklevel=6)
    return bits
