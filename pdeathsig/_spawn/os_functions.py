"""os.posix_spawn, os.posix_spawnp, os.system, os.spawnv and its family, with the child bound to this process.

Whichever thread calls. Arguments, errors and audit events are those of ``os``. The child's path is
c_src/spawn/posix_spawn.c.
"""

import _signal
import fcntl
import functools
import operator
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .._base import native
from .._base.checks import SIGKILL
from . import fork_exec, guard_command
from .binding import Binding

_C_INT = range(-(2**31), 2**31)
_NOT_GIVEN = object()
_ENV_MAY_BE_NONE = sys.version_info >= (3, 13)
_FLAGS_ARE_BOOL = sys.version_info >= (3, 12)
# The last is new in 3.14; PyPy has none of them, nor any function that takes them.
_OPEN, _CLOSE, _DUP2, _CLOSE_FROM = (
    getattr(os, f"POSIX_SPAWN_{name}", None) for name in ("OPEN", "CLOSE", "DUP2", "CLOSEFROM")
)
_SIGNALS = 64
_SHELL = b"/bin/sh"


class _Action(NamedTuple):
    """struct pds_action."""

    what: int
    fd: int
    to: int = 0
    flags: int = 0
    mode: int = 0
    path: "bytes | None" = None


Bind = Callable[[Any, "list[bytes]", Any], "Binding | None"]


def call(
    name: str, bind: Bind, original: "Callable[..., Any]", arguments: "tuple[Any, ...]", options: "dict[str, Any]"
) -> Any:
    """In the place of ``os``'s function of that name.

    :param bind: says of a program (its arguments, where it is looked for, its environment) how it is
        bound. None, or no program at all: then the original is called.
    """
    function = _system if name == "system" else _spawnvef if name == "_spawnvef" else _posix_spawn
    try:
        spawn = function(name, bind, *arguments, **options)
    except (TypeError, ValueError):
        spawn = None  # the real one says what is wrong
    return spawn(*arguments, **options) if spawn is not None else original(*arguments, **options)


def _posix_spawn(name: str, bind: Bind, path: Any, argv: Any, env: Any, /, **_: Any) -> "Callable[..., int] | None":
    bound = bind(argv, _executables(name, _encoded(path)), env)
    return bound and functools.partial(posix_spawn, bound, name)


def _spawnvef(
    _: str, bind: Bind, mode: int, file: Any, args: Any, env: Any, func: "Callable[..., Any]"
) -> "Callable[..., int] | None":
    if func.__name__ not in ("execv", "execve", "execvp", "execvpe"):
        return None
    in_path = func.__name__.startswith("execvp")
    _argv("spawnv", args)
    bound = bind(args, _as_execvp(_encoded(file), env, in_path), env)
    return bound and (lambda mode, file, args, env, _: spawnvef(bound, mode, file, args, env, in_path))


def _system(_: str, bind: Bind, command: Any) -> "Callable[..., int] | None":
    bound = bind(["sh", "-c", command], [_SHELL], None)
    return bound and functools.partial(system, bound)


def posix_spawn(
    bound: Binding,
    name: str,
    path: Any,
    argv: Any,
    env: Any,
    /,
    *,
    file_actions: Any = (),
    setpgroup: Any = _NOT_GIVEN,
    resetids: Any = False,
    setsid: Any = False,
    setsigmask: Any = _NOT_GIVEN,
    setsigdef: Any = _NOT_GIVEN,
    scheduler: Any = _NOT_GIVEN,
) -> int:
    """os.posix_spawn or, by ``name``, os.posix_spawnp."""
    program, arguments, environment = _path(name, path), _argv(name, argv), _environment(name, env)
    path = os.fspath(path)
    if sys.version_info >= (3, 14):
        setpgroup = _NOT_GIVEN if setpgroup is None else setpgroup
        scheduler = _NOT_GIVEN if scheduler is None else scheduler
    actions = [_action(action) for action in _sequence(file_actions)]
    scheduling, policy, priority = _scheduler(scheduler)
    posix = {
        "reset_ids": _flag(resetids),
        "scheduling": scheduling,
        "policy": policy,
        "priority": priority,
        "set_mask": setsigmask is not _NOT_GIVEN,
        "mask": _signals(setsigmask),
        "defaults": _signals(setsigdef),
        "as_execvp": True,
    }
    spawn = {
        "new_session": _flag(setsid),
        "process_group": -1 if setpgroup is _NOT_GIVEN else _int(setpgroup),
    }
    sys.audit("os.posix_spawn", path, argv, env)
    return _start(bound, path, _executables(name, program), arguments, environment, spawn, posix, actions)


def spawnvef(bound: Binding, mode: int, file: Any, args: Any, env: Any, in_path: bool) -> int:
    """What os.spawnv and its family come to. An exec that fails is the child's exit status 127, there as here."""
    program, arguments = _encoded(file), _argv("spawnv", args)
    environment = None if env is None else _environment("spawnv", env)
    executables = _as_execvp(program, env, in_path)
    sys.audit("os.posix_spawn", file, args, env)
    pid = _start(bound, file, executables, arguments, environment, {}, {"exits": True}, [])
    if mode == os.P_NOWAIT:
        return pid
    while True:
        status = os.waitpid(pid, 0)[1]
        if not os.WIFSTOPPED(status):
            return os.waitstatus_to_exitcode(status)


def system(bound: Binding, command: Any) -> int:
    """os.system. Raises besides OSError with the name of the system call, where the shell could not be bound."""
    line = _encoded(command)
    sys.audit("os.system", line)
    bound, executables, argv = _with_guard(bound, [_SHELL], [b"sh", b"-c", b"--", line])
    group = 0 if bound.group else -1

    def start(lifeline: int) -> int:
        spawn = _spawn(bound, lifeline, executables_count=1, argc=len(argv), envc=-1, process_group=group)
        status: int = native.lib.pds_system(spawn, _joined(executables), _joined(argv))
        return status

    status = _held(bound, start)
    if status >= 0:
        return status
    failed = native.failed_call()
    if failed in ("posix_spawn", "clone"):  # as if the shell had ended so: system(3)
        return 127 << 8
    return -1 if failed == "waitpid" else native.check(status)


def _start(
    bound: Binding,
    path: Any,
    executables: "list[bytes]",
    argv: "list[bytes]",
    env: "list[bytes] | None",
    spawn_fields: "dict[str, Any]",
    posix_fields: "dict[str, Any]",
    actions: "list[_Action]",
) -> int:
    ffi, null = native.ffi, native.ffi.NULL
    bound, executables, argv = _with_guard(bound, executables, argv)
    if bound.group and not spawn_fields.get("new_session"):
        if spawn_fields.setdefault("process_group", 0) not in (-1, 0):
            raise ValueError("setpgroup: with scope='group' the child leads its own process group")
        spawn_fields["process_group"] = 0
    counts = {"executables_count": len(executables), "argc": len(argv), "envc": -1 if env is None else len(env)}
    posix = ffi.new("struct pds_posix *", {**posix_fields, "actions_count": len(actions)})
    paths = [ffi.new("char[]", action.path) if action.path is not None else null for action in actions]
    listed = ffi.new("struct pds_action[]", [(*action[:-1], path) for action, path in zip(actions, paths, strict=True)])
    texts = _joined(executables), _joined(argv), null if env is None else _joined(env)
    spawn = None

    def start(lifeline: int) -> int:
        nonlocal spawn
        spawn = _spawn(bound, lifeline, **{"process_group": -1, **spawn_fields, **counts})
        pid: int = native.lib.pds_posix_spawn(spawn, posix, listed, *texts)
        return pid

    try:
        result = _held(bound, start, above=max((max(action.fd, action.to) for action in actions), default=0))
    except BaseException:  # KeyboardInterrupt
        if spawn is not None:
            fork_exec.end_child(spawn.pid)
        raise
    if result >= 0:
        return result
    if native.failed_call() in ("posix_spawn", "clone"):
        raise OSError(-result, os.strerror(-result), path)
    return native.check(result)


def _spawn(bound: Binding, lifeline: int, **fields: Any) -> Any:
    fields = {"sig": bound.sig, "group": bound.group, "lifeline": lifeline, **fields}
    return native.ffi.new("struct pds_spawn *", fields)


def _with_guard(
    bound: Binding, executables: "list[bytes]", argv: "list[bytes]"
) -> "tuple[Binding, list[bytes], list[bytes]]":
    """The guard follows this process by itself; until it does, it dies with it."""
    if bound.guard is None:
        return bound, executables, argv
    return Binding(SIGKILL), *guard_command.in_front(bound.guard, os.getpid(), executables, argv)


def _held(bound: Binding, start: "Callable[[int], int]", above: int = 0) -> int:
    """With a lifeline, out of the way of the file actions, for a group, and where the kernel forgets the parent-death
    signal at exec."""
    if not bound.group and not fork_exec.exec_clears_pdeathsig():
        return start(-1)
    lifeline = native.check(native.lib.pds_lifeline())
    try:
        if lifeline <= above:
            lower, lifeline = lifeline, fcntl.fcntl(lifeline, fcntl.F_DUPFD_CLOEXEC, above + 1)
            os.close(lower)
        return start(lifeline)
    finally:
        os.close(lifeline)


def _joined(strings: "Sequence[bytes]") -> bytes:
    return b"\0".join((*strings, b""))


def _path(name: str, path: Any) -> bytes:
    try:
        encoded = os.fsencode(path)
    except TypeError:
        kind = type(path).__name__
        raise TypeError(f"{name}: path should be string, bytes or os.PathLike, not {kind}") from None
    if b"\0" in encoded:
        raise ValueError(f"{name}: embedded null character in path")
    return encoded


def _argv(name: str, argv: Any) -> "list[bytes]":
    if not isinstance(argv, (list, tuple)):
        raise TypeError(f"{name}: argv must be a tuple or list")
    if not argv:
        raise ValueError(f"{name}: argv must not be empty")
    arguments = [_encoded(argument) for argument in argv]
    if not arguments[0]:
        raise ValueError(f"{name}: argv first element cannot be empty")
    return arguments


def _environment(name: str, env: Any) -> "list[bytes] | None":
    if env is None and _ENV_MAY_BE_NONE:
        return None
    if not hasattr(type(env), "__getitem__"):
        raise TypeError(f"{name}: environment must be a mapping object" + " or None" * _ENV_MAY_BE_NONE)
    items = [(_encoded(key), _encoded(value)) for key, value in zip(env.keys(), env.values(), strict=True)]
    if any(not key or b"=" in key[1:] for key, _ in items):
        raise ValueError("illegal environment variable name")
    return [key + b"=" + value for key, value in items]


def _encoded(value: Any) -> bytes:
    encoded = os.fsencode(value)
    if b"\0" in encoded:
        raise ValueError("embedded null byte")
    return encoded


def _executables(name: str, path: bytes) -> "list[bytes]":
    return _in_path(path) if name == "posix_spawnp" else [path]


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


def _sequence(file_actions: Any) -> "list[Any]":
    try:
        return [] if file_actions is None else list(file_actions)
    except TypeError:
        raise TypeError("file_actions must be a sequence or None") from None


def _action(action: Any) -> _Action:
    if not isinstance(action, tuple) or not action:
        raise TypeError("Each file_actions element must be a non-empty tuple")
    what = operator.index(action[0])
    if what == _OPEN:
        _, fd, path, flags, mode = _fields(action, 5, "open")
        return _Action(0, _descriptor(fd), 0, _int(flags), operator.index(mode) & 0o7777, _encoded(path))
    if what == _CLOSE:
        return _Action(1, _descriptor(_fields(action, 2, "close")[1]))
    if what == _DUP2:
        _, fd, to = _fields(action, 3, "dup2")
        return _Action(2, _descriptor(fd), _descriptor(to))
    if _CLOSE_FROM is not None and what == _CLOSE_FROM:
        return _Action(3, _descriptor(_fields(action, 2, "closefrom")[1]))
    raise TypeError("Unknown file_actions identifier")


def _fields(action: "tuple[Any, ...]", count: int, kind: str) -> "tuple[Any, ...]":
    if len(action) != count:
        raise TypeError(f"A {kind} file_action tuple must have {count} elements")
    return action


def _descriptor(fd: Any) -> int:
    number = _int(fd)
    if not 0 <= number < (os.sysconf("SC_OPEN_MAX") % 2**64):
        raise OSError(9, os.strerror(9))  # EBADF
    return number


def _flag(value: Any) -> bool:
    return bool(value if _FLAGS_ARE_BOOL else _int(value))


def _int(value: Any) -> int:
    number = operator.index(value)
    if number not in _C_INT:
        how = "greater than maximum" if number > 0 else "less than minimum"
        raise OverflowError(f"signed integer is {how}")
    return number


def _scheduler(scheduler: Any) -> "tuple[int, int, int]":
    """How much of it is to change, policy, priority."""
    if scheduler is _NOT_GIVEN:
        return 0, 0, 0
    if not isinstance(scheduler, tuple) and sys.version_info >= (3, 14):
        raise TypeError("scheduler must be a tuple or None")
    if not isinstance(scheduler, tuple):
        raise SystemError("new style getargs format but argument is not a tuple")  # CPython's own
    if len(scheduler) != 2:
        raise TypeError("A scheduler tuple must have two elements")
    policy, parameters = scheduler
    if not isinstance(parameters, os.sched_param):
        raise TypeError("must have a sched_param object")
    priority = _int(parameters.sched_priority)
    if policy is None:
        return 1, 0, priority
    if _int(policy) not in (os.SCHED_OTHER, os.SCHED_FIFO, os.SCHED_RR):
        raise OSError(22, os.strerror(22))  # EINVAL, posix_spawnattr_setschedpolicy(3)
    return 2, _int(policy), priority


def _signals(signals: Any) -> int:
    """As a set of bits."""
    if signals is _NOT_GIVEN:
        return 0
    bits = 0
    for signal in signals:
        number = operator.index(signal)
        if not 1 <= number <= _SIGNALS:
            raise ValueError(f"signal number {number} out of range [1; {_SIGNALS}]")
        if number in _signal.valid_signals():
            bits |= 1 << (number - 1)
        else:
            warnings.warn(f"invalid signal number {number}, please use valid_signals()", RuntimeWarning, stacklevel=5)
    return bits
