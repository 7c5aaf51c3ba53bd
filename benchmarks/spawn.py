"""What it costs to start a program that dies with its parent.

pdeathsig.Popen runs against subprocess.Popen, against a preexec_fn, which forks the whole parent,
and against setpriv(1), which needs one exec more.

Parents of several sizes wait side by side and start /bin/true, in each way in turn. A parent's size
is the memory that it touched, in pages of 4 KiB.

A lease, F_SETLEASE of fcntl(2), makes an exec slow: a process that opens the file waits in the
kernel until the lease is given back, as for a slow disk or a network. Some versions of subprocess
keep the GIL meanwhile: that of Python 3.10 around vfork (gh-104372), and that of 3.13 around
posix_spawn, which it prefers.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._chart import Line, chart
from benchmarks._installed import Wheel, environment
from benchmarks._side_by_side import (
    alternate,
    arguments,
    goal,
    heading,
    machine,
    median_and_interval,
    ratios,
    spread,
    table,
)

GIB = 2**30
SIZES = (0, 0.25, 0.5, 1, 2, 4)
THREADS = (1, 4, 16)
ROUNDS = 10  # of one parent, before the next one's turn
SLOW = 1.0  # seconds
DEADLINE = 10.0

Start = tuple[str, str]  # the way, and the kind of thread
PLAIN, OURS, PREEXEC, SETPRIV = [
    ("subprocess", "main"),
    ("pdeathsig", "main"),
    ("preexec_fn", "main"),
    ("setpriv", "main"),
]
PLAIN_THREAD, OURS_THREAD = [("subprocess", "another"), ("pdeathsig", "another")]
NAMES = {
    PLAIN: "subprocess.Popen",
    OURS: "pdeathsig.Popen",
    PREEXEC: "subprocess.Popen, preexec_fn",
    SETPRIV: "subprocess.Popen, setpriv",
    PLAIN_THREAD: "subprocess.Popen in a thread",
    OURS_THREAD: "pdeathsig.Popen in a thread",
}
TO = {OURS: PLAIN, PREEXEC: PLAIN, SETPRIV: PLAIN, OURS_THREAD: PLAIN_THREAD}
SLOWLY = [PLAIN, OURS, PREEXEC, PLAIN_THREAD, OURS_THREAD]

BySize = dict[tuple[float, Start], list[float]]


class Parent:
    """A process of some size that starts others."""

    def __init__(self, python: Path, directory: Path, gib: float = 0) -> None:
        command: list[str | Path] = [python, Path(__file__).with_name("_spawner.py"), str(int(gib * GIB))]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment(), cwd=directory)

    def __enter__(self) -> Parent:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def ask(self, what: str, *arguments: object) -> Any:
        self.begin(what, *arguments)
        return self.answer()

    def begin(self, what: str, *arguments: object) -> None:
        assert self._process.stdin is not None
        print(json.dumps([what, *arguments]), file=self._process.stdin, flush=True)

    def answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a parent has ended with {self._process.wait()}")
        return json.loads(line)

    def pages(self) -> str:
        proc = Path(f"/proc/{self._process.pid}")
        lines = [line.split() for name in ("status", "smaps_rollup") for line in (proc / name).read_text().splitlines()]
        kib = {line[0]: int(line[1]) for line in lines if line[-1] == "kB"}
        return f"{kib['VmPTE:']} kB of page tables, {kib['AnonHugePages:']} kB in huge pages"


class SlowProgram:
    """A program with a slow exec."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "slow"
        shutil.copy("/bin/true", self.path)
        self._file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])

    def lease(self) -> None:
        """Take the lease; to be called before the exec."""
        until = time.monotonic() + DEADLINE
        while True:
            try:
                fcntl.fcntl(self._file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
                return
            except BlockingIOError:  # another process still has it open
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)

    def delay(self) -> None:
        """Wait until the exec has begun, and give the lease back after a while."""
        if signal.sigtimedwait([signal.SIGIO], DEADLINE) is None:
            raise SystemExit(f"no process starts {self.path}")
        time.sleep(SLOW)
        fcntl.fcntl(self._file, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def by_size(python: Path, directory: Path, turns: int) -> BySize:
    """The milliseconds to start /bin/true and wait for its end.

    A parent that starts it on its main thread has no other thread.
    """
    starts = [start for start in NAMES if start != SETPRIV or shutil.which("setpriv")]
    samples: BySize = {(size, start): [] for size in SIZES for start in starts}
    with ExitStack() as stack:
        parents = {size: stack.enter_context(Parent(python, directory, size)) for size in SIZES}

        def measure(turn: int) -> None:
            for (size, parent), thread in itertools.product(parents.items(), ("main", "another")):
                ways = [way for way, on in starts if on == thread]
                for way, times in parent.ask("spawn_and_wait", ways, thread, ROUNDS, turn).items():
                    samples[size, (way, thread)] += times

        measure(0)
        setting = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text().strip()
        print(f"transparent huge pages: {setting}; the parent of {max(SIZES)} GiB: {parents[max(SIZES)].pages()}")
        for turn in range(turns):
            measure(turn)
    return {variant: times[ROUNDS:] for variant, times in samples.items()}


def report_by_size(samples: BySize) -> None:
    starts = [start for start in NAMES if (0, start) in samples]
    head = [f"{size:g} GiB" for size in SIZES]

    def to(base: Start, size: float, start: Start) -> list[float]:
        return ratios(samples[size, start], samples[size, base])

    heading(f"Start and wait, ms, by the parent's memory; medians of {len(samples[0, PLAIN])} rounds, ± IQR")
    table(["", *head], [[NAMES[start], *(ms(samples[size, start]) for size in SIZES)] for start in starts])
    if SETPRIV not in starts:
        print(f"{NAMES[SETPRIV]}: not installed")
    heading("The same to subprocess.Popen, on the same thread, in the same round; medians [95 %]")
    table(
        ["", *head],
        [[NAMES[start], *(ratio(to(TO[start], size, start)) for size in SIZES)] for start in starts if start in TO],
    )
    print()
    for start, limit in ((OURS, 1.05), (OURS_THREAD, 1.15)):
        for size in (0, 1, 4):
            value = statistics.median(to(TO[start], size, start))
            goal(f"{NAMES[start]} to {NAMES[TO[start]]}, {size} GiB", value, limit, "x", digits=3)
    goal("pdeathsig.Popen to preexec_fn, 4 GiB", statistics.median(to(PREEXEC, 4, OURS)), 0.01, "x", digits=4)


def ms(samples: list[float]) -> str:
    middle = statistics.median(samples)
    digits = 0 if middle >= 10 else 2
    return f"{middle:.{digits}f} ±{spread(samples):.{digits}f}"


def ratio(samples: list[float]) -> str:
    return median_and_interval(samples, 0 if statistics.median(samples) >= 10 else 2)


def slow_exec(python: Path, directory: Path, rounds: int) -> dict[tuple[Start, str], list[tuple[float, float]]]:
    """Measure how much another thread gets done meanwhile, and for how long it got nothing done.

    That thread runs Python code, or starts programs itself.
    """
    program = SlowProgram(directory)

    def trial(start: Start, work: str) -> tuple[float, float]:
        program.lease()
        parent.begin("slow_exec", *start, str(program.path), work)
        program.delay()
        share, longest = parent.answer()
        return share, longest

    with Parent(python, directory) as parent:
        return alternate(
            {(start, work): partial(trial, start, work) for start in SLOWLY for work in ("Python", "spawn")}, rounds
        )


def report_slow_exec(samples: dict[tuple[Start, str], list[tuple[float, float]]]) -> None:
    rounds = len(samples[PLAIN, "spawn"])
    heading(f"While an exec takes {SLOW:g} s, another thread of the parent; medians of {rounds} rounds")
    rows = []
    for start in SLOWLY:
        row = [NAMES[start]]
        for work in ("Python", "spawn"):
            shares, longest = zip(*samples[start, work], strict=True)
            row += [f"{statistics.median(shares):.0%}", f"{statistics.median(longest):.0f}"]
        rows.append(row)
    table(["the slow one", "runs Python", "stands still, ms", "starts programs", "the longest, ms"], rows)
    print("\n100 %: as much as before it")


def rates(python: Path, directory: Path, rounds: int) -> dict[tuple[str, int], list[float]]:
    """The number of programs started and waited for in a second."""
    with Parent(python, directory) as parent:
        variants = {
            (way, threads): partial(parent.ask, "spawns_a_second", way, threads)
            for way in ("subprocess", "pdeathsig")
            for threads in THREADS
        }
        alternate(variants, 1)
        return alternate(variants, rounds)


def report_rates(samples: dict[tuple[str, int], list[float]]) -> None:
    heading(f"Starts a second from so many threads; medians of {len(samples['subprocess', 1])} rounds")
    rows = []
    for threads in THREADS:
        plain, ours = samples["subprocess", threads], samples["pdeathsig", threads]
        cells = [f"{statistics.median(of):.0f} ±{spread(of):.0f}" for of in (plain, ours)]
        rows.append([str(threads), *cells, median_and_interval(ratios(ours, plain), 2)])
    table(["threads", "subprocess.Popen", "pdeathsig.Popen", "ratio [95 %]"], rows)


def draw(samples: BySize, file: Path) -> None:
    lines = [
        Line(name, [statistics.median(samples[size, start]) for size in SIZES], colour)
        for name, start, colour in (
            ("preexec_fn", PREEXEC, "#e5484d"),
            ("setpriv", SETPRIV, "#8e5cf0"),
            ("subprocess", PLAIN, "#8b949e"),
            ("pdeathsig", OURS, "#2f81f7"),
        )
        if (0, start) in samples
    ]
    file.write_text(chart("Milliseconds to start a program and wait for it", "GiB the parent uses", SIZES, lines))


def main() -> None:
    options = arguments(__doc__, svg="draw start and wait by the parent's memory into this file")
    with tempfile.TemporaryDirectory(prefix="pdeathsig-bench-") as scratch:
        python = Wheel(Path(scratch), options.wheel).python()
        print(machine(python))
        directory = Path(scratch) / "empty"
        directory.mkdir()
        sizes = by_size(python, directory, 3 if options.quick else 25)
        report_by_size(sizes)
        report_slow_exec(slow_exec(python, directory, 1 if options.quick else 5))
        report_rates(rates(python, directory, 5 if options.quick else 50))
    if options.svg:
        draw(sizes, options.svg)


if __name__ == "__main__":
    main()
