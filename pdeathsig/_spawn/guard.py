"""One guard that was started for a Popen, and the socket to it."""

import errno
import fcntl
import os
import select
import socket
import struct
from collections.abc import Sequence

from .._base import native
from .guard_command import executable

_MESSAGE = struct.Struct("=ii")  # struct message of c_src/guard
_STARTED, _EXEC_FAILED, _GUARD_FAILED = 1, 2, 3
_NOT_STARTED = 125  # its exit status
_O_PATH = getattr(os, "O_PATH", 0o10000000)  # PyPy has it not
_HIGH = 200  # out of the way of standard input, output and error


class Program:
    """The executable, to be started once, also by another user who may not reach it by its path."""

    def __init__(self, by_descriptor: bool) -> None:
        self.path = os.fsencode(executable())
        self.keep: "tuple[int, ...]" = ()
        if by_descriptor and os.path.exists("/proc/self/fd"):
            low = os.open(self.path, _O_PATH | os.O_CLOEXEC)
            try:
                fd = _moved_up(low)
            finally:
                os.close(low)
            self.path, self.keep = b"/proc/self/fd/%d" % fd, (fd,)

    def options(self) -> "list[str]":
        return [option for fd in self.keep for option in ("--close", str(fd))]

    def close(self) -> None:
        for fd in self.keep:
            os.close(fd)


def replace_report(errpipe_read: int, report: bytes) -> None:
    """Popen now reads this there. No pipe: a process that another thread forks meanwhile could keep that open."""
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.send(report)
        writer.shutdown(socket.SHUT_WR)
        os.dup2(reader.fileno(), errpipe_read, inheritable=False)


class Handle:
    """One guard that was started for a Popen: what it has said, and what it can be asked."""

    def __init__(self) -> None:
        self.pid = 0
        self.command_pid: "int | None" = None
        self._socket: "socket.socket | None" = None

    def offer(self, executables: "Sequence[bytes]") -> int:
        """Tell it what to try in turn. Returns its end of the socket, which the caller closes."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, _moved_up(ours))
            self._socket.setblocking(True)
            self._offer(b"".join(path + b"\0" for path in executables))
            return _moved_up(theirs)

    def _offer(self, paths: bytes) -> None:
        assert self._socket is not None
        try:
            self._socket.send(paths)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                raise OSError(errno.E2BIG, os.strerror(errno.E2BIG)) from None
            raise

    def answer(self) -> int:
        """Wait for its word on the command: 0: it runs; else the errno of exec. OSError: the guard itself failed."""
        what, value = self._read()
        if what == _GUARD_FAILED:
            raise OSError(value, f"{os.strerror(value)} (in the guard)")
        if what == _STARTED:
            self.command_pid = value
        elif what == 0 and self._has_refused():
            raise OSError(errno.EIO, "pdeathsig-run could not start; it has said why on stderr")
        return value if what == _EXEC_FAILED else 0

    def _read(self) -> "tuple[int, int]":
        assert self._socket is not None
        answer = self._receive(self._socket) if self._has_answered(self._socket) else b""
        if not answer:  # it could not be executed, or was killed: its exit status tells
            return 0, 0
        what, value = _MESSAGE.unpack(answer)
        return what, value

    def _has_refused(self) -> bool:
        """Whether it has ended without a word, as it does when it makes nothing of its options."""
        if not hasattr(os, "waitid"):  # PyPy: its exit status will tell
            return False
        try:
            end = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:  # reaped by somebody
            return False
        return end is not None and (end.si_code, end.si_status) == (os.CLD_EXITED, _NOT_STARTED)

    def _receive(self, ours: "socket.socket") -> bytes:
        """Its word, or nothing: it is gone. That it has gone without reading ours is told first, and once."""
        try:
            return ours.recv(_MESSAGE.size)
        except ConnectionResetError:
            return ours.recv(_MESSAGE.size)

    def _has_answered(self, ours: "socket.socket") -> bool:
        poll = select.poll()
        poll.register(ours, select.POLLIN)
        try:
            pidfd = native.pidfd_open(self.pid)  # a forked sibling of ours may hold its end of the socket
        except OSError:
            return bool(poll.poll())
        try:
            poll.register(pidfd, select.POLLIN)
            return ours.fileno() in dict(poll.poll())
        finally:
            os.close(pidfd)

    def send(self, sig: int) -> bool:
        """Signal the command; with SIGKILL, end all. False: the guard does not listen any more."""
        ours = self._socket
        try:
            return ours is not None and ours.send(_MESSAGE.pack(0, sig), socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT) > 0
        except OSError:
            return False

    def close(self) -> None:
        ours, self._socket = self._socket, None
        try:
            if ours is not None:
                ours.close()
        except OSError:
            pass  # somebody has closed what he did not know

    __del__ = close


def _moved_up(end: "socket.socket | int") -> int:
    try:
        return fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    except OSError:  # RLIMIT_NOFILE is lower
        return fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3)
