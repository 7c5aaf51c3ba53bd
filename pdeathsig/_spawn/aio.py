"""asyncio's create_subprocess_exec and _shell with the binding, on any event loop: of the loop itself only what all
loops have in public is used, so uvloop, which starts processes in its own way, is served too."""

import asyncio
import os
import subprocess
import threading
from asyncio import base_events, base_subprocess, streams
from asyncio.subprocess import SubprocessStreamProtocol
from typing import TYPE_CHECKING, Any

from .._base import native
from .binding import KILL
from .popen import Popen

if TYPE_CHECKING:
    from .guard_command import Scope

_LIMIT: int = streams._DEFAULT_LIMIT  # type: ignore[attr-defined]


async def create_subprocess_exec(
    program: Any,
    *args: Any,
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    limit: int = _LIMIT,
    pdeathsig: "int | None" = KILL,
    scope: "Scope" = "child",
    grace: "float | None" = None,
    **kwds: Any,
) -> "Process":
    """``asyncio.create_subprocess_exec`` whose child dies with this process, whichever thread the loop runs on.

    Takes and returns what asyncio's own does; ``pdeathsig`` and ``scope`` are those of ``pdeathsig.Popen``. The end of
    the child is watched by its pidfd, where there is one, and else by a thread.
    """
    kwds.update(stdin=stdin, stdout=stdout, stderr=stderr, pdeathsig=pdeathsig, scope=scope, grace=grace)
    return await _create(base_events.BaseEventLoop.subprocess_exec, limit, (program, *args), kwds)


async def create_subprocess_shell(
    cmd: "str | bytes",
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    limit: int = _LIMIT,
    pdeathsig: "int | None" = KILL,
    scope: "Scope" = "child",
    grace: "float | None" = None,
    **kwds: Any,
) -> "Process":
    """``asyncio.create_subprocess_shell`` whose child dies with this process; with ``scope="group"`` all of a pipeline
    does. For the rest see ``create_subprocess_exec``.
    """
    kwds.update(stdin=stdin, stdout=stdout, stderr=stderr, pdeathsig=pdeathsig, scope=scope, grace=grace)
    return await _create(base_events.BaseEventLoop.subprocess_shell, limit, (cmd,), kwds)


async def _create(start: Any, limit: int, args: "tuple[Any, ...]", kwds: "dict[str, Any]") -> "Process":
    loop = asyncio.get_running_loop()
    # CPython's own method checks the arguments and logs; all it needs of a loop is in Starter.
    transport, protocol = await start(
        Starter(loop, _Transport), lambda: SubprocessStreamProtocol(limit=limit, loop=loop), *args, **kwds
    )
    return Process(transport, protocol, loop)


class Process(asyncio.subprocess.Process):
    """``asyncio.subprocess.Process``, and the PID of the program itself where a guard is between."""

    @property
    def command_pid(self) -> int:
        popen: Popen = self._transport.get_extra_info("subprocess")  # type: ignore[attr-defined]
        return popen.command_pid


class Starter:
    """What BaseEventLoop.subprocess_exec and _shell ask of a loop, for any."""

    _log_subprocess = base_events.BaseEventLoop._log_subprocess  # type: ignore[attr-defined]

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: "type[_Transport]") -> None:
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


class _Transport(base_subprocess.BaseSubprocessTransport):
    _Popen: "type[subprocess.Popen[Any]]" = Popen

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

    def ended(self) -> None:
        """The child is a zombie, or reaped by somebody."""
        if self._returncode is None:
            self._process_exited(self._popen.wait())

    @property
    def _popen(self) -> "subprocess.Popen[bytes]":
        popen: "subprocess.Popen[bytes]" = self.get_extra_info("subprocess")
        return popen


class PlainTransport(_Transport):
    """Whose child is bound as all that subprocess starts are, if they are."""

    _Popen = subprocess.Popen


class _Pidfd:
    """A descriptor that goes with the last who knows it: a loop may be closed before the child ends."""

    def __init__(self, pid: int) -> None:
        self._fd = -1
        self._fd = native.pidfd_open(pid)

    def fileno(self) -> int:
        return self._fd

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def _watch(loop: asyncio.AbstractEventLoop, transport: _Transport) -> None:
    try:
        pidfd = _Pidfd(transport._popen.pid)
    except OSError:  # before Linux 5.3, refused, or no descriptor left
        threading.Thread(target=_wait, args=(loop, transport), daemon=True).start()
        return

    def ended() -> None:
        loop.remove_reader(pidfd)
        transport.ended()

    loop.add_reader(pidfd, ended)


def _wait(loop: asyncio.AbstractEventLoop, transport: _Transport) -> None:
    transport._popen.wait()
    try:
        loop.call_soon_threadsafe(transport.ended)
    except RuntimeError:
        pass  # the loop is closed, and nobody waits
