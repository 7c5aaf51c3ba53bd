"""fork_exec: the function beneath subprocess, asyncio and multiprocessing, with the child bound to this process.

The fast road is c_src/spawn/fork_exec.c. The slow one is CPython's own fork_exec, with the binding
in its ``preexec_fn``: for callers that have a ``preexec_fn``, and where nothing is compiled.
"""

import _posixsubprocess
import _thread
import contextlib
import errno
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .._base import native, procfs
from .._base.checks import SIGKILL
from .._base.environ import death_notice
from .._base.patching import unpatched
from .._child import fork
from .binding import Binding
from .guard_command import GuardTerms, this_process

if TYPE_CHECKING:
    from . import guard as guards

cpython = unpatched(_posixsubprocess.fork_exec)
fork.exec_callers.add(__name__)
native.load_cffi()  # while there are descriptors for that
_HAS_PROCESS_GROUP = sys.version_info >= (3, 11)
# Which errors before exec are about cwd, Popen asks by another word since 3.12.1.
_SAYS_CHDIR = "noexec:chdir" in subprocess.Popen._execute_child.__code__.co_consts  # type: ignore[attr-defined]


class Arguments(NamedTuple):
    """Those of CPython's fork_exec, as 3.15 has them."""

    args: Sequence[Any]
    executables: Sequence[bytes]
    close_fds: bool
    keep: "tuple[int, ...]"
    cwd: Any
    env: "Sequence[bytes] | None"
    p2cread: int
    p2cwrite: int
    c2pread: int
    c2pwrite: int
    errread: int
    errwrite: int
    errpipe_read: int
    errpipe_write: int
    restore_signals: bool
    new_session: bool
    process_group: int
    gid: "int | None"
    groups: "list[int] | None"
    uid: "int | None"
    umask: int
    preexec_fn: "Callable[[], Any] | None"
    vfork: bool = True


_PREEXEC_FN = Arguments._fields.index("preexec_fn")


class Started:
    """What one call has started. Whoever is interrupted before that returns has it from here."""

    __slots__ = ("guard", "pids")

    def __init__(self) -> None:
        self.pids: list[int] = []
        self.guard: "guards.Handle | None" = None

    def end(self, group: bool = False) -> bool:
        """Whether there was a child to end. ``group``: with those it leads."""
        for pid in self.pids:
            end_child(pid, group)
        if self.guard is not None:
            self.guard.close()
        return bool(self.pids)


def fork_exec(bound: Binding, beneath: Callable[..., int], arguments: "tuple[Any, ...]", started: Started) -> int:
    """Start the program that ``arguments`` tell, those of this Python's fork_exec, and return its PID. ``beneath`` is
    what to call on the slow road."""
    if not _HAS_PROCESS_GROUP:
        arguments = (*arguments[:16], -1, *arguments[16:], _vfork_wanted())
    sig, group, guard = bound
    fast = native.backend == "compiled" and beneath is cpython and arguments[_PREEXEC_FN] is None
    alone = exec_unbinds()
    if fast and not group and not alone and guard is None:
        return _spawn(started, sig, -1, False, arguments)
    given = Arguments(*arguments)
    _check_keep(given.keep)
    if guard is not None:
        with_guard = functools.partial(_start_guard, guard, beneath, fast, len(arguments), started)
        return with_guard(given, -1) if fast and guard.linger and _has_pidfds() else _with_lifeline(given, with_guard)
    if group:
        given = _with_own_group(given)
    if fast:
        return _with_lifeline(given, lambda given, lifeline: _spawn(started, sig, lifeline, group, given))

    by_preexec = functools.partial(_by_preexec, bound, beneath, len(arguments))
    # There the kernel's parent is this thread. If it may end, a lifeline is what follows the process.
    if group or alone or not _on_main_thread():
        return _with_lifeline(given, by_preexec)
    return by_preexec(given, -1)


def _by_preexec(bound: Binding, beneath: Callable[..., int], count: int, given: Arguments, lifeline: int) -> int:
    changed = given._replace(preexec_fn=_Preexec(bound, lifeline, given))
    return beneath(*(changed[:count] if _HAS_PROCESS_GROUP else (*changed[:16], *changed[17:22])))


def _start_guard(
    terms: GuardTerms,
    beneath: Callable[..., int],
    fast: bool,
    count: int,
    started: Started,
    given: Arguments,
    lifeline: int,
) -> int:
    """Start the guard, which starts the program. It gets SIGKILL if we die before it holds the lifeline."""
    from . import guard as guards  # it imports socket

    handle = started.guard = guards.Handle()
    with contextlib.ExitStack() as unless_started, contextlib.ExitStack() as at_once:
        unless_started.callback(handle.close)
        program = guards.Program(by_descriptor=any(new is not None for new in (given.uid, given.gid, given.groups)))
        at_once.callback(program.close)
        control = handle.offer(given.executables)
        at_once.callback(os.close, control)
        options = [*terms.options(), "--control", str(control), *program.options()]
        if terms.linger:
            options += ["--parent", this_process()]
        if lifeline >= 0:
            options += ["--close" if terms.linger and _has_pidfds() else "--lifeline", str(lifeline)]
        changed = given._replace(
            args=["pdeathsig-run", *options, "--", *given.args],
            executables=[program.path],
            keep=tuple(sorted((*given.keep, control, *program.keep))),
        )
        if fast:
            handle.pid = _spawn(started, SIGKILL, -1, False, changed)
        else:
            held = -1 if _on_main_thread() else lifeline
            handle.pid = _by_preexec(Binding(SIGKILL), beneath, count, changed, held)
            started.pids.append(handle.pid)
        at_once.close()
        error = handle.answer()
        if error:
            guards.replace_report(given.errpipe_read, b"OSError:%X:" % error)
        elif handle.command_pid is not None:
            unless_started.pop_all()
    return handle.pid


def _is_ours(pid: int) -> bool:
    """Whether it is a child of this process that nobody has reaped."""
    if not hasattr(os, "waitid"):  # PyPy
        process = procfs.read(pid)
        return process is not None and process.parent == os.getpid()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return True


def end_child(pid: int, group: bool = False) -> None:
    """Whoever is interrupted before he has the handle cannot end the child himself, nor the group that it leads."""
    try:
        if pid and _is_ours(pid):
            if group and os.getpgid(pid) == pid:
                os.killpg(pid, SIGKILL)
            os.kill(pid, SIGKILL)
            os.waitpid(pid, 0)
    except (ChildProcessError, ProcessLookupError, PermissionError):
        pass


def start(bound: Binding, beneath: Callable[..., int], arguments: "tuple[Any, ...]") -> int:
    """``fork_exec`` for callers who know nothing of us: if it is interrupted, it ends the child itself."""
    started = Started()
    try:
        return fork_exec(bound, beneath, arguments, started)
    except BaseException:
        started.end()
        raise


def is_bound(arguments: "tuple[Any, ...]") -> bool:
    """Whether our slow road is above."""
    return isinstance(arguments[_PREEXEC_FN if _HAS_PROCESS_GROUP else _PREEXEC_FN - 1], _Preexec)


def exec_unbinds() -> bool:
    """Such an exec counts as one of a set-user-ID program, and the kernel forgets the parent-death signal."""
    user, effective_user, _ = os.getresuid()
    group, effective_group, _ = os.getresgid()
    return effective_user != user or effective_group != group


def _has_pidfds() -> bool:
    """By one a guard follows us through an exec of ours, which closes a lifeline."""
    try:
        os.close(native.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def _on_main_thread() -> bool:
    """The kernel's: threading's may be another."""
    return _thread.get_native_id() == os.getpid()


def _with_lifeline(given: Arguments, start: Callable[[Arguments, int], int]) -> int:
    lifeline = native.check(native.lib.pds_lifeline())
    try:
        return start(given._replace(keep=tuple(sorted((*given.keep, lifeline)))), lifeline)
    finally:
        os.close(lifeline)


def _with_own_group(given: Arguments) -> Arguments:
    if given.process_group not in (-1, 0):
        raise ValueError(f"process_group: with scope='group' the child leads its own, not {given.process_group}")
    return given if given.new_session else given._replace(process_group=0)


def _spawn(started: Started, sig: int, lifeline: int, group: bool, arguments: "tuple[Any, ...]") -> int:
    """The fast road; arguments as in Arguments."""
    threads = _thread._count() > 0
    result: int = native.quick.fork_exec(started.pids, sig, lifeline, group, _SAYS_CHDIR, threads, *arguments)
    if result >= 0:
        return result
    if -result == errno.EAGAIN or native.failed_call() == "clone":  # subprocess's own words
        raise OSError(-result, os.strerror(-result))
    return native.check(result)


def _check_keep(keep: "tuple[int, ...]") -> None:
    if list(keep) != sorted({fd for fd in keep if isinstance(fd, int) and 0 <= fd < 2**31}):
        raise ValueError("bad value(s) in fds_to_keep")


def strings(strings: Sequence[bytes]) -> bytes:
    joined = b"\0".join((*strings, b""))
    if joined.count(b"\0") != len(strings):
        raise ValueError("embedded null byte")
    return joined


def _vfork_wanted() -> bool:
    """CPython's switch for it, which before 3.11 is no argument."""
    try:
        return bool(subprocess._USE_VFORK)
    except Exception:
        return True


class _Preexec:
    """The slow road's ``preexec_fn``: the caller's own first, as it may change credentials."""

    def __init__(self, bound: Binding, lifeline: int, given: Arguments) -> None:
        self._bound, self._lifeline, self._given = bound, lifeline, given
        self._on_main = _on_main_thread()

    def __call__(self) -> None:
        given = self._given
        if given.process_group >= 0 and not _HAS_PROCESS_GROUP:
            os.setpgid(0, given.process_group)
        if given.preexec_fn is not None:
            self._bind()  # it may take its time
            given.preexec_fn()  # and change credentials, or arm in its own way
        self._bind()

    def _bind(self) -> None:
        sig, gone = self._bound.sig, False
        # On another thread none: also not the caller's own, which would speak of that thread.
        gone = bool(native.check(native.lib.pds_preexec(sig if self._on_main else 0)))
        if not self._on_main and sig not in (SIGKILL, signal.SIGSTOP):
            signal.signal(sig, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [sig])
        if self._lifeline >= 0:
            gone |= bool(native.check(native.lib.pds_lifeline_hold(self._lifeline, sig, self._bound.group)))
        if gone:
            native.lib.pds_die(sig, death_notice(native.lib.pds_parent(), sig, None))
