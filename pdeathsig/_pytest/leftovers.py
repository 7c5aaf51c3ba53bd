"""Kill the processes that tests and fixtures have left behind, and describe them."""

import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from .._base import native, procfs
from .._kill import tree
from .libraries import process_objects, reap, terminate_pools

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .ownership import Leftover, OwnedProcesses, Owner

PATIENCE = 1.0  # seconds for processes that are about to end, as after terminate() without wait()
_PAUSE = 0.005  # seconds between two looks
_ROUNDS = 10  # of killing processes that are started in place of the killed ones
_LONGEST_NAME = 200


def kill_leftovers(processes: "OwnedProcesses", owners: "list[Owner]") -> str:
    """Kill the processes of these owners that do not end in a moment.

    Returns a text that describes them; an empty one if there were none.
    """
    until = time.monotonic() + PATIENCE
    while (leftovers := processes.find_leftovers(owners)) and time.monotonic() < until:
        time.sleep(_PAUSE)
    text = "\n".join(_describe(leftovers))
    for _ in range(_ROUNDS):
        if not leftovers:
            break
        _kill(leftovers)
        leftovers = processes.find_leftovers(owners)
    if leftovers:
        pids = ", ".join(str(one.pid) for one in leftovers)
        text += f"\nStill there, as they may not be killed, or come back: {pids}"
    processes.forget(owners)
    return text


def _kill(leftovers: "list[Leftover]") -> None:
    pids = {one.pid for one in leftovers}
    objects = process_objects()
    terminate_pools(objects, pids)
    _send_sigkill(leftovers)
    reap(objects, pids)
    for one in leftovers:
        if one.process.parent == os.getpid():
            with suppress(ChildProcessError):
                os.waitpid(one.pid, os.WNOHANG)


def _send_sigkill(leftovers: "list[Leftover]") -> None:
    """Kill them and all below, and wait for their end.

    Without the compiled extension only they are killed, by PIDs compared with their start time.
    What they start meanwhile is found and killed in the next round.
    """
    if native.backend == "compiled":
        tree.end_now(one.identity for one in leftovers)
        return
    for one in leftovers:
        with suppress(OSError):  # it has ended, or may not be killed
            if procfs.lives(*one.identity):
                os.kill(one.pid, signal.SIGKILL)
    until = time.monotonic() + PATIENCE
    while any(procfs.lives(*one.identity) for one in leftovers) and time.monotonic() < until:
        time.sleep(_PAUSE)


def _describe(leftovers: "list[Leftover]") -> "Iterator[str]":
    for owner in dict.fromkeys(one.owner for one in leftovers):
        its_own = [one for one in leftovers if one.owner is owner]
        what = "1 process" if len(its_own) == 1 else f"{len(its_own)} processes"
        yield f"{owner.name} left {what} behind (killed):"
        for one in its_own:
            yield from _describe_one(one)


def _describe_one(one: "Leftover") -> "Iterator[str]":
    parent = one.process.parent
    forked = ", forked from pytest" if one.forked_from_us else ""
    stopped = ", stopped" if one.process.state == "T" else ""
    yield f"  {one.pid}  {_name(one.pid)}{forked}{stopped}"
    if one.parent_is_ours:
        yield f"      child of {parent}{' (pytest)' if parent == os.getpid() else f'  {_name(parent)}'}"
    else:
        yield f"      orphan: the process that started it has ended; now a child of {parent}"
    test = procfs.variable(one.pid, "PYTEST_CURRENT_TEST")
    if test:
        yield f"      started in {test}"


def _name(pid: int) -> str:
    """Return its command line, shortened, or the kernel's name for it if it has none."""
    words = " ".join(procfs.command(pid)) or f"[{procfs.name(pid)}]"
    line = " ".join(words.split())
    return line if len(line) <= _LONGEST_NAME else f"{line[:_LONGEST_NAME]}..."
