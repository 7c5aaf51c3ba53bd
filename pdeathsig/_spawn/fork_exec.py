"""Starting a program as CPython's ``fork_exec`` does, with the child bound to this process.

subprocess, asyncio and multiprocessing start programs by ``_posixsubprocess.fork_exec``. A bound
start does what that does, by one of two roads:

- the extension's (c_src/spawn/fork_exec.c), which copies no memory;
- CPython's own ``fork_exec`` with the binding in its ``preexec_fn``: if the caller has a
  ``preexec_fn``, if another package has replaced ``fork_exec``, and where nothing is compiled.
"""

import _posixsubprocess
import _thread
import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .._base import native, procfs
from .._base.checks import SIGKILL
from .._base.patching import unpatched
from .._child import fork
from .binding import Binding
from .guard_command import GuardTerms, this_process
from .preexec import BindInChild, on_main_thread

if TYPE_CHECKING:
    from .guard import Handle

_CPYTHONS = unpatched(_posixsubprocess.fork_exec)
fork.exec_callers.add(__name__)
native.load_cffi()  # now: later a process may have no descriptor left
_popen_code = subprocess.Popen._execute_child.__code__  # type: ignore[attr-defined]
# How Popen learns that an error before exec is about cwd: by this word since 3.12.1.
_SAYS_CHDIR = "noexec:chdir" in _popen_code.co_consts


class Arguments(NamedTuple):
    """The arguments of CPython's ``fork_exec``, in its order: all that any version has."""

    args: Sequence[Any]
    executables: Sequence[bytes]  # tried in turn
    close_fds: bool
    fds_to_keep: "tuple[int, ...]"  # in ascending order
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
    process_group: int  # -1: this process's; 0: its own. Before 3.11 absent.
    gid: "int | None"
    groups: "list[int] | None"
    uid: "int | None"
    umask: int
    preexec_fn: "Callable[[], Any] | None"
    vfork: bool = True  # absent in some versions

    def keeping(self, *descriptors: int) -> "Arguments":
        """Let the program inherit these too.

        Raises ValueError, as CPython does, if the caller's own are not in order: sorting them here
        would hide that.
        """
        keep = self.fds_to_keep
        if list(keep) != sorted({fd for fd in keep if isinstance(fd, int) and 0 <= fd < 2**31}):
            raise ValueError("bad value(s) in fds_to_keep")
        return self._replace(fds_to_keep=tuple(sorted((*keep, *descriptors))))

    def leading_a_group(self) -> "Arguments":
        """Let the child lead a process group of its own. Raises ValueError if the caller chose another."""
        if self.process_group not in (-1, 0):
            raise ValueError(f"process_group: with scope='group' the child leads its own, not {self.process_group}")
        return self if self.new_session else self._replace(process_group=0)

    def for_cpython(self) -> "tuple[Any, ...]":
        """As this Python's ``fork_exec`` takes them."""
        return tuple(getattr(self, name) for name in _OF_THIS_PYTHON)


_HAS_PROCESS_GROUP = sys.version_info >= (3, 11)
_OF_THIS_PYTHON = [
    name
    for name in Arguments._fields
    if (name != "process_group" or _HAS_PROCESS_GROUP) and (name != "vfork" or "_USE_VFORK" in _popen_code.co_names)
]
_PROCESS_GROUP = Arguments._fields.index("process_group")
_PREEXEC_FN = Arguments._fields.index("preexec_fn")
_PREEXEC_FN_OF_THIS_PYTHON = _OF_THIS_PYTHON.index("preexec_fn")

# Starts the child by one of the two roads. Takes its binding, and the lifeline that it holds (-1: none).
Road = Callable[[Binding, Arguments, int], int]


def from_cpython(arguments: "tuple[Any, ...]") -> "tuple[Any, ...]":
    """The arguments of this Python's ``fork_exec``, in the order of Arguments."""
    if _HAS_PROCESS_GROUP:
        return arguments
    return (*arguments[:_PROCESS_GROUP], -1, *arguments[_PROCESS_GROUP:], _vfork_wanted())


def is_bound(arguments: "tuple[Any, ...]") -> bool:
    """Whether these arguments, this Python's, come from a bound start, which calls CPython's ``fork_exec``."""
    return isinstance(arguments[_PREEXEC_FN_OF_THIS_PYTHON], BindInChild)


def start_bound(binding: Binding, original: "Callable[..., int]", arguments: "tuple[Any, ...]") -> int:
    """Start a program in the place of ``original``, CPython's or another's ``fork_exec``. Returns the child's PID.

    If it is interrupted, it ends the child.
    """
    start = Start(binding, original)
    try:
        return start.run(*arguments)
    except BaseException:
        start.end()
        raise


class Start:
    """One start in progress: how the child is bound, and what has been started by now.

    Its caller may be interrupted before it has the PID. Then it ends the child by ``end()``.

    :param original: CPython's ``fork_exec``, or what another package has put in its place.
    """

    __slots__ = ("binding", "guard", "original", "pids")

    def __init__(self, binding: Binding, original: "Callable[..., int]") -> None:
        self.binding, self.original = binding, original
        self.pids: list[int] = []
        self.guard: "Handle | None" = None

    def run(self, *arguments: Any) -> int:
        """Start the program. Takes the arguments of this Python's ``fork_exec``.

        Returns the PID of the child, with a guard that of the guard. Raises what CPython's
        ``fork_exec`` raises, and OSError with the name of the system call.
        """
        binding = self.binding
        arguments = from_cpython(arguments)
        fast = native.backend == "compiled" and self.original is _CPYTHONS and arguments[_PREEXEC_FN] is None
        exec_unbinds = exec_clears_pdeathsig()
        if fast and not binding.group and binding.guard is None and not exec_unbinds:
            return self._by_extension(binding, arguments)

        given = Arguments(*arguments)
        # The kernel's parent of a child made by CPython is this thread. If it may end before the
        # process does, a lifeline follows the process. The extension needs none for that.
        thread_may_end = not fast and not on_main_thread()
        road: Road = self._by_extension if fast else self._by_preexec_fn
        if binding.guard is not None:
            return self._guarded(binding.guard, given, road, thread_may_end)
        if binding.group:
            given = given.leading_a_group()
        if not (binding.group or exec_unbinds or thread_may_end):
            return road(binding, given, -1)
        with new_lifeline() as lifeline:
            return road(binding, given.keeping(lifeline), lifeline)

    def end(self) -> bool:
        """End what was started, the child's process group too if it is bound as one. False: there was nothing."""
        for pid in self.pids:
            end_child(pid, self.binding.group)
        if self.guard is not None:
            self.guard.close()
        return bool(self.pids)

    def _by_extension(self, binding: Binding, arguments: "tuple[Any, ...]", lifeline: int = -1) -> int:
        # Another thread may fork meanwhile.
        threads = _thread._count() > 0
        result: int = native.quick.fork_exec(
            self.pids, binding.sig, lifeline, binding.group, _SAYS_CHDIR, threads, *arguments
        )
        if result >= 0:
            return result
        if -result == errno.EAGAIN or native.failed_call() == "clone":  # CPython names no call there
            raise OSError(-result, os.strerror(-result))
        return native.check(result)

    def _by_preexec_fn(self, binding: Binding, given: Arguments, lifeline: int) -> int:
        process_group = -1 if _HAS_PROCESS_GROUP else given.process_group
        bind = BindInChild(binding, lifeline, given.preexec_fn, process_group)
        return self.original(*given._replace(preexec_fn=bind).for_cpython())

    def _guarded(self, terms: GuardTerms, given: Arguments, road: Road, thread_may_end: bool) -> int:
        """Start the guard, which starts the program; wait until it has. Returns the guard's PID."""
        from . import guard as guards  # it imports socket

        handle = self.guard = guards.Handle()
        try:
            handle.pid = self._start_guard(handle, terms, given, road, thread_may_end)
            self.pids[:] = [handle.pid]
            error = handle.wait_for_start()
            if error:
                guards.report_to_popen(given.errpipe_read, b"OSError:%X:" % error)
        finally:
            if handle.command_pid is None:
                handle.close()
        return handle.pid

    def _start_guard(
        self, handle: "Handle", terms: GuardTerms, given: Arguments, road: Road, thread_may_end: bool
    ) -> int:
        """Start the guard. Until it follows this process by itself, it is bound to it by SIGKILL.

        It follows by a lifeline; but one that lingers by a pidfd, since an exec of this process
        closes the lifeline.
        """
        from . import guard as guards

        by_pidfd = terms.linger and _has_pidfds()
        with contextlib.ExitStack() as stack:
            lifeline = stack.enter_context(new_lifeline()) if thread_may_end or not by_pidfd else -1
            changes_user = any(new is not None for new in (given.uid, given.gid, given.groups))
            executable = stack.enter_context(guards.Executable(by_descriptor=changes_user))
            control = stack.enter_context(handle.offer(given.executables))
            inherited = [control, *executable.descriptors]
            options = [*terms.options(), "--control", str(control), *executable.options()]
            if terms.linger:
                options += ["--parent", this_process()]
            if lifeline >= 0:
                inherited.append(lifeline)
                options += ["--close" if by_pidfd else "--lifeline", str(lifeline)]
            changed = given.keeping(*inherited)._replace(
                args=["pdeathsig-run", *options, "--", *given.args], executables=[executable.path]
            )
            return road(Binding(SIGKILL), changed, lifeline if thread_may_end else -1)


@contextlib.contextmanager
def new_lifeline() -> "Iterator[int]":
    """A lifeline for one child to hold, which is closed here as soon as the child has it."""
    lifeline = native.check(native.lib.pds_lifeline())
    try:
        yield lifeline
    finally:
        os.close(lifeline)


def end_child(pid: int, group: bool = False) -> None:
    """End a child of this process, and reap it. Nothing happens if it is none, or is reaped already.

    :param group: end its process group too, if it leads one.
    """
    try:
        if pid and _is_unreaped_child(pid):
            if group and os.getpgid(pid) == pid:
                os.killpg(pid, SIGKILL)
            os.kill(pid, SIGKILL)
            os.waitpid(pid, 0)
    except (ChildProcessError, ProcessLookupError, PermissionError):
        pass


def _is_unreaped_child(pid: int) -> bool:
    """Whether that is a child of this process. ChildProcessError, too, says that it is none."""
    if not hasattr(os, "waitid"):  # PyPy
        process = procfs.read(pid)
        return process is not None and process.parent == os.getpid()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return True


def exec_clears_pdeathsig() -> bool:
    """Whether the kernel forgets the parent-death signal at any exec from here.

    It does where effective and real IDs differ, as at the exec of a set-user-ID program: prctl(2).
    """
    user, effective_user, _ = os.getresuid()
    group, effective_group, _ = os.getresgid()
    return effective_user != user or effective_group != group


def _has_pidfds() -> bool:
    try:
        os.close(native.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def _vfork_wanted() -> bool:
    """CPython's switch, which before 3.11 is no argument."""
    try:
        return bool(subprocess._USE_VFORK)
    except Exception:
        return True
