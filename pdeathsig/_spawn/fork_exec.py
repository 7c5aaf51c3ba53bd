"""Starting a program as CPython's ``fork_exec`` does, with the child bound to this process.

subprocess, asyncio and multiprocessing start programs by ``_posixsubprocess.fork_exec``. A bound
start does what that does, in one of two ways:

- by the extension (c_src/spawn/fork_exec.c), which copies no memory;
- by CPython's own ``fork_exec`` with the binding in its ``preexec_fn``: if the caller has a
  ``preexec_fn``, if another package has replaced ``fork_exec``, and where nothing is compiled.
"""

import _posixsubprocess
import _thread
import contextlib
import errno
import fcntl
import os
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .._base import native, procfs
from .._base.checks import SIGKILL
from .._base.patching import unpatched
from .._child import fork
from .binding import Binding
from .guard_command import GuardTerms, identity
from .preexec import BindInChild, on_main_thread

if TYPE_CHECKING:
    from .guard import Handle

_CPYTHONS = unpatched(_posixsubprocess.fork_exec)
fork.exec_callers.add(__name__)
native.load_cffi()  # now: later a process may have no descriptor left
_popen_code = subprocess.Popen._execute_child.__code__  # type: ignore[attr-defined]
# How Popen learns that an error before exec is about cwd: by this word since 3.12.1.
_SAYS_CHDIR = "noexec:chdir" in _popen_code.co_consts


_Fields = namedtuple(
    "_Fields",
    "args executables close_fds fds_to_keep cwd env p2cread p2cwrite c2pread c2pwrite errread errwrite errpipe_read "
    "errpipe_write restore_signals new_session process_group gid groups uid umask preexec_fn vfork",
    defaults=[True],
)


class Arguments(_Fields):
    """The arguments of CPython's ``fork_exec``, in its order: all that any version has.

    Python 3.10 has no ``process_group`` (-1: this process's; 0: the child's own). Some versions
    have no ``vfork``.
    """

    __slots__ = ()

    def keeping(self, *descriptors: int) -> "Arguments":
        """Let the program inherit these too; -1 is none.

        Raises ValueError, as CPython does, if the caller's are not in order: sorting hides that.
        """
        keep = self.fds_to_keep
        if list(keep) != sorted({fd for fd in keep if isinstance(fd, int) and 0 <= fd < 2**31}):
            raise ValueError("bad value(s) in fds_to_keep")
        return self._replace(fds_to_keep=tuple(sorted({*keep, *descriptors} - {-1})))

    def leading_a_group(self) -> "Arguments":
        """Let the child lead a process group. Raises ValueError if the caller chose another."""
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

# Starts the child. Takes how it is bound, and the lifeline that it holds (-1: none).
StartChild = Callable[[Binding, Arguments, int], int]


def from_cpython(arguments: "tuple[Any, ...]") -> "tuple[Any, ...]":
    """The arguments of this Python's ``fork_exec``, in the order of Arguments."""
    if _HAS_PROCESS_GROUP:
        return arguments
    vfork = bool(getattr(subprocess, "_USE_VFORK", True))  # CPython's switch, no argument there
    return (*arguments[:_PROCESS_GROUP], -1, *arguments[_PROCESS_GROUP:], vfork)


def is_bound(arguments: "tuple[Any, ...]") -> bool:
    """Whether a bound start calls CPython's ``fork_exec`` with these arguments, this Python's."""
    return isinstance(arguments[_PREEXEC_FN_OF_THIS_PYTHON], BindInChild)


def start_bound(binding: Binding, original: "Callable[..., int]", arguments: "tuple[Any, ...]") -> int:
    """Start a program as ``Start.run`` does. If that is interrupted, end the child."""
    start = Start(binding, original)
    try:
        return start.run(*arguments)
    except BaseException:
        start.end()
        raise


class Start:
    """One start in progress: how the child is bound, and what has been started by now.

    A caller that is interrupted before it has the PID ends the child by ``end()``.

    :param original: CPython's ``fork_exec``, or what another package has put in its place.
    """

    __slots__ = ("binding", "guard", "original", "pids")

    def __init__(self, binding: Binding, original: "Callable[..., int]") -> None:
        self.binding, self.original = binding, original
        self.pids: list[int] = []
        self.guard: "Handle | None" = None

    def run(self, *arguments: Any) -> int:
        """Start the program. Takes the arguments of this Python's ``fork_exec``.

        Returns the child's PID; with a guard, the guard's. Raises what CPython's
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
        start_child: StartChild = self._by_extension if fast else self._by_preexec_fn
        if binding.guard is not None:
            return self._guarded(binding.guard, given, start_child, thread_may_end)
        if binding.group:
            given = given.leading_a_group()
        with lifeline_if(binding.group or exec_unbinds or thread_may_end) as lifeline:
            return start_child(binding, given.keeping(lifeline), lifeline)

    def end(self) -> bool:
        """End what was started; with a group, all of it. False: there was nothing to end."""
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

    def _guarded(self, terms: GuardTerms, given: Arguments, start_child: StartChild, thread_may_end: bool) -> int:
        """Start the guard, and wait until it has started the program. Returns the guard's PID.

        The guard follows this process by a lifeline. One that lingers does so by a pidfd, as an
        exec of this process closes the lifeline. Until it follows, it is bound by SIGKILL.
        """
        from . import guard as guards  # it imports socket

        handle = self.guard = guards.Handle()
        by_pidfd = terms.linger and _has_pidfds()
        changes_user = any(new is not None for new in (given.uid, given.gid, given.groups))
        try:
            with (
                lifeline_if(thread_may_end or not by_pidfd) as lifeline,
                guards.open_executable(by_descriptor=changes_user) as (path, inherited),
                handle.offer(given.executables) as control,
            ):
                options = [*terms.options(), "--control", str(control)]
                if terms.linger:
                    options += ["--parent", identity(os.getpid())]
                if not by_pidfd:
                    options += ["--lifeline", str(lifeline)]
                elif lifeline >= 0:
                    options += ["--close", str(lifeline)]
                for fd in inherited:
                    options += ["--close", str(fd)]
                args = ["pdeathsig-run", *options, "--", *given.args]
                changed = given.keeping(control, lifeline, *inherited)._replace(args=args, executables=[path])
                handle.pid = start_child(Binding(SIGKILL), changed, lifeline if thread_may_end else -1)
            self.pids[:] = [handle.pid]
            error = handle.wait_for_start()
            if error:
                guards.report_to_popen(given.errpipe_read, b"OSError:%X:" % error)
        finally:
            if handle.command_pid is None:
                handle.close()
        return handle.pid


@contextlib.contextmanager
def lifeline_if(needed: bool, above: int = -1) -> "Iterator[int]":
    """Open a lifeline for one child, and close it here once the child has it. -1: none is needed.

    :param above: what its descriptor is to be higher than.
    """
    if not needed:
        yield -1
        return
    lifeline = native.check(native.lib.pds_lifeline())
    try:
        if lifeline <= above:
            low, lifeline = lifeline, fcntl.fcntl(lifeline, fcntl.F_DUPFD_CLOEXEC, above + 1)
            os.close(low)
        yield lifeline
    finally:
        os.close(lifeline)


def end_child(pid: int, group: bool = False) -> None:
    """End a child of this process, if it is one, and reap it.

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
