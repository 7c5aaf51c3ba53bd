"""Count the forked children that hang, while four threads do what subprocess does before each exec.

This tests CPython alone, without pdeathsig.
"""

from __future__ import annotations

import os
import platform
import signal
import threading
import warnings

FORKS, PATIENCE = 300, 2  # seconds
SEARCHED = {"PATH": "/bin"}


def search() -> None:
    while True:
        os.get_exec_path(SEARCHED)


def hangs() -> bool:
    pid = os.fork()
    if pid == 0:
        signal.alarm(PATIENCE)
        os.get_exec_path(SEARCHED)
        os._exit(0)
    return os.waitpid(pid, 0)[1] != 0


def main() -> None:
    warnings.simplefilter("ignore")
    for _ in range(4):
        threading.Thread(target=search, daemon=True).start()
    hung = tried = 0
    while tried < FORKS and hung < 4:
        tried += 1
        hung += hangs()
    print(f"{platform.python_version()}: {hung} of {tried} forked children hung", flush=True)
    os._exit(0)


main()
