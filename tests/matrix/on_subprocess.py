"""subprocess."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rows import SHELL, SLEEP, main, on_a_thread, row, started, thread_gone

Popen = subprocess.Popen[bytes]
PYTHON = [sys.executable, "-c", "from rows import work; work()"]


def popen(args: Any, **options: Any) -> Popen:
    process = subprocess.Popen(args, **options)
    started(process.pid)
    return process


@row("`Popen`", 1, light=True)
def plain() -> Popen:
    return popen(SLEEP)


@row("`Popen(shell=True)`: a shell that starts a program", 2, light=True)
def shell() -> Popen:
    return popen(SHELL, shell=True)


@row("a pipeline", 3, light=True)
def pipeline() -> Popen:
    return popen(
        "sleep 1000 | sh -c 'echo $$ >$MATRIX_CHANNEL; exec cat' | sh -c 'echo $$ >$MATRIX_CHANNEL; exec cat'",
        shell=True,
    )


@row("from a `Thread` that ends", 1, light=True)
def thread() -> Popen:
    return on_a_thread(popen, SLEEP)


@row("a shell with a program, from a `Thread` that ends", 2, light=True)
def thread_shell() -> Popen:
    return on_a_thread(lambda: popen(SHELL, shell=True))


@row("from a `ThreadPoolExecutor` that is shut down", 4, light=True)
def thread_pool() -> list[Popen]:
    with ThreadPoolExecutor(4) as pool:
        processes = list(pool.map(popen, [SLEEP] * 4))
        threads = [thread.native_id for thread in pool._threads]
    for thread in threads:
        assert thread is not None
        thread_gone(thread)
    return processes


@row("`start_new_session=True`", 2, light=True)
def new_session() -> Popen:
    return popen(SHELL, shell=True, start_new_session=True)


@row("a shell with job control: its jobs lead groups of their own", 2, light=True)
def job_control() -> Popen:
    return popen(["bash", "-c", f"set -m; {SHELL}"])


@row("`setsid` behind a shell that has ended", 1, light=True, passing=r"^(/bin/)?sh |^setsid ")
def setsid_daemon() -> Popen:
    process = subprocess.Popen("(setsid sh -c 'echo $$ >$MATRIX_CHANNEL; exec sleep 1000' &)", shell=True)
    process.wait()
    return process


@row("`preexec_fn=os.setsid`", 2, light=True)
def preexec_fn() -> Popen:
    return popen(SHELL, shell=True, preexec_fn=os.setsid)


@row("`preexec_fn=os.setsid` on a `Thread` that ends", 2, light=True)
def thread_preexec_fn() -> Popen:
    return on_a_thread(lambda: popen(SHELL, shell=True, preexec_fn=os.setsid))


@row("a program that ignores SIGTERM, SIGHUP and SIGINT", 2, light=True)
def deaf() -> Popen:
    return popen(f"trap '' TERM HUP INT; {SHELL}", shell=True)


@row("a stopped program", 1, light=True)
def stopped() -> Popen:
    process = popen(SLEEP)
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    return process


@row("a Python that starts a program", 2, light=True)
def python() -> Popen:
    return subprocess.Popen(PYTHON)


@row("the same with a clean environment (`env={}`)", 2, light=True)
def clean_environment() -> Popen:
    return subprocess.Popen(PYTHON, env={name: os.environ[name] for name in ("MATRIX_CHANNEL", "PYTHONPATH", "PATH")})


@row("the same by `python -S`", 2, light=True)
def python_without_site() -> Popen:
    return subprocess.Popen([PYTHON[0], "-S", *PYTHON[1:]])


@row('`Popen(user="nobody")`', 2, needs=("root",), light=True)
def user() -> Popen:
    return popen(SHELL, shell=True, user="nobody", group="nogroup", extra_groups=[])


@row("`su`, its shell and that one's program", 3, needs=("root",), light=True)
def su() -> Popen:
    return popen(["su", "nobody", "-s", "/bin/sh", "-c", f"echo $$ >$MATRIX_CHANNEL; {SHELL}"])


@row("`su` from a `Thread` that ends", 3, needs=("root",), light=True)
def thread_su() -> Popen:
    return on_a_thread(su)


@row("`setpriv`, which changes its user", 2, needs=("root",), light=True)
def setpriv() -> Popen:
    return popen(["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "sh", "-c", SHELL])


@row("`env`, `nice`, `timeout` in front of a shell", 2, light=True)
def wrappers() -> Popen:
    return subprocess.Popen(["env", "nice", "timeout", "900", "sh", "-c", f"echo $$ >$MATRIX_CHANNEL; {SHELL}"])


if __name__ == "__main__":
    main()
