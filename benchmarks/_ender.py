"""The process that starts trees and ends them in one way, for benchmarks/ending.py.

It reads sizes, a line each, and answers with a line: the milliseconds from the request to end the
tree until all of its processes are gone and reaped.

_ender.py WAY GUARD CGROUP SLEEPERS...: GUARD is pdeathsig-run, CGROUP a cgroup directory or "", and
SLEEPERS the command of sleepers.c or sleepers.py.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import psutil  # type: ignore[import-untyped, unused-ignore]

import pdeathsig

PR_SET_CHILD_SUBREAPER = 36
WAY, GUARD, CGROUP, *SLEEPERS = sys.argv[1:]
GRACE = 60  # seconds; a process that does not end at the signal would make the result stand out

Ask = Callable[[], None]


class Tree:
    """A tree of that many processes, all asleep."""

    def __init__(self, size: int, *prefix: str, pass_fds: tuple[int, ...] = ()) -> None:
        pipe = subprocess.PIPE
        command = [*prefix, *SLEEPERS, str(size)]
        self.root = subprocess.Popen(command, stdin=pipe, stdout=pipe, bufsize=0, pass_fds=pass_fds)
        assert self.root.stdout is not None
        left = size
        while left > 0:
            ready = len(os.read(self.root.stdout.fileno(), 65536))
            if ready == 0:
                raise SystemExit(f"{left} of {size} processes are missing")
            left -= ready

    def milliseconds(self, ask: Ask) -> float:
        begin = time.perf_counter()
        ask()
        reap_all()
        took = (time.perf_counter() - begin) * 1e3
        self.root.returncode = 0  # it has been reaped
        assert self.root.stdin is not None and self.root.stdout is not None
        self.root.stdin.close()
        self.root.stdout.close()
        return took


def reap_all() -> None:
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        return


def by_guard(size: int, sig: str) -> float:
    """Ask by closing the lifeline's last write end, as the death of the library's process does."""
    lifeline, ours = os.pipe()
    prefix = [GUARD, "--signal", sig, "--grace", str(GRACE), "--lifeline", str(lifeline), "--"]
    tree = Tree(size, *prefix, pass_fds=(lifeline,))
    os.close(lifeline)
    return tree.milliseconds(lambda: os.close(ours))


def by_kill_tree(size: int, sig: int) -> float:
    tree = Tree(size)
    return tree.milliseconds(lambda: ended_all(pdeathsig.kill_tree(tree.root, sig, GRACE), size))


def ended_all(ended: pdeathsig.Ended, size: int) -> None:
    if len(ended.signalled) != size or ended.killed or ended.left:
        raise SystemExit(f"kill_tree of {size}: {ended}")


def by_psutil(size: int) -> float:
    """The recipe of psutil's documentation. As a subreaper, this process can wait for each end."""
    tree = Tree(size)

    def ask() -> None:
        root = psutil.Process(tree.root.pid)
        processes = [*root.children(recursive=True), root]
        for process in processes:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass
        psutil.wait_procs(processes)

    return tree.milliseconds(ask)


def by_cgroup(size: int) -> float:
    tree = Tree(size, "/bin/sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', CGROUP)

    def ask() -> None:
        with open(f"{CGROUP}/cgroup.kill", "w") as file:
            file.write("1")

    return tree.milliseconds(ask)


WAYS: dict[str, Callable[[int], float]] = {
    "cgroup": by_cgroup,
    "guard": lambda size: by_guard(size, "KILL"),
    "guard, TERM": lambda size: by_guard(size, "TERM"),
    "kill_tree": lambda size: by_kill_tree(size, signal.SIGKILL),
    "kill_tree, TERM": lambda size: by_kill_tree(size, signal.SIGTERM),
    "psutil": by_psutil,
}


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    for line in sys.stdin:
        print(WAYS[WAY](int(line)), flush=True)


if __name__ == "__main__":
    main()
