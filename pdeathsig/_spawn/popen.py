"""Popen, run, call, check_call and check_output of ``subprocess``, with the child bound."""

import _posixsubprocess
import contextlib
import os
import subprocess
from collections.abc import Callable
from signal import SIGCONT
from typing import TYPE_CHECKING, Any

from .._base.checks import SIGKILL
from .._base.patching import unpatched
from .._base.signatures import shows_parameters_of
from . import subprocess_code
from .binding import KILL, Binding, choose_binding
from .fork_exec import Start, end_child

if TYPE_CHECKING:
    from .guard import Handle
    from .guard_command import Scope

_LAST_SIGNAL = 64
_SHELL = 8  # its place among the arguments of subprocess.Popen


class Popen(subprocess.Popen):  # type: ignore[type-arg]
    """``subprocess.Popen`` with a child that dies with this process.

    Every argument, attribute and error is that of ``subprocess.Popen``. These arguments are added,
    by keyword only:

    :param pdeathsig: the signal, by number or name, that the child gets when this process dies,
        whichever thread called. None: none. If the child would inherit the signal ignored or
        blocked, that is undone. Armed after ``user=``, ``group=`` and ``extra_groups=``; the exec
        of a set-user-ID or set-group-ID program undoes it.
    :param scope: what dies with this process. None: ``"child"``, and ``"tree"`` for a shell command
        (``shell=True``), since a shell starts others.
        ``"child"``: the started process.
        ``"group"``: also its process group, such as a shell with its whole pipeline. The child
        leads the group (or its session, with ``start_new_session``). The kernel kills the group,
        with SIGKILL only. A process that leaves the group by setsid(2) is out of reach. So is a
        group in which every process closes descriptors that it did not open; the child itself is
        bound all the same. While the child runs, ``kill()`` ends the whole group.
        ``"tree"``: all that is below the program, wherever it went. The tree ends when this
        process dies, when the program ends, and by ``kill()``. A guard (``pdeathsig-run``) ends
        it. ``pid`` is the program's, and ``guard_pid`` the guard's, which is the child of this
        process: os.waitpid knows only that one. ``returncode`` is the program's, and signals reach
        the program. Where the caller has it lead a session or a process group, it does so, and the
        guard leads another.
        A group or a tree also ends at an exec of this process.
    :param grace: seconds from the signal to SIGKILL, for any program, by a guard. The signal is
        then SIGTERM unless ``pdeathsig`` says otherwise. None: 5 with ``scope="tree"`` and another
        signal than SIGKILL.

    No memory is copied, however large this process is. With ``user=``, ``group=``,
    ``extra_groups=`` or ``preexec_fn`` it is, as in subprocess. With a ``preexec_fn``, on a thread
    other than the main one, the child is bound by a descriptor, as a group is: a child that closes
    all descriptors ends there.

    Raises what ``subprocess.Popen`` raises; TypeError or ValueError that names the argument; and
    OSError with the name of the system call where the binding is refused. No child is left then.

    Rests on prctl(2), PR_SET_PDEATHSIG, and for groups on fcntl(2), F_SETOWN and F_SETSIG.
    """

    _binding: "Binding | None" = Binding(SIGKILL)
    _guard: "Handle | None" = None

    @shows_parameters_of(subprocess.Popen, first="self args *popenargs")
    def __init__(
        self,
        *args: Any,
        pdeathsig: "int | str | None" = KILL,
        scope: "Scope | None" = None,
        grace: "float | None" = None,
        **kwargs: Any,
    ) -> None:
        shell = kwargs.get("shell") or (len(args) > _SHELL and args[_SHELL])
        self._binding = choose_binding(pdeathsig, scope, grace, shell=shell)
        try:
            super().__init__(*args, **kwargs)
        except BaseException:
            if self._child_created and self.returncode is None:  # type: ignore[attr-defined]
                end_child(self.guard_pid or self.pid)
                self.returncode = -SIGKILL
            raise

    def _execute_child(self, *args: Any) -> None:
        if self._binding is None:
            subprocess_code.execute_child_unbound(_fork_exec_beneath(), self, *args)
            return
        start = Start(self._binding, _fork_exec_beneath())
        try:
            subprocess_code.execute_child(start.run, self, *args)
        except BaseException:
            if self.returncode is None and start.end():  # else CPython's code has reaped the child
                self.returncode = -SIGKILL
            raise
        guard = self._guard = start.guard
        if guard is not None and guard.command_pid is not None:
            self.pid = guard.command_pid  # it was the guard's until now

    @property
    def guard_pid(self) -> "int | None":
        """The PID of the guard, which is this process's child; None: there is no guard."""
        return None if self._guard is None else self._guard.pid

    @property
    def command_pid(self) -> int:
        """The PID of the program: ``pid``."""
        return self.pid

    def send_signal(self, sig: int) -> None:
        """Send the program a signal if it runs. SIGKILL ends the whole scope."""
        if sig == SIGKILL and self._binding is not None and self._binding.group:
            if self.poll() is None:  # it is not reaped, so the number is its group's
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, sig)
        elif self._guard is None or not (isinstance(sig, int) and 0 < sig <= _LAST_SIGNAL):
            super().send_signal(sig)
        elif self.poll() is None:
            if not self._guard.send(sig):
                self._signal_guard(sig)
            elif sig == SIGKILL:
                self._signal_guard(SIGCONT)  # a stopped guard would not read it

    def _signal_guard(self, sig: int) -> None:
        if self.guard_pid is not None and self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.guard_pid, sig)

    # CPython's code waits for self.pid in these two alone. With a guard, they wait for the guard.
    # It may run at interpreter shutdown, so it keeps what it needs in its defaults.
    def _internal_poll(self, _deadstate: "int | None" = None, _nohang: int = os.WNOHANG, **own: Any) -> "int | None":
        if self._guard is None:
            return super()._internal_poll(_deadstate, **own)  # type: ignore[misc, no-any-return]
        if self.returncode is None and self._waitpid_lock.acquire(False):  # type: ignore[attr-defined]
            try:
                if self.returncode is None:
                    pid, status = self._wait_for_guard(_nohang)
                    if pid:
                        self._handle_exitstatus(status)
            except ChildProcessError:  # other code has reaped it, so its status is not known
                self.returncode = _deadstate or 0
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]
        return self.returncode

    def _try_wait(self, wait_flags: int) -> "tuple[int, int]":
        if self._guard is None:
            return super()._try_wait(wait_flags)  # type: ignore[misc, no-any-return]
        try:
            return self._wait_for_guard(wait_flags)
        except ChildProcessError:
            return self.pid, 0

    def _wait_pidfd(self, timeout: float) -> bool:
        """Python 3.15 awaits a pidfd of self.pid first; the program may end before its guard."""
        return self._guard is None and bool(super()._wait_pidfd(timeout))  # type: ignore[misc]

    def _wait_for_guard(self, flags: int, _waitpid: "Callable[[int, int], Any]" = os.waitpid) -> "tuple[int, int]":
        """Wait for the guard, which ends as the program did. Tell it with the program's PID."""
        ended, status = _waitpid(self.guard_pid or self.pid, flags)
        return (self.pid if ended else 0), status

    def _handle_exitstatus(self, *args: Any) -> None:
        super()._handle_exitstatus(*args)  # type: ignore[misc]
        if self._guard is not None:
            self._guard.close()

    def __repr__(self) -> str:
        text, binding = super().__repr__(), self._binding
        if getattr(self, "pid", None) is None:
            return text  # nothing was started
        more = f" pid: {self.pid}"
        if self.guard_pid is not None:
            more += f" guard_pid: {self.guard_pid}"
        if binding is not None:
            more += f" scope: {binding.scope!r}"
            if binding.guard is not None:
                more += f" grace: {binding.guard.grace:g}"
        return f"{text[:-1]}{more}>"


@shows_parameters_of(subprocess.run, Popen, first="args *popenargs")
def run(*popenargs: Any, **kwargs: Any) -> "subprocess.CompletedProcess[Any]":
    """``subprocess.run`` by this Popen: also ``pdeathsig=``, ``scope=`` and ``grace=``."""
    completed: subprocess.CompletedProcess[Any] = _call("run", popenargs, kwargs)
    return completed


@shows_parameters_of(subprocess.call, Popen, first="args *popenargs")
def call(*popenargs: Any, **kwargs: Any) -> int:
    """``subprocess.call`` by this Popen: also ``pdeathsig=``, ``scope=`` and ``grace=``."""
    returncode: int = _call("call", popenargs, kwargs)
    return returncode


@shows_parameters_of(subprocess.call, Popen, first="args *popenargs")
def check_call(*popenargs: Any, **kwargs: Any) -> int:
    """``subprocess.check_call`` by this Popen: also ``pdeathsig=``, ``scope=`` and ``grace=``."""
    returncode: int = _call("check_call", popenargs, kwargs)
    return returncode


@shows_parameters_of(subprocess.run, Popen, first="args *popenargs", without=("capture_output", "check", "stdout"))
def check_output(*popenargs: Any, **kwargs: Any) -> Any:
    """``subprocess.check_output`` by this Popen: also ``pdeathsig=``, ``scope=`` and ``grace=``."""
    return _call("check_output", popenargs, kwargs)


def _call(name: str, args: "tuple[Any, ...]", kwargs: "dict[str, Any]") -> Any:
    return subprocess_code.call(name, args, kwargs, Popen=Popen, run=run, call=call)


def _fork_exec_beneath() -> "Callable[..., int]":
    """The fork_exec that CPython's code calls without us: its own, or another package's."""
    return unpatched(getattr(subprocess, "_fork_exec", _posixsubprocess.fork_exec))  # type: ignore[no-any-return]
