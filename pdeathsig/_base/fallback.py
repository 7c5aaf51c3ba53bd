"""What stands in for the compiled extension where there is none: prctl(2) by ctypes.

It has the kernel's own semantics, and ``status()`` says so: the parent is the *thread* that
started this process. There is no grace, no watching of other processes, and only the main thread
may arm.
"""

import _signal
import _thread
import ctypes
import errno
import os
import select
import sys
from types import SimpleNamespace

PR_SET_PDEATHSIG = 1
PR_GET_PDEATHSIG = 2

# The number of the prctl system call for a Python of 64 bits, by os.uname().machine. For others
# there is libc's prctl().
PRCTL = {"x86_64": 157, "aarch64": 167}
_COMPILED = "needs the compiled extension: install pdeathsig where there is a C compiler"


class Library:
    """The functions of c_src/pdeathsig.h that can be had so, with their contract."""

    PDS_PROCESS, PDS_THREAD, PDS_WATCH = 1, 2, 4

    def __init__(self, *, direct: bool) -> None:
        """:param direct: by the raw system call instead of libc's prctl()."""
        libc = ctypes.CDLL(None, use_errno=True)
        if direct:
            machine = os.uname().machine
            if machine not in PRCTL or sys.maxsize < 2**32:
                raise NotImplementedError(
                    f"the number of prctl(2) on {machine!r} is not known here; use PDEATHSIG_BACKEND=ctypes"
                )
            self._call, self._prefix = libc.syscall, [ctypes.c_long(PRCTL[machine])]
        else:
            self._call, self._prefix = libc.prctl, []
        self._parent, self._forked = os.getppid(), 0
        self._forker = 0
        self._sig = 0
        self._lifeline = -1
        os.register_at_fork(before=self._before_fork, after_in_child=self._after_fork)

    def pds_failed_call(self) -> str:
        return "prctl"

    def pds_parent(self) -> int:
        return self._parent

    def pds_parent_source(self) -> int:
        return self._forked

    def pds_parent_may_signal(self) -> int:
        return 1  # there is no other way here

    def pds_armed(self) -> int:
        return 2 if self._sig else 0

    def pds_arm(
        self, sig: int, grace_ns: int, parent: int, notice: bytes, watches: "list[int]", _: int, __: bytes
    ) -> int:
        if grace_ns:
            raise NotImplementedError(f"grace {_COMPILED}")
        if watches:
            others = " or ".join(map(str, watches))
            raise NotImplementedError(f"to die with process {others}, which is not (only) the parent, {_COMPILED}")
        result = self.pds_arm_thread(sig)
        if result == 1:
            return self.pds_die(sig, notice)
        return result

    def pds_arm_thread(self, sig: int) -> int:
        if _thread.get_native_id() != os.getpid():
            raise NotImplementedError(f"arming from a thread, which may end before the process does, {_COMPILED}")
        self._make_deliverable(sig)
        result = self._prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(sig))
        if result < 0:
            return result
        self._sig = sig
        return int(os.getppid() != self._parent)

    def pds_preexec(self, sig: int) -> int:
        if sig == 0:
            result = self.pds_disarm()
            return result if result < 0 else int(os.getppid() != self._parent)
        if sig not in (_signal.SIGKILL, _signal.SIGSTOP):
            _signal.signal(sig, _signal.SIG_DFL)
        return self.pds_arm_thread(sig)

    def pds_lifeline(self) -> int:
        """As in C, but nothing mends a write end that other code has closed."""
        if self._lifeline < 0:
            reader, self._lifeline = os.pipe()
            os.close(reader)
        return os.open(f"/proc/self/fd/{self._lifeline}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def pds_lifeline_hold(self, lifeline: int, sig: int, group: int) -> int:
        import fcntl

        fcntl.fcntl(lifeline, fcntl.F_SETSIG, sig)
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpid() if group else os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        end = select.poll()
        end.register(lifeline, 0)
        return int(bool(end.poll(0)))

    def pds_disarm(self) -> int:
        result = self._prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(0))
        self._sig = self._sig if result < 0 else 0
        return result

    def pds_die(self, sig: int, notice: bytes) -> int:
        try:
            os.write(2, notice)
        except OSError:
            pass
        os.kill(os.getpid(), sig)
        if sig == _signal.SIGKILL or (os.getpid() == 1 and _signal.getsignal(sig) == _signal.SIG_DFL):
            os._exit(128 + sig)
        return 0

    def status(self) -> SimpleNamespace:
        """What pds_status() tells in a struct pds_status."""
        value = ctypes.c_int()
        result = self._prctl(PR_GET_PDEATHSIG, ctypes.byref(value))
        return SimpleNamespace(
            mechanism=self.pds_armed(),
            delivered=0,
            sig=self._sig,
            grace_ns=0,
            parent=self._parent,
            carrier=0,
            holder=os.getpid() if self._sig else 0,
            kernel_sig=value.value if result >= 0 else -1,
            watched_lost=0,
            watched=0,
        )

    def _prctl(self, option: int, argument: object) -> int:
        zero = ctypes.c_ulong(0)
        result: int = self._call(*self._prefix, ctypes.c_int(option), argument, zero, zero, zero)
        return result if result >= 0 else -(ctypes.get_errno() or errno.EPERM)

    def _make_deliverable(self, sig: int) -> None:
        if _signal.getsignal(sig) == _signal.SIG_IGN:
            _signal.signal(sig, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [sig])

    def _before_fork(self) -> None:
        self._forker = os.getpid()

    def _after_fork(self) -> None:
        self._parent, self._forked, self._sig = self._forker if os.getppid() else 0, 1, 0
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
