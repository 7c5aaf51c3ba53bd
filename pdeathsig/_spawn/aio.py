"""asyncio's create_subprocess_exec and create_subprocess_shell, with the child bound.

Of an event loop only public methods are used. So uvloop's, which starts processes in its own way,
is served too.
"""

import asyncio
import os
import subprocess
import threading
from asyncio import base_events, base_subprocess, streams
from asyncio.subprocess import SubprocessStreamProtocol
from signal import SIGKILL, SIGTERM
from typing import TYPE_CHECKING, Any

from .._base import native
from .._base.signatures import shows_parameters_of
from .binding import KILL
from .popen import Popen

if TYPE_CHECKING:
    from .guard_command import Scope

_LIMIT: int = streams._DEFAULT_LIMIT  # type: ignore[attr-defined]


@shows_parameters_of(
    asyncio.create_subprocess_exec, base_events.BaseEventLoop.subprocess_exec, Popen, first="program *args"
)
async def create_subprocess_exec(
    program: Any,
    *args: Any,
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    limit: int = _LIMIT,
    pdeathsig: "int | str | None" = KILL,
    scope: "Scope | None" = None,
    grace: "float | None" = None,
    **kwds: Any,
) -> "Process":
    """Start a program as ``asyncio.create_subprocess_exec`` does; it dies with this process.

    It does so whichever thread the loop runs on. All arguments but three are asyncio's;
    ``pdeathsig``, ``scope`` and ``grace`` are those of ``pdeathsig.Popen``. Returns what asyncio's
    function returns, with ``guard_pid``. The end of the child, or of its guard, is watched by its
    pidfd, or by a thread where there are no pidfds.

    Raises what ``pdeathsig.Popen`` raises.
    """
    kwds.update(stdin=stdin, stdout=stdout, stderr=stderr, pdeathsig=pdeathsig, scope=scope, grace=grace)
    return await _create(base_events.BaseEventLoop.subprocess_exec, limit, (program, *args), kwds)


@shows_parameters_of(
    asyncio.create_subprocess_shell,
    base_events.BaseEventLoop.subprocess_shell,
    Popen,
    first="cmd stdin stdout stderr limit",
)
async def create_subprocess_shell(
    cmd: "str | bytes",
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    limit: int = _LIMIT,
    *,
    pdeathsig: "int | str | None" = KILL,
    scope: "Scope | None" = None,
    grace: "float | None" = None,
    **kwds: Any,
) -> "Process":
    """Start a shell as ``asyncio.create_subprocess_shell`` does; it dies with this process.

    So does all that the shell starts, and it ends with the shell: the scope is ``"tree"`` unless
    ``scope`` says otherwise. For the rest see ``create_subprocess_exec``.
    """
    kwds.update(stdin=stdin, stdout=stdout, stderr=stderr, pdeathsig=pdeathsig, scope=scope, grace=grace)
    return await _create(base_events.BaseEventLoop.subprocess_shell, limit, (cmd,), kwds)


async def _create(start: Any, limit: int, args: "tuple[Any, ...]", kwds: "dict[str, Any]") -> "Process":
    loop = asyncio.get_running_loop()
    # CPython's own method checks the arguments and logs. All that it needs of a loop is in Starter.
    transport, protocol = await start(
        Starter(loop, _BoundTransport), lambda: SubprocessStreamProtocol(limit=limit, loop=loop), *args, **kwds
    )
    return Process(transport, protocol, loop)


class Process(asyncio.subprocess.Process):
    """``asyncio.subprocess.Process``, and the PID of the guard."""

    @property
    def guard_pid(self) -> "int | None":
        """The PID of the guard, which is this process's child; None: there is no guard."""
        popen: Popen = self._transport.get_extra_info("subprocess")  # type: ignore[attr-defined]
        return popen.guard_pid

    @property
    def command_pid(self) -> int:
        """The PID of the program: ``pid``."""
        return self.pid


class Starter:
    """What BaseEventLoop.subprocess_exec and subprocess_shell need of a loop, for any loop."""

    _log_subprocess = base_events.BaseEventLoop._log_subprocess  # type: ignore[attr-defined]

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: "type[SubprocessTransport]") -> None:
        self._loop, self._debug, self._transport = loop, loop.get_debug(), transport

    async def _make_subprocess_transport(self, *args: Any, **kwds: Any) -> Any:
        connected = self._loop.create_future()
        transport = self._transport(self._loop, *args, **{**kwds, "waiter": connected})
        _watch(self._loop, transport)
        try:
            await connected
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await asyncio.shield(transport._wait())
            raise
        return transport


class SubprocessTransport(base_subprocess.BaseSubprocessTransport):
    """A child that ``subprocess`` starts. It is bound if those are."""

    _Popen: "type[subprocess.Popen[Any]]" = subprocess.Popen

    def _start(self, args: Any, shell: bool, stdin: Any, stdout: Any, stderr: Any, bufsize: int, **kwds: Any) -> None:
        self._proc = self._Popen(
            args,
            shell=shell,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            universal_newlines=False,
            bufsize=bufsize,
            **kwds,
        )

    def on_end(self) -> None:
        """The child has ended. Other code may have reaped it."""
        if self._returncode is None:
            self._process_exited(self.popen.wait())

    @property
    def popen(self) -> "subprocess.Popen[bytes]":
        popen: "subprocess.Popen[bytes]" = self.get_extra_info("subprocess")
        return popen


class _BoundTransport(SubprocessTransport):
    _Popen = Popen

    def send_signal(self, signal: int) -> None:
        """As Popen does, by the guard. Newer versions of asyncio use kill(2)."""
        self._check_proc()
        self.popen.send_signal(signal)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to the whole scope."""
        self.send_signal(SIGKILL)


class _Pidfd:
    """A pidfd, closed with the last reference: a loop may be closed before the child ends."""

    def __init__(self, pid: int) -> None:
        self._fd = -1
        self._fd = native.pidfd_open(pid)

    def fileno(self) -> int:
        return self._fd

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def _watch(loop: asyncio.AbstractEventLoop, transport: SubprocessTransport) -> None:
    try:
        popen = transport.popen
        pidfd = _Pidfd(getattr(popen, "guard_pid", None) or popen.pid)
    except OSError:  # before Linux 5.3, refused, or no descriptor left
        threading.Thread(target=_wait_on_thread, args=(loop, transport), daemon=True).start()
        return

    def on_readable() -> None:
        loop.remove_reader(pidfd)
        transport.on_end()

    loop.add_reader(pidfd, on_readable)


def _wait_on_thread(loop: asyncio.AbstractEventLoop, transport: SubprocessTransport) -> None:
    transport.popen.wait()
    try:
        loop.call_soon_threadsafe(transport.on_end)
    except RuntimeError:
        pass  # the loop is closed, and nothing awaits the child
