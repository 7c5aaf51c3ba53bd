"""The functions for the processes that the tests start: harness.start() runs ``from actors import
*``.

Every descendant inherits one pipe. The processes write a line per event, and the pipe ends when the
last of them is gone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

libc = ctypes.CDLL(None, use_errno=True)
RLIMIT_SIGPENDING = 11  # the module resource of PyPy lacks it

__all__ = [
    "RLIMIT_SIGPENDING",
    "behind_a_shell",
    "ctypes",
    "double_fork",
    "forever",
    "here",
    "libc",
    "os",
    "pidfd_open",
    "python",
    "raw_pdeathsig",
    "say",
    "signal",
    "subprocess",
    "sys",
    "threading",
    "wait",
]

CHANNEL = 1


def say(*words: object) -> None:
    """Report one event."""
    os.write(CHANNEL, (" ".join(map(str, words)) + "\n").encode())


def here(name: str) -> None:
    """Report that this process, ``name``, is ready, and its PID."""
    say(name, os.getpid())


def wait() -> str:
    """Wait for the next line from the test, and return it."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            break
        line += byte
    return line.decode().strip()


def pidfd_open(pid: int) -> int:
    """``os.pidfd_open``, which PyPy has not."""
    if hasattr(os, "pidfd_open"):
        return os.pidfd_open(pid)
    pidfd = int(libc.syscall(434, pid, 0))
    if pidfd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return pidfd


def forever() -> NoReturn:
    while True:
        signal.pause()


def python(code: str, *args: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start another such process, a child of this one."""
    return subprocess.Popen([sys.executable, *args, "-c", f"from actors import *\n{code}"], **options)


def behind_a_shell(code: str) -> None:
    """Start another such process, the child of a shell that is a child of this one."""
    subprocess.Popen(["sh", "-c", '"$0" -c "$1"; :', sys.executable, f"from actors import *\n{code}"])


def raw_pdeathsig(sig: int = signal.SIGKILL) -> None:
    """Bind this process by prctl alone, as the usual recipe does."""
    libc.prctl(1, sig)


def double_fork(code: str, *, outlive_me: bool = False) -> None:
    """Start another such process by a shell that is gone before the Python of the process starts.

    :param outlive_me: wait for the end of this process, too.
    """
    gate, holder = os.pipe()
    script = f'{{ read _; exec "$0" -c "$1"; }} <&{gate} {holder}>&- &'
    command = ["sh", "-c", script, sys.executable, f"from actors import *\n{code}"]
    subprocess.run(command, pass_fds=[gate, holder], check=True)
    os.close(gate)
    if not outlive_me:
        os.close(holder)


def child_of_a_pool() -> NoReturn:
    """The target of a multiprocessing Process."""
    here("child")
    forever()
