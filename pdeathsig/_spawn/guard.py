"""The guard of one Popen: its executable, and the socket by which it reports and takes signals."""

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
from collections.abc import Iterator, Sequence

from .._base import native
from .guard_command import executable

_MESSAGE = struct.Struct("=ii")  # struct message of c_src/guard
_STARTED, _EXEC_FAILED, _GUARD_FAILED = 1, 2, 3
_NOT_STARTED = 125  # the guard's exit status
_O_PATH = getattr(os, "O_PATH", 0o10000000)  # PyPy lacks it
_HIGH = 200  # above standard input, output and error, which the child's are moved to


@contextlib.contextmanager
def open_executable(by_descriptor: bool) -> "Iterator[tuple[bytes, list[int]]]":
    """The path of the guard's executable for one start, and what the guard inherits for that.

    :param by_descriptor: for a child that changes its user, which may not reach the path itself.
    """
    path = os.fsencode(executable())
    if not by_descriptor or not os.path.exists("/proc/self/fd"):
        yield path, []
        return
    low = os.open(path, _O_PATH | os.O_CLOEXEC)
    try:
        fd = _dup_high(low)
    finally:
        os.close(low)
    try:
        yield b"/proc/self/fd/%d" % fd, [fd]
    finally:
        os.close(fd)


def report_to_popen(errpipe_read: int, report: bytes) -> None:
    """Have CPython's Popen read ``report`` at ``errpipe_read``, the read end of its error pipe.

    A socket takes the place of the pipe: it can be shut down. The end of a pipe would not come
    while a process that another thread has forked meanwhile holds the write end.
    """
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.send(report)
        writer.shutdown(socket.SHUT_WR)
        os.dup2(reader.fileno(), errpipe_read, inheritable=False)


class Handle:
    """A guard that was started for a Popen."""

    def __init__(self) -> None:
        self.pid = 0
        self.command_pid: "int | None" = None
        self._socket: "socket.socket | None" = None

    @contextlib.contextmanager
    def offer(self, executables: "Sequence[bytes]") -> "Iterator[int]":
        """Send what to execute, tried in turn. Yields the guard's end of the socket."""
        ours, guards = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, guards:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, _dup_high(ours))
            self._socket.setblocking(True)
            try:
                self._socket.send(b"".join(path + b"\0" for path in executables))
            except OSError as error:
                if error.errno == errno.EMSGSIZE:
                    raise OSError(errno.E2BIG, os.strerror(errno.E2BIG)) from None
                raise
            guards_end = _dup_high(guards)
        try:
            yield guards_end
        finally:
            os.close(guards_end)

    def wait_for_start(self) -> int:
        """Wait for the guard's report on the command. Returns the errno of exec; 0: it runs.

        Also 0 if the guard was killed or could not be executed: its exit status tells.
        Raises OSError if the guard itself failed.
        """
        message = self._receive()
        if message is None:
            if self._rejected_its_options():
                raise OSError(errno.EIO, "pdeathsig-run could not start; its error message is on stderr")
            return 0
        what, value = message
        if what == _GUARD_FAILED:
            raise OSError(value, f"{os.strerror(value)} (in the guard)")
        if what == _STARTED:
            self.command_pid = value
        return value if what == _EXEC_FAILED else 0

    def _receive(self) -> "tuple[int, int] | None":
        """Wait for a message. None: the guard has ended without one."""
        ours = self._socket
        if ours is None or not self._has_message(ours):
            return None
        try:
            message = ours.recv(_MESSAGE.size)
        except ConnectionResetError:
            # Told once, if the guard has ended without reading ours. Its own message comes next.
            message = ours.recv(_MESSAGE.size)
        if not message:
            return None
        what, value = _MESSAGE.unpack(message)
        return what, value

    def _has_message(self, ours: "socket.socket") -> bool:
        poll = select.poll()
        poll.register(ours, select.POLLIN)
        try:
            # The socket alone does not tell: a forked child of ours may hold the guard's end.
            pidfd = native.pidfd_open(self.pid)
        except OSError:
            return bool(poll.poll())
        try:
            poll.register(pidfd, select.POLLIN)
            return ours.fileno() in dict(poll.poll())
        finally:
            os.close(pidfd)

    def _rejected_its_options(self) -> bool:
        if not hasattr(os, "waitid"):  # PyPy: its exit status tells
            return False
        try:
            end = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:  # other code has reaped it
            return False
        return end is not None and (end.si_code, end.si_status) == (os.CLD_EXITED, _NOT_STARTED)

    def send(self, sig: int) -> bool:
        """Send the command a signal; SIGKILL ends all. False: the guard does not listen."""
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
            pass  # other code has closed a descriptor that it did not open

    __del__ = close


def _dup_high(end: "socket.socket | int") -> int:
    try:
        return fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    except OSError:  # RLIMIT_NOFILE is lower
        return fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3)
