"""Set-ups with faults, which test the runner: it has to find each of them."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from rows import SLEEP, main, on_a_thread, row, started


@row(
    "hangs before it is ready, with a child in a session and with an environment of its own",
    1,
    limit=2,
    expects="error",
)
def hang() -> None:
    subprocess.Popen(SLEEP, start_new_session=True, env={})
    signal.pause()


@row("ends before it is ready", 1, expects="error")
def crash() -> None:
    os._exit(3)


@row("the parent's death is noticed", 1, expects="some")
def survivor() -> Any:
    process = subprocess.Popen(SLEEP)
    started(process.pid)
    return process


@row("a child that dies with its thread", 1, expects="false kill")
def false_kill() -> Any:
    import ctypes

    def body() -> Any:
        process = subprocess.Popen(SLEEP, preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL))
        started(process.pid)
        return process

    return on_a_thread(body)


@row("a file in /dev/shm", 0, expects="shm")
def shm() -> None:
    Path("/dev/shm", f"matrix-{os.getpid()}").touch()


if __name__ == "__main__":
    main()
