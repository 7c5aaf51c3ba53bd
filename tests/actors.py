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
from typing import Any, NoReturn

libc = ctypes.CDLL(None, use_errno=True)

__all__ = [
    "ctypes",
    "double_fork",
    "forever",
    "here",
    "libc",
    "os",
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


def forever() -> NoReturn:
    while True:
        signal.pause()


def python(code: str, *args: str, **options: Any) -> subprocess.Popen[bytes]:
    """Another actor, a child of this process."""
    return subprocess.Popen([sys.executable, *args, "-c", f"from actors import *\n{code}"], **options)


def raw_pdeathsig(sig: int = signal.SIGKILL) -> None:
    """The home-made recipe."""
    libc.prctl(1, sig)


def double_fork(code: str) -> None:
    """Start an actor that is no descendant of ours any more when it runs."""
    script = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]])"
    subprocess.run(
        [sys.executable, "-S", "-c", script, f"import os\nos.read({_gate()}, 1)\nfrom actors import *\n{code}"],
        check=True,
    )


def _gate() -> int:
    raise NotImplementedError
