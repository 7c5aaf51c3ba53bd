"""What one arming costs, against the two bare system calls that it needs.

Every variant has a process of its own. It reads a number, makes so many calls, and prints how long
they took. All calls but the first re-arm. A C program times the bare system calls. The calls never
wait, so processor time is measured, which does not include preemption.
"""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._installed import Wheel, environment, venv
from benchmarks._side_by_side import alternate, arguments, compiled, goal, heading, machine, ratios, spread, table

BARE = "prctl + getppid in C"
THREAD = 'pdeathsig.arm(parent="thread")'
PRCTL = "prctl.set_pdeathsig(9), python-prctl"
# The variants in Python: the statement that is timed, and the setup.
PYTHON = {
    THREAD: ("arm(parent='thread')", "from pdeathsig import arm"),
    'pdeathsig.arm(SIGTERM, parent="thread")': ("arm(SIGTERM, parent='thread')", "from pdeathsig import arm"),
    "pdeathsig.arm()": ("arm()", "from pdeathsig import arm"),
    "pdeathsig.arm(SIGTERM, grace=5)": ("arm(SIGTERM, grace=5)", "from pdeathsig import arm"),
    "libc.prctl(1, 9); os.getppid() by ctypes": ("prctl(1, 9); getppid()", "prctl = ctypes.CDLL('libc.so.6').prctl"),
    'ctypes.CDLL("libc.so.6").prctl(1, 9)': ("ctypes.CDLL('libc.so.6').prctl(1, 9)", ""),
    "a loop that does nothing": ("pass", ""),
}
WORKER = """
import ctypes, sys
from itertools import repeat
from os import getppid
from signal import SIGTERM
from time import process_time_ns
{setup}
def loop(n):
    start = process_time_ns()
    for _ in repeat(None, n):
        {statement}
    return process_time_ns() - start
for line in sys.stdin:
    loop(int(line) // 10)
    print(loop(int(line)), flush=True)
"""
LOOP_NS = 3e6  # the length of one variant's loop in a round


class Worker:
    """A process that makes one variant's calls."""

    def __init__(self, command: list[str | Path], directory: Path) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment(), cwd=directory)
        self._calls = 100
        self._calls = max(10, round(LOOP_NS / self.nanoseconds()))

    def nanoseconds(self) -> float:
        """The time of one call, on average over a loop."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(self._calls, file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline()) / self._calls

    def close(self) -> None:
        self._process.communicate()


def python_worker(python: Path, statement: str, setup: str, directory: Path) -> Worker:
    return Worker([python, "-c", WORKER.format(statement=statement, setup=setup)], directory)


def python_with_prctl(scratch: Path, wheel: Wheel, install: bool) -> Path | None:
    """A python that has python-prctl. Its installation needs a C compiler and libcap's headers."""
    if importlib.util.find_spec("prctl") is not None:
        return Path(sys.executable)
    if not install:
        return None
    python = venv(scratch / "python-prctl")
    try:
        wheel.pip_install(python, "python-prctl")
    except SystemExit:
        return None
    return python


def measure(scratch: Path, wheel: Path | None, rounds: int, install: bool) -> dict[str, list[float]]:
    installed = Wheel(scratch, wheel)
    python = installed.python()
    print(machine(python))
    empty = scratch / "empty"
    empty.mkdir()
    workers = {BARE: Worker([compiled(Path(__file__).parent / "bare.c", scratch)], empty)}
    for name, (statement, setup) in PYTHON.items():
        workers[name] = python_worker(python, statement, setup, empty)
    with_prctl = python_with_prctl(scratch, installed, install)
    if with_prctl:
        workers[PRCTL] = python_worker(with_prctl, "prctl.set_pdeathsig(9)", "import prctl", empty)
    try:
        return alternate({name: worker.nanoseconds for name, worker in workers.items()}, rounds)
    finally:
        for worker in workers.values():
            worker.close()


def main() -> None:
    options = arguments(__doc__)
    rounds = 30 if options.quick else 400
    with tempfile.TemporaryDirectory(prefix="pdeathsig-bench-") as directory:
        samples = measure(Path(directory), options.wheel, rounds, install=not options.quick)
    to_bare = {name: statistics.median(ratios(times, samples[BARE])) for name, times in samples.items()}
    heading(f"One arming; medians of {rounds} rounds, and the fastest round, which nothing else disturbed")
    rows = []
    for name, times in samples.items():
        row = [name, f"{statistics.median(times):.0f}", f"{spread(times):.0f}", f"{to_bare[name]:.2f}"]
        rows.append([*row, f"{min(times):.0f}", f"{min(times) / min(samples[BARE]):.2f}"])
    if PRCTL not in samples:
        rows.append([PRCTL, "not tried" if options.quick else "not installed", "", "", "", ""])
    table(["call", "ns", "IQR", "to bare", "fastest, ns", "to bare"], rows)
    print()
    goal("pdeathsig.arm() to the bare system calls", to_bare["pdeathsig.arm()"], 10, "x")


if __name__ == "__main__":
    main()
