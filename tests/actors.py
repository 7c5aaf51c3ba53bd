"""What the processes that the tests start have at hand. harness.start() runs ``from actors import *`` first.

They all write to one pipe, which every descendant inherits: a line per event, and EOF when the last one is gone.
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
RLIMIT_SIGPENDING = 11  # PyPy's resource has it not

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
    """One event."""
    os.write(CHANNEL, (" ".join(map(str, words)) + "\n").encode())


def here(name: str) -> None:
    """``name`` is ready, and this is its PID."""
    say(name, os.getpid())


def wait() -> str:
    """The next line that the test sends."""
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
    """Another actor, a child of this process."""
    return subprocess.Popen([sys.executable, *args, "-c", f"from actors import *\n{code}"], **options)


def behind_a_shell(code: str) -> None:
    """Another actor, a child of a shell that is a child of this process."""
    subprocess.Popen(["sh", "-c", '"$0" -c "$1"; :', sys.executable, f"from actors import *\n{code}"])


def raw_pdeathsig(sig: int = signal.SIGKILL) -> None:
    """The home-made recipe."""
    libc.prctl(1, sig)


def double_fork(code: str, *, outlive_me: bool = False) -> None:
    """By way of a shell, start an actor whose parent, the shell, is gone before its Python starts; so is this process
    if it is to outlive us."""
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
