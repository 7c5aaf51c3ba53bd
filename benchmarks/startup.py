"""What pdeathsig adds to the start of a Python, by ``import pdeathsig.auto`` or by its .pth.

Whole processes are timed, from posix_spawn to the end of wait4. Their Pythons are in fresh virtual
environments with pdeathsig installed from a wheel. CPU is the process's user and system time, which
hardly depends on the other load of the machine.
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

from benchmarks._installed import Wheel, check_warm, environment, site_packages
from benchmarks._side_by_side import (
    alternate,
    arguments,
    differences,
    goal,
    heading,
    interval,
    machine,
    median_and_interval,
    spread,
    table,
)

BARE = "bare interpreter"
AUTO = "import pdeathsig.auto"
RECIPE = "import ctypes; ctypes.CDLL(...).prctl(1, 9)"
CODE = {
    BARE: "pass",
    AUTO: "import pdeathsig.auto",
    RECIPE: 'import ctypes; ctypes.CDLL("libc.so.6").prctl(1, 9)',
}
STARTUP = Path(__file__).resolve().parent.parent / "startup"
WITHOUT = "without pdeathsig.pth"
TWIN = "without it, another venv"
FLOOR = "with a .pth that says `import sys`"
WITH = "with pdeathsig.pth"
NARROW = 0.05  # ms; the runs end once the confidence interval of what the .pth adds is no wider

Times = tuple[float, float]  # wall clock and CPU, in milliseconds
Samples = dict[str, list[Times]]


def starter(python: Path, code: str, *options: str) -> Callable[[], Times]:
    """A function that runs this code in a new Python and returns the times."""
    command, env = [str(python), *options, "-c", code], environment()

    def start() -> Times:
        begin = time.perf_counter_ns()
        pid = os.posix_spawn(command[0], command, env)
        _, status, usage = os.wait4(pid, 0)
        wall = time.perf_counter_ns() - begin
        if status:
            raise SystemExit(f"{command}: exit code {os.waitstatus_to_exitcode(status)}")
        return wall / 1e6, (usage.ru_utime + usage.ru_stime) * 1e3

    start()
    return start


def imports(python: Path, rounds: int) -> Samples:
    return alternate({name: starter(python, code) for name, code in CODE.items()}, rounds)


def with_other_pth(wheel: Wheel, name: str, line: str | None) -> Path:
    """The python of an environment with another line in pdeathsig.pth, or without that file."""
    python = wheel.python(name)
    file = site_packages(python) / "pdeathsig.pth"
    file.unlink()
    if line is not None:
        file.write_text(line)
    check_warm(python, "pass")
    return python


def pth(pythons: dict[str, Path], least: int, most: int) -> Samples:
    """Measure in portions until the confidence interval of the difference is narrow enough.

    Only the interval's width decides when to stop, so stopping does not bias the difference.
    """
    starters = {name: starter(python, "pass") for name, python in pythons.items()}
    samples: Samples = {name: [] for name in starters}
    while len(samples[WITH]) < least or (len(samples[WITH]) < most and not narrow(samples)):
        for name, portion in alternate(starters, 100, seed=len(samples[WITH])).items():
            samples[name] += portion
    return samples


def once(python: Path, scratch: Path, rounds: int) -> Samples:
    """One pass of ``site`` over a folder with the line: its cost without a virtual environment."""
    starters: dict[str, Callable[[], Times]] = {}
    for name, line in ((WITHOUT, None), (FLOOR, "import sys\n"), (WITH, (STARTUP / "pdeathsig.pth").read_text())):
        folder = scratch / f"once{len(starters)}"
        folder.mkdir()
        if line is not None:
            folder.joinpath("pdeathsig.pth").write_text(line)
        starters[name] = starter(python, f"import site; site.addsitedir({str(folder)!r})", "-S")
    return alternate(starters, rounds)


def narrow(samples: Samples) -> bool:
    low, high = interval(added(samples, WITH, WITHOUT))
    return high - low <= NARROW


def added(samples: Samples, name: str, base: str, which: int = 0) -> list[float]:
    """How much longer each start of ``name`` took than that of ``base`` in the same round.

    :param which: 0 for wall clock, 1 for CPU.
    """
    return differences((times[which] for times in samples[name]), (times[which] for times in samples[base]))


def report(samples: Samples, base: str) -> None:
    rows = []
    for name, times in samples.items():
        wall = [wall for wall, _ in times]
        row = [name, f"{statistics.median(wall):.2f}", f"{spread(wall):.2f}", "", ""]
        if name != base:
            row[3:] = [median_and_interval(added(samples, name, base, which), 3) for which in (0, 1)]
        rows.append(row)
    table(["start", "ms", "IQR", "more, ms [95 %]", "CPU more, ms [95 %]"], rows)


def main() -> None:
    options = arguments(__doc__)
    with tempfile.TemporaryDirectory(prefix="pdeathsig-bench-") as directory:
        scratch = Path(directory)
        wheel = Wheel(scratch, options.wheel)
        python = wheel.python()
        pythons = {
            WITHOUT: with_other_pth(wheel, "plain", None),
            TWIN: with_other_pth(wheel, "twin", None),
            FLOOR: with_other_pth(wheel, "floor", "import sys\n"),
            WITH: python,
        }
        empty = scratch / "empty"  # `python -c` looks for modules here first, and the checkout has a pdeathsig
        empty.mkdir()
        os.chdir(empty)
        print(machine(python))
        first = imports(python, 50 if options.quick else 400)
        second = pth(pythons, *((200, 200) if options.quick else (400, 1200)))
        third = once(python, scratch, len(second[WITH]))
        os.chdir("/")

    heading(f"Arming at start-up; medians of {len(first[BARE])} rounds, differences within a round")
    report(first, BARE)
    auto, recipe = (statistics.median(added(first, name, BARE)) for name in (AUTO, RECIPE))
    print()
    goal("import pdeathsig.auto over a bare interpreter", auto, 1, " ms")
    goal("the same to what the ctypes recipe adds", auto / recipe, 1 / 3, "x")

    for where, samples in (
        ("site runs the line once", third),
        ("in a virtual environment, where site before Python 3.15 runs it twice", second),
    ):
        heading(f"PDEATHSIG unset, {where}; medians of {len(samples[WITH])} rounds")
        report(samples, WITHOUT)
        print()
        line, floor = (statistics.median(added(samples, name, WITHOUT)) for name in (WITH, FLOOR))
        print(f"what the .pth adds, to what one adds that does nothing: {line / floor:.2f}x ({line:.2f} ms)")
        for base, what in ((WITHOUT, "what the .pth adds"), (FLOOR, "what it adds to a .pth that does nothing")):
            differs = added(samples, WITH, base)
            low, high = interval(differs)
            goal(f"{what}, 95 % in [{low:.3f}, {high:.3f}]", statistics.median(differs), 0.1, " ms", digits=3)


if __name__ == "__main__":
    main()
