"""One process of a random tree: it reads commands, each a line of JSON, and answers each.

``python node.py ADDRESS NAME [--arm|--auto|--shell]``, or ``serve()`` in a forked child.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

SHELL = "while read -r line; do echo ok; done"

address = ""
channel: socket.socket | None = None
started: list[Any] = []  # keeps the objects of living children from being finalized
threads: dict[str, queue.SimpleQueue[Callable[[], None] | None]] = {}


def connect(name: str) -> None:
    """Connect to the test, under this name. A forked child closes its parent's connection first."""
    global channel
    if channel is not None:
        channel.close()
    channel = socket.socket(socket.AF_UNIX)
    channel.connect("\0" + address)
    channel.sendall(json.dumps([name, os.getpid()]).encode() + b"\n")


def serve(name: str, shell: bool = False) -> NoReturn:
    """Carry out commands until the connection ends, then exit.

    It never returns, because the caller may be any thread of a forked child.
    """
    threads.clear()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the kernel sends it to an orphaned group with a stopped member
    connect(name)
    assert channel is not None
    if shell:
        become_a_shell()
    with channel.makefile("r") as lines:
        for line in lines:
            try:
                carry_out(json.loads(line))
                answer = "ok"
            except BaseException as error:
                answer = f"{type(error).__name__}: {error}"
            channel.sendall(answer.replace("\n", " ").encode() + b"\n")
    os._exit(0)


def carry_out(command: dict[str, Any]) -> None:
    verb = command["do"]
    if verb == "spawn":
        on_thread(command["thread"], lambda: KINDS[command["kind"]](command["name"]))
    elif verb == "end thread":
        threads[command["thread"]].put(None)
        started_threads[command["thread"]].join()
    elif verb == "setsid":
        os.setsid()
    elif verb == "install":
        import pdeathsig

        pdeathsig.install()
    elif verb == "become a shell":
        become_a_shell()
    elif verb == "exit":
        os._exit(3)
    elif verb == "crash":
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)


started_threads: dict[str, threading.Thread] = {}


def on_thread(name: str, what: Callable[[], None]) -> None:
    """Call it on the thread of that name; "short" ends at once, any other but "main" stays."""
    if name == "main":
        what()
        return
    errors: list[BaseException] = []
    done = threading.Event()

    def call() -> None:
        try:
            what()
        except BaseException as error:
            errors.append(error)
        done.set()

    if name == "short":
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    else:
        if name not in threads:
            threads[name] = queue.SimpleQueue()
            started_threads[name] = threading.Thread(target=stay, args=(threads[name],), daemon=True)
            started_threads[name].start()
        threads[name].put(call)
        done.wait()
    if errors:
        raise errors[0]


def stay(calls: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (call := calls.get()) is not None:
        call()


def become_a_shell() -> None:
    assert channel is not None
    os.dup2(channel.fileno(), 0)
    os.dup2(channel.fileno(), 1)
    os.execv("/bin/sh", ["sh", "-c", SHELL])


def argv(name: str, *options: str) -> list[str]:
    return [sys.executable, __file__, address, name, *options]


def fork(name: str, arm: dict[str, Any] | None = None) -> None:
    if os.fork() == 0:
        try:
            if arm is not None:
                import pdeathsig

                pdeathsig.arm(**arm)
            serve(name)
        finally:
            os._exit(4)


def fork_twice(name: str) -> None:
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            fork(name)
        os._exit(0)
    os.waitpid(pid, 0)


def popen(name: str, *options: str, **keywords: Any) -> None:
    started.append(subprocess.Popen(argv(name, *options), **keywords))


def pdeathsig_popen(name: str, *options: str, **keywords: Any) -> None:
    import pdeathsig

    started.append(pdeathsig.Popen(argv(name, *options), **keywords))


def with_preexec(name: str) -> None:
    import pdeathsig

    popen(name, preexec_fn=pdeathsig.preexec())


def guarded(name: str, **keywords: Any) -> None:
    import pdeathsig

    started.append(subprocess.Popen(pdeathsig.guarded(argv(name), grace=0.2, **keywords)))


def in_a_family(name: str) -> None:
    popen(name, env={**os.environ, "PDEATHSIG": "KILL"})


PROCESSES = {
    "fork": multiprocessing.get_context("fork").Process,
    "spawn": multiprocessing.get_context("spawn").Process,
    "forkserver": multiprocessing.get_context("forkserver").Process,
}


def by_multiprocessing(name: str, method: str) -> None:
    process = PROCESSES[method](target=a_worker, args=(address, name))
    process.start()
    started.append(process)


def a_worker(where: str, name: str) -> None:
    global address
    import pdeathsig

    address = where
    pdeathsig.arm()
    serve(name)


KINDS: dict[str, Callable[[str], None]] = {
    "fork": fork,
    "fork, arm": lambda name: fork(name, {}),
    "fork, arm, TERM, grace": lambda name: fork(name, {"sig": signal.SIGTERM, "grace": 0.2}),
    "fork, arm, thread": lambda name: fork(name, {"parent": "thread"}),
    "fork twice": fork_twice,
    "subprocess": popen,
    "subprocess, shell": lambda name: popen(name, "--shell"),
    "subprocess, session": lambda name: popen(name, start_new_session=True),
    "subprocess, arm": lambda name: popen(name, "--arm"),
    "subprocess, auto": lambda name: popen(name, "--auto"),
    "preexec": with_preexec,
    "Popen": pdeathsig_popen,
    "Popen, shell": lambda name: pdeathsig_popen(name, "--shell"),
    "Popen, TERM": lambda name: pdeathsig_popen(name, pdeathsig=signal.SIGTERM),
    "Popen, group": lambda name: pdeathsig_popen(name, scope="group"),
    "Popen, tree": lambda name: pdeathsig_popen(name, scope="tree"),
    "Popen, tree, shell": lambda name: pdeathsig_popen(name, "--shell", scope="tree"),
    "Popen, grace": lambda name: pdeathsig_popen(name, grace=0.2, scope="tree"),
    "pdeathsig-run": lambda name: guarded(name, parent=None),
    "guarded": guarded,
    "family": in_a_family,
    "Process, fork": lambda name: by_multiprocessing(name, "fork"),
    "Process, spawn": lambda name: by_multiprocessing(name, "spawn"),
    "Process, forkserver": lambda name: by_multiprocessing(name, "forkserver"),
}


def main() -> None:
    global address
    address, name, *options = sys.argv[1:]
    sys.modules.setdefault("node", sys.modules["__main__"])  # multiprocessing imports it by that name
    if "--arm" in options:
        import pdeathsig

        pdeathsig.arm()
    if "--auto" in options:
        __import__("pdeathsig.auto")
    serve(name, "--shell" in options)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
