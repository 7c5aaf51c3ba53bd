"""How long it takes to end a tree: the guard, kill_tree and the psutil recipe against cgroup.kill.

cgroup.kill is the limit: one write, after which the kernel kills all.

Run it as: python benchmarks/ending.py [--quick] [--svg FILE]. The cgroup needs root and a cgroup v2
with cgroup.kill (Linux 5.14). Without it, the ratios are to the guard.

The processes of the tree sleep, and have at most ten children each. First they are forked Pythons,
like a server's workers. Then they are the smallest possible programs, which die three times as
fast. The time is from the request until all are gone and reaped, by the guard or by a subreaper.
The guard gets the request through its lifeline. Every way runs once a round, in a new order. Each
way has a process of its own, because the kernel schedules a process differently after it reaped
hundreds.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._chart import Line, chart
from benchmarks._installed import Wheel, environment
from benchmarks._side_by_side import (
    alternate,
    arguments,
    compiled,
    goal,
    heading,
    machine,
    median_and_interval,
    ratios,
    spread,
    table,
)

HERE = Path(__file__).resolve().parent
ROUNDS = {100: 40, 1000: 11, 4000: 9}
QUICK_ROUNDS = {100: 5, 1000: 3, 4000: 2}
NAMES = {
    "cgroup": "cgroup.kill",
    "guard": "guard, KILL",
    "guard, TERM": "guard, TERM",
    "kill_tree": "kill_tree, KILL",
    "kill_tree, TERM": "kill_tree, TERM",
    "psutil": "psutil recipe",
}
LINES = {
    "psutil": ("psutil", "#e5484d"),
    "kill_tree": ("kill_tree", "#8e5cf0"),
    "cgroup": ("cgroup.kill", "#8b949e"),
    "guard": ("guard", "#2f81f7"),
}

BySize = dict[int, dict[str, list[float]]]


class Ender:
    """The process that starts trees and ends them in one way. Its trees end with it."""

    def __init__(self, way: str, python: Path, cgroup: Path | None, sleepers: list[Path]) -> None:
        guard = python.with_name("pdeathsig-run")
        command: list[str | Path] = [python, HERE / "_ender.py", way, guard, str(cgroup or ""), *sleepers]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env=environment(), cwd=python.parent
        )

    def __enter__(self) -> Ender:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def milliseconds(self, size: int) -> float:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(size, file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the ender has ended with {self._process.wait()}")
        return float(line)


@contextmanager
def own_cgroup() -> Iterator[Path | None]:
    """A new cgroup that can be killed; None if this user may not make one."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in (Path(fields[1]) for fields in mounts if fields[2] == "cgroup2"):
        cgroup = mount / f"pdeathsig-bench-{os.getpid()}"
        try:
            cgroup.mkdir()
        except OSError:
            continue
        try:
            yield cgroup if (cgroup / "cgroup.kill").exists() else None
        finally:
            cgroup.rmdir()
        return
    yield None


def measure(enders: dict[str, Ender], rounds: dict[int, int]) -> BySize:
    samples: BySize = {}
    for size, count in rounds.items():
        variants = {way: partial(ender.milliseconds, size) for way, ender in enders.items()}
        if size == min(rounds):
            alternate(variants, 1)
        samples[size] = alternate(variants, count)
    return samples


def report(what: str, samples: BySize, ways: list[str]) -> None:
    base = "cgroup" if "cgroup" in ways else "guard"
    rounds = ", ".join(str(len(of[base])) for of in samples.values())
    heading(f"{what}: ms until all are gone, by the size of the tree; medians of {rounds} rounds, ± IQR")
    head = [f"{size:,}" for size in samples]
    table(["", *head], [[NAMES[way], *(ms(of[way]) for of in samples.values())] for way in ways])
    for way in NAMES.keys() - set(ways):
        print(f"{NAMES[way]}: not here")
    heading(f"{what}: the same to {NAMES[base]}, in the same round; medians [95 %]")
    rows = [
        [NAMES[way], *(median_and_interval(ratios(of[way], of[base]), 2) for of in samples.values())]
        for way in ways
        if way != base
    ]
    table(["", *head], rows)
    if base == "cgroup":
        print()
        for size, of in samples.items():
            goal(f"{what}: guard to cgroup.kill, {size:,}", statistics.median(ratios(of["guard"], of[base])), 1.2, "x")


def ms(samples: list[float]) -> str:
    return f"{statistics.median(samples):.0f} ±{spread(samples):.0f}"


def draw(samples: BySize, ways: list[str], file: Path) -> None:
    lines = [
        Line(name, [statistics.median(of[way]) for of in samples.values()], colour)
        for way, (name, colour) in LINES.items()
        if way in ways
    ]
    file.write_text(chart("Milliseconds until a tree of Python processes is gone", "processes", list(samples), lines))


def main() -> None:
    options = arguments(__doc__, svg="draw the time by the size of the tree into this file")
    with tempfile.TemporaryDirectory(prefix="pdeathsig-bench-") as scratch, own_cgroup() as cgroup:
        wheel = Wheel(Path(scratch), options.wheel)
        python = wheel.python()
        wheel.pip_install(python, "psutil")
        print(machine(python))
        trees = {
            "Python processes": [python, HERE / "sleepers.py"],
            "Bare processes": [compiled(HERE / "sleepers.c", Path(scratch))],
        }
        ways = [way for way in NAMES if way != "cgroup" or cgroup]
        for what, sleepers in trees.items():
            with ExitStack() as stack:
                enders = {way: stack.enter_context(Ender(way, python, cgroup, sleepers)) for way in ways}
                samples = measure(enders, QUICK_ROUNDS if options.quick else ROUNDS)
            report(what, samples, ways)
            if options.svg and what == "Python processes":
                draw(samples, ways, options.svg)


if __name__ == "__main__":
    main()
