"""CPython's own code of subprocess, run with another function beneath it.

Our Popen does all that subprocess's does, in each version of Python: pipes, threads, errors, audit
events. So it runs CPython's code, and replaces the one function that starts the program. That is
``fork_exec``, which the code looks up among the globals of its module. To put another one into the
module would change every start in this process.

Instead a copy of the code runs with globals of its own: those of subprocess as they are at the
moment, so that what a test or another package has put there counts, and the changed names over
them. A function of Python is a code object and a dictionary of globals; ``FunctionType`` puts the
two together. The code objects are copied as well, since the interpreter's inline caches in them
are for one dictionary: so subprocess's own functions keep their speed.
"""

import functools
import operator
import subprocess
from collections.abc import Callable, Iterator
from threading import local
from types import CodeType, FunctionType, SimpleNamespace
from typing import Any

ForkExec = Callable[..., int]

_HAS_NAME = hasattr(subprocess, "_fork_exec")
# As they are now: a test may put a mock in their place.
_EXECUTE_CHILD = subprocess.Popen._execute_child  # type: ignore[attr-defined]
_FUNCTIONS = {name: getattr(subprocess, name) for name in ("run", "call", "check_call", "check_output")}


def call(name: str, args: "tuple[Any, ...]", kwargs: "dict[str, Any]", **changes: Any) -> Any:
    """Call run, call, check_call or check_output of subprocess with these globals changed."""
    return _call_with(_FUNCTIONS[name], changes, *args, **kwargs)


def execute_child_unbound(fork_exec: ForkExec, popen: "subprocess.Popen[Any]", *args: Any) -> None:
    """Run CPython's ``Popen._execute_child`` with ``fork_exec`` or os.posix_spawn beneath."""
    _call_with(_EXECUTE_CHILD, _beneath(fork_exec), popen, *args)


def execute_child(fork_exec: ForkExec, popen: "subprocess.Popen[Any]", *args: Any) -> None:
    """Run CPython's ``Popen._execute_child`` with ``fork_exec`` beneath."""
    _globals.update(zip(_NAMES_READ, _values_read(vars(subprocess)), strict=True))
    before, _this_thread.fork_exec = getattr(_this_thread, "fork_exec", None), fork_exec
    try:
        _execute_child(popen, *args)
    finally:
        _this_thread.fork_exec = before


def _call_with(function: Any, changes: "dict[str, Any]", *args: Any, **kwargs: Any) -> Any:
    # Held in a variable while it runs: the garbage collector of a free-threaded CPython (3.14.4)
    # does not see that a frame needs its function.
    copy = _copy(function, {**vars(subprocess), **changes})
    return copy(*args, **kwargs)


def _copy(function: Any, its_globals: "dict[str, Any]") -> Any:
    code = _copy_code(function.__code__)
    copy = FunctionType(code, its_globals, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


@functools.lru_cache(maxsize=16)
def _copy_code(code: CodeType) -> CodeType:
    return code.replace()


def _beneath(fork_exec: ForkExec) -> "dict[str, Any]":
    # Before 3.11 it is an attribute of that module.
    return {"_fork_exec": fork_exec} if _HAS_NAME else {"_posixsubprocess": SimpleNamespace(fork_exec=fork_exec)}


def _names_in(code: CodeType) -> "Iterator[str]":
    """The names that this code, and the functions in it, may look up among its globals."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)


def _fork_exec_of_this_thread(*arguments: Any) -> int:
    pid: int = _this_thread.fork_exec(*arguments)
    return pid


# _execute_child runs so often that its copy is made once, and keeps its inline caches. Before each
# run the globals that it reads are set to those of subprocess. The fork_exec beneath is found by
# thread, since threads share these globals.
_this_thread = local()
_changes = {"_USE_POSIX_SPAWN": False, **_beneath(_fork_exec_of_this_thread)}
_NAMES_READ = list({*_names_in(_EXECUTE_CHILD.__code__)} & {*vars(subprocess)} - {*_changes})
_values_read = operator.itemgetter(*_NAMES_READ)
_globals = {**vars(subprocess), **_changes}
_execute_child = _copy(_EXECUTE_CHILD, _globals)
