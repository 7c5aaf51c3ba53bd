"""A parent, for benchmarks/spawn.py: it reads requests, a line of JSON each, measures, and answers.

_spawner.py BYTES: the memory that it touches, in pages of 4 KiB like those of a Python heap.
"""

from __future__ import annotations

import json
import mmap
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

sys.path.append(str(Path(__file__).resolve().parent.parent))  # last, so that the installed pdeathsig is imported

import pdeathsig
from benchmarks._side_by_side import alternate

Start = Callable[[list[str]], "subprocess.Popen[Any]"]
Result = TypeVar("Result")

TRUE = ["/bin/true"]
UNDISTURBED_SECONDS = 0.5
SPAWNS = 128

STARTS: dict[str, Start] = {
    "subprocess": subprocess.Popen,
    "pdeathsig": pdeathsig.Popen,
    "preexec_fn": partial(subprocess.Popen, preexec_fn=pdeathsig.preexec()),
    "setpriv": lambda command: subprocess.Popen([str(shutil.which("setpriv")), "--pdeathsig", "KILL", *command]),
}


def spawn_and_wait(ways: list[str], thread: str, rounds: int, seed: int) -> dict[str, list[float]]:
    """The milliseconds of each start.

    Before each timed start there is an untimed one in the same way. It leaves the caches as that
    way does, and pays for the pages that are copied after a fork in another way.
    """

    def sample(start: Start) -> float:
        start(TRUE).wait()
        begin = time.perf_counter()
        start(TRUE).wait()
        return (time.perf_counter() - begin) * 1e3

    return _on(thread, lambda: alternate({way: partial(sample, STARTS[way]) for way in ways}, rounds, seed))


def spawns_a_second(way: str, threads: int) -> float:
    start, left, go = STARTS[way], iter(range(SPAWNS)), threading.Barrier(threads + 1)

    def spawn() -> None:
        go.wait()
        for _ in left:
            start(TRUE).wait()

    spawning = [threading.Thread(target=spawn) for _ in range(threads)]
    for thread in spawning:
        thread.start()
    go.wait()
    begin = time.perf_counter()
    for thread in spawning:
        thread.join()
    return SPAWNS / (time.perf_counter() - begin)


def slow_exec(way: str, thread: str, program: str, work: str) -> tuple[float, float]:
    """Measure how much another thread gets done while a program with a slow exec is being started.

    :param work: "Python": the thread runs Python code; "spawn": it starts programs, in the same
    way. :returns: the share of the work that it gets done undisturbed, and for how many
    milliseconds it got
        nothing done.
    """
    start = STARTS[way]
    done, longest, stop = 0, 0.0, False

    def keep_busy() -> None:
        nonlocal done, longest
        last = time.perf_counter()
        while True:
            if work == "spawn":
                start(TRUE).wait()
            done += 1
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
            if stop:
                return

    def rate(what: Callable[[], Result]) -> tuple[float, Result]:
        before, begin = done, time.perf_counter()
        result = what()
        return (done - before) / (time.perf_counter() - begin), result

    busy = threading.Thread(target=keep_busy)
    busy.start()
    undisturbed, _ = rate(lambda: time.sleep(UNDISTURBED_SECONDS))
    longest = 0.0
    meanwhile, process = _on(thread, lambda: rate(lambda: start([program])))
    stop = True
    busy.join()
    process.wait()
    return meanwhile / undisturbed, longest * 1e3


def _on(thread: str, measure: Callable[[], Result]) -> Result:
    if thread == "main":
        return measure()
    with ThreadPoolExecutor(1) as another:
        return another.submit(measure).result()


def _touched(size: int) -> mmap.mmap | None:
    if size == 0:
        return None
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    for page in range(0, size, mmap.PAGESIZE):
        memory[page] = 1
    return memory


def _main() -> None:
    memory = _touched(int(sys.argv[1]))
    requests = {function.__name__: function for function in (spawn_and_wait, spawns_a_second, slow_exec)}
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        print(json.dumps(requests[what](*arguments)), flush=True)
    del memory


if __name__ == "__main__":
    _main()
