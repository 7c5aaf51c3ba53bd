"""The functions of os and pty that start processes."""

from __future__ import annotations

import os
import pty
import shlex
import signal
import subprocess
import sys
import threading
from typing import Any, NoReturn

from rows import SHELL, SLEEP, compute, main, on_a_thread, row, started, work


def child(body: Any) -> NoReturn:
    try:
        body()
    finally:
        os._exit(0)


@row("`os.fork`", 2, light=True)
def fork() -> int:
    return os.fork() or child(work)


@row("`os.fork` on a `Thread` that ends", 2, light=True)
def thread_fork() -> int:
    return on_a_thread(fork)


@row("`os.fork`, `os.execvp`", 2, light=True)
def fork_exec() -> int:
    return os.fork() or child(lambda: os.execvp("sh", ["sh", "-c", f"echo $$ >$MATRIX_CHANNEL; {SHELL}"]))


@row("`os.fork`, `os.execvp` on a `Thread` that ends", 2, light=True)
def thread_fork_exec() -> int:
    return on_a_thread(fork_exec)


@row("a daemon: `os.fork`, `os.setsid`, `os.fork`", 2, light=True, limit=10)
def daemon() -> None:
    def middle() -> None:
        os.setsid()
        os.fork() or child(work)

    pid = os.fork() or child(middle)
    os.waitpid(pid, 0)


@row("`os.spawnlp`", 2, light=True)
def spawn() -> int:
    pid = os.spawnlp(os.P_NOWAIT, "sh", "sh", "-c", SHELL)
    started(pid)
    return pid


@row("`os.spawnlp` on a `Thread` that ends", 2, light=True)
def thread_spawn() -> int:
    return on_a_thread(spawn)


@row("`os.posix_spawn`", 2, light=True)
def posix_spawn() -> int:
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", SHELL], os.environ)
    started(pid)
    return pid


@row("`os.posix_spawn` on a `Thread` that ends", 2, light=True)
def thread_posix_spawn() -> int:
    return on_a_thread(posix_spawn)


@row("`os.posix_spawnp(setsid=True)`", 2, light=True)
def posix_spawn_session() -> int:
    pid = os.posix_spawnp("sh", ["sh", "-c", SHELL], os.environ, setsid=True, setsigdef=[signal.SIGINT])
    started(pid)
    return pid


@row("`os.system`", 2, light=True)
def system() -> None:
    threading.Thread(target=os.system, args=(f"echo $$ >$MATRIX_CHANNEL; {SHELL}",)).start()


@row("`os.popen`", 2, light=True)
def popen() -> Any:
    return os.popen(f"echo $$ >$MATRIX_CHANNEL; {SHELL}")


@row("`pty.fork`", 2, light=True)
def pty_fork() -> Any:
    pid, terminal = pty.fork()
    if pid == 0:
        child(lambda: os.execvp("sh", ["sh", "-c", f"trap '' HUP; echo $$ >$MATRIX_CHANNEL; {SHELL}"]))
    return pid, terminal


@row("`pty.fork` on a `Thread` that ends", 2, light=True)
def thread_pty_fork() -> Any:
    return on_a_thread(pty_fork)


@row("`os.forkpty`, and Python in it", 1, light=True)
def forkpty() -> Any:
    pid, terminal = os.forkpty()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        child(compute)
    return pid, terminal


@row("`os.execvp` of the program itself after `Popen`", 1, light=True)
def exec_self() -> None:
    process = subprocess.Popen(SLEEP)
    code = f"import signal; from rows import *; started({process.pid}); ready(); signal.pause()"
    os.execvp(sys.executable, [sys.executable, "-c", code])


@row("`nohup` and `&` in a shell that has ended", 1, light=True, passing=r"^sh ")
def nohup() -> None:
    os.system("nohup sh -c " + shlex.quote("echo $$ >$MATRIX_CHANNEL; exec sleep 1000") + " >/dev/null 2>&1 &")


if __name__ == "__main__":
    main()
