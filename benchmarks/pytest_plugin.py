"""What pytest --no-orphans adds to a session of 1,000 empty tests, and to 200 tests with a process
each.

Without the option, a session of one test runs against one in which the plugin is blocked.

Whole sessions run side by side. Their user and system time is measured too, because it hardly
depends on the other load of the machine.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

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

BLOCKED, OFF, ON = "-p no:pdeathsig", "not asked for", "--no-orphans"
OPTIONS = {BLOCKED: ["-p", "no:pdeathsig"], OFF: [], ON: ["--no-orphans"]}
EMPTY, STARTING, ONE = "1,000 empty tests", "200 tests that run /bin/true", "one empty test"
TESTS = {
    EMPTY: "import pytest\n@pytest.mark.parametrize('n', range(1000))\ndef test(n): pass\n",
    STARTING: (
        "import pytest, subprocess\n@pytest.mark.parametrize('n', range(200))\n"
        "def test(n): subprocess.run('/bin/true')\n"
    ),
    ONE: "def test(): pass\n",
}

Times = tuple[float, float]  # wall clock and CPU, in milliseconds


def session(python: Path, file: Path, options: list[str]) -> Callable[[], Times]:
    """A function that runs these tests and returns the times."""
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(file)]
    env = environment()

    def run() -> Times:
        begin = time.perf_counter_ns()
        pid = os.posix_spawn(
            command[0], command, env, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
        )
        _, status, usage = os.wait4(pid, 0)
        wall = time.perf_counter_ns() - begin
        if status:
            raise SystemExit(f"{command}: exit code {os.waitstatus_to_exitcode(status)}")
        return wall / 1e6, (usage.ru_utime + usage.ru_stime) * 1e3

    run()
    return run


def report(samples: dict[str, list[Times]]) -> None:
    rows = []
    for name in samples:
        wall = [times[0] for times in samples[name]]
        row = [name, f"{statistics.median(wall):.0f}", f"{spread(wall):.0f}", "", ""]
        if name != BLOCKED:
            row[3:] = [median_and_interval(ratio(samples, name, BLOCKED, which), 3) for which in (0, 1)]
        rows.append(row)
    table(["session", "ms", "IQR", "ratio [95 %]", "CPU ratio [95 %]"], rows)


def ratio(samples: dict[str, list[Times]], name: str, base: str, which: int) -> list[float]:
    return ratios((times[which] for times in samples[name]), (times[which] for times in samples[base]))


def main() -> None:
    options = arguments(__doc__)
    with tempfile.TemporaryDirectory(prefix="pdeathsig-bench-") as directory:
        scratch = Path(directory)
        wheel = Wheel(scratch, options.wheel)
        python = wheel.python()
        wheel.pip_install(python, "pytest")
        os.chdir(scratch)  # `python -m` looks for modules here first, and the checkout has a pdeathsig
        print(machine(python))
        for number, (what, code) in enumerate(TESTS.items()):
            file = scratch / f"test_{number}.py"
            file.write_text(code)
            rounds = (6 if options.quick else 25) * (4 if what == ONE else 1)
            samples = alternate({name: session(python, file, given) for name, given in OPTIONS.items()}, rounds)
            heading(f"{what}; medians of {rounds} rounds, ratios within a round")
            report(samples)
            if what == EMPTY:
                print()
                goal(f"{ON} to {BLOCKED}, CPU", statistics.median(ratio(samples, ON, BLOCKED, 1)), 1.25, "x")
        os.chdir("/")


if __name__ == "__main__":
    main()
