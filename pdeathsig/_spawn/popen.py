"""Popen, run, call, check_call, check_output: ``subprocess`` itself, with the binding built in.

All of CPython's own Python code is used as it is. The one seam is ``fork_exec`` beneath it, a global of its module: so
its functions are run here with globals that are those of its module, live, but for the seam.
"""

import _posixsubprocess
import functools
import operator
import subprocess
from collections.abc import Callable, Iterator
from signal import SIGCONT
from threading import local
from types import CodeType, FunctionType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from .._base.checks import SIGKILL
from .._base.patching import unpatched
from . import fork_exec
from .binding import KILL, Binding, binding

if TYPE_CHECKING:
    from .guard import Handle
    from .guard_command import Scope

_LAST_SIGNAL = 64
_HAS_NAME = hasattr(subprocess, "_fork_exec")
# As they are now: a test may put a mock in their place.
_EXECUTE_CHILD = subprocess.Popen._execute_child  # type: ignore[attr-defined]
_FUNCTIONS = {name: getattr(subprocess, name) for name in ("run", "call", "check_call", "check_output")}


def _within(function: Any, **changes: Any) -> Any:
    """That function of subprocess, with its module's globals as they are now, but for these. The caller holds it while
    it runs: the garbage collector of a free-threaded CPython (3.14.4) does not see that a frame needs its function."""
    return _copy(function, {**vars(subprocess), **changes})


def _copy(function: Any, its_globals: "dict[str, Any]") -> Any:
    code = _code(function.__code__)
    copy = FunctionType(code, its_globals, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


@functools.lru_cache(maxsize=16)
def _code(original: CodeType) -> CodeType:
    """A copy, whose inline caches are for our globals: subprocess's own keep their speed."""
    return original.replace()


def _seam_of(fork_exec: Any) -> "dict[str, Any]":
    # before 3.11 it is an attribute of that module
    return {"_fork_exec": fork_exec} if _HAS_NAME else {"_posixsubprocess": SimpleNamespace(fork_exec=fork_exec)}


def _globals_of(code: CodeType) -> "Iterator[str]":
    """The names that it, and the functions in it, may look up among them."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals_of(constant)


# _execute_child is run so often that it has globals of its own, in which CPython's code keeps its inline caches. Those
# that it reads are made its module's of now before each run. Its seam leads to that of the run on this thread.
_this_thread = local()
_OURS = {"_USE_POSIX_SPAWN": False, **_seam_of(lambda *arguments: _this_thread.seam(*arguments))}  # noqa: PLW0108
_THEIRS = list({*_globals_of(_EXECUTE_CHILD.__code__)} & {*vars(subprocess)} - {*_OURS})
_values = operator.itemgetter(*_THEIRS)
_globals = {**vars(subprocess), **_OURS}
_execute_child = _copy(_EXECUTE_CHILD, _globals)


class Popen(subprocess.Popen):  # type: ignore[type-arg]
    """``subprocess.Popen`` whose child dies with this process.

    Every argument, attribute and error is subprocess's own; these are added, by keyword only:

    :param pdeathsig: the signal number the child gets when this process dies, whichever thread called; None: none. It
        is not ignored or blocked in the child, whatever is inherited. Armed after ``user=``, ``group=`` and
        ``extra_groups=``; exec of a set-user-ID or set-group-ID program undoes it.
    :param scope: ``"child"``: the started process. ``"group"``: also its process group, which it leads (or its session,
        with ``start_new_session``): a shell with its whole pipeline. The kernel kills them, with SIGKILL only. Out of
        reach is who leaves the group (setsid(2)) and a group whose every process closes descriptors it does not know;
        the child itself is then bound all the same. ``"tree"``: all that is below the program, wherever it went; it
        ends when this process dies, when the program ends, and by ``kill()``. A guard (``pdeathsig-run``) does it:
        ``pid`` is the guard's, ``command_pid`` the program's; ``returncode`` is the program's, and signals reach it.
        An ``exec`` of this process ends a group or a tree too.
    :param grace: seconds from the signal to SIGKILL, for any program, by a guard; the signal is then SIGTERM if
        ``pdeathsig`` does not say otherwise. None: with ``scope="tree"`` and another signal than SIGKILL, 5.

    No memory is copied, however large this process is; but with ``user=``, ``group=``, ``extra_groups=`` or
    ``preexec_fn`` it is, as in subprocess. With a ``preexec_fn``, on a thread other than the main one, the child is
    bound as a group is, by descriptor: one that closes all of them ends there.

    Raises what subprocess.Popen raises, TypeError or ValueError that names the argument, and OSError with the name
    of the system call where the binding is refused. No child is left then.

    Rests on prctl(2), PR_SET_PDEATHSIG, and for groups on fcntl(2), F_SETOWN and F_SETSIG.
    """

    _binding: "Binding | None" = Binding(SIGKILL)
    _guard: "Handle | None" = None

    def __init__(
        self,
        *args: Any,
        pdeathsig: "int | None" = KILL,
        scope: "Scope" = "child",
        grace: "float | None" = None,
        **kwargs: Any,
    ) -> None:
        self._binding = binding(pdeathsig, scope, grace)
        try:
            super().__init__(*args, **kwargs)
        except BaseException:
            if self._child_created and self.returncode is None:  # type: ignore[attr-defined]
                fork_exec.end_child(self.pid)
                self.returncode = -SIGKILL
            raise

    def _execute_child(self, *args: Any) -> None:
        seam = _Seam(self._binding)
        try:
            seam.execute_child(self, *args)
        except BaseException:
            if self.returncode is None and seam.end_child():  # else CPython's code has reaped it
                self.returncode = -SIGKILL
            raise
        self._guard = seam.guard

    @property
    def command_pid(self) -> int:
        """The PID of the program itself: ``pid``, unless there is a guard, whose PID that is then."""
        guard = self._guard
        return self.pid if guard is None or guard.command_pid is None else guard.command_pid

    def send_signal(self, sig: int) -> None:
        """Send the command a signal, if it still runs; with a guard, SIGKILL ends all that the guard is there for."""
        if self._guard is None or not (isinstance(sig, int) and 0 < sig <= _LAST_SIGNAL):
            super().send_signal(sig)
        elif self.poll() is None:
            if not self._guard.send(sig):
                super().send_signal(sig)
            elif sig == SIGKILL:
                super().send_signal(SIGCONT)

    def _handle_exitstatus(self, *args: Any) -> None:
        super()._handle_exitstatus(*args)  # type: ignore[misc]
        if self._guard is not None:
            self._guard.close()


class _Seam(fork_exec.Started):
    """One call of ``fork_exec`` from CPython's code."""

    __slots__ = ("bound",)

    def __init__(self, bound: "Binding | None") -> None:
        super().__init__()
        self.bound = bound

    def execute_child(self, *args: Any) -> None:
        """CPython's, with us beneath."""
        if self.bound is None:
            theirs = _within(_EXECUTE_CHILD, **_seam_of(self))
            theirs(*args)
            return
        _globals.update(zip(_THEIRS, _values(vars(subprocess)), strict=True))
        before, _this_thread.seam = getattr(_this_thread, "seam", None), self
        try:
            _execute_child(*args)
        finally:
            _this_thread.seam = before

    def __call__(self, *arguments: Any) -> int:
        beneath = _beneath()
        if self.bound is None:
            return beneath(*arguments)
        return fork_exec.fork_exec(self.bound, beneath, arguments, self)

    def end_child(self) -> bool:
        return self.end(self.bound is not None and self.bound.group)


def _beneath() -> "Callable[..., int]":
    """The fork_exec that CPython's code calls without us: its own, or another package's."""
    return unpatched(getattr(subprocess, "_fork_exec", _posixsubprocess.fork_exec))  # type: ignore[no-any-return]


def _call(name: str, args: "tuple[Any, ...]", kwargs: "dict[str, Any]") -> Any:
    functions: dict[str, Any] = {"Popen": Popen, "run": run, "call": call}
    theirs = _within(_FUNCTIONS[name], **functions)
    return theirs(*args, **kwargs)


def run(*popenargs: Any, **kwargs: Any) -> "subprocess.CompletedProcess[Any]":
    """``subprocess.run`` by this module's Popen: also ``pdeathsig=`` and ``scope=``."""
    completed: subprocess.CompletedProcess[Any] = _call("run", popenargs, kwargs)
    return completed


def call(*popenargs: Any, **kwargs: Any) -> int:
    """``subprocess.call`` by this module's Popen: also ``pdeathsig=`` and ``scope=``."""
    returncode: int = _call("call", popenargs, kwargs)
    return returncode


def check_call(*popenargs: Any, **kwargs: Any) -> int:
    """``subprocess.check_call`` by this module's Popen: also ``pdeathsig=`` and ``scope=``."""
    returncode: int = _call("check_call", popenargs, kwargs)
    return returncode


def check_output(*popenargs: Any, **kwargs: Any) -> Any:
    """``subprocess.check_output`` by this module's Popen: also ``pdeathsig=`` and ``scope=``."""
    return _call("check_output", popenargs, kwargs)
