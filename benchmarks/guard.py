"""What a guard costs: the time to start and stop /bin/true under it, and its memory while it waits.

pdeathsig-run runs against the small inits of the distributions, and against setpriv, which becomes
the command and guards nothing below it.

Run it as: python benchmarks/guard.py [--quick]. Peers that are not installed are left out.

Memory is the Pss and Private_Dirty of all of the guard's processes together, without the command.
The command is a cat that answered once.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
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

TRUE, CAT = "/bin/true", "/bin/cat"
BARE, OURS, SETPRIV = "nothing", "pdeathsig-run", "setpriv --pdeathsig KILL"
PEERS = {"tini -s": ["tini", "-s", "--"], "dumb-init": ["dumb-init", "--"], "catatonit": ["catatonit", "--"]}
PEERS[SETPRIV] = ["setpriv", "--pdeathsig", "KILL", "--"]
DEADLINE = 10.0


def prefixes(python: Path) -> dict[str, list[str]]:
    """The words that each guard puts before the command."""
    found: dict[str, list[str]] = {BARE: [], OURS: [str(python.with_name("pdeathsig-run")), "--"]}
    for name, (program, *options) in PEERS.items():
        path = shutil.which(program)
        if path is None:
            print(f"{program}: not installed")
        else:
            found[name] = [path, *options]
    return found


def start_and_wait(prefix: list[str], env: dict[str, str]) -> float:
    """The milliseconds of the second of two runs: the first finds another guard's caches."""
    command = [*prefix, TRUE]
    took = 0.0
    for _ in range(2):
        begin = time.perf_counter()
        _, status = os.waitpid(os.posix_spawn(command[0], command, env), 0)
        took = (time.perf_counter() - begin) * 1e3
        if status:
            raise SystemExit(f"{' '.join(command)}: {os.waitstatus_to_exitcode(status)}")
    return took


def memory(prefix: list[str], env: dict[str, str]) -> tuple[int, int, int]:
    """Pss and Private_Dirty in kB, and how many processes."""
    pipe = subprocess.PIPE
    with subprocess.Popen([*prefix, CAT], stdin=pipe, stdout=pipe, bufsize=0, env=env) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b".")
        process.stdout.read(1)
        guard = [pid for pid in below(process.pid) if os.path.realpath(f"/proc/{pid}/exe") != os.path.realpath(CAT)]
        for pid in guard:
            wait_until_asleep(pid)
        pages = [rollup(pid) for pid in guard]
        process.stdin.close()
    return sum(of["Pss:"] for of in pages), sum(of["Private_Dirty:"] for of in pages), len(guard)


def below(pid: int) -> list[int]:
    """The PIDs of this process and of all below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(descendant for child in children for descendant in below(int(child)))]


def wait_until_asleep(pid: int) -> None:
    until = time.monotonic() + DEADLINE
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        if time.monotonic() > until:
            raise SystemExit(f"process {pid} does not come to rest")
        time.sleep(0.001)


def rollup(pid: int) -> dict[str, int]:
    lines = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return {line[0]: int(line[1]) for line in lines if line[-1] == "kB"}


def report_start(samples: dict[str, list[float]]) -> None:
    heading(f"Start and stop of {TRUE}; medians of {len(samples[BARE])} rounds; the ratio of the same round [95 %]")
    rows = []
    for name, times in samples.items():
        ratio = "" if name == BARE else median_and_interval(ratios(times, samples[BARE]), 2)
        rows.append([name, f"{statistics.median(times):.2f} ±{spread(times):.2f}", ratio])
    table(["under", "ms ± IQR", "to nothing"], rows)
    print()
    inits = {name: statistics.median(samples[name]) for name in samples if name not in (BARE, OURS, SETPRIV)}
    if inits:
        best = min(inits, key=lambda name: inits[name])
        goal(f"{OURS} to {best}", statistics.median(ratios(samples[OURS], samples[best])), 1.0, "x")


def report_memory(samples: dict[str, list[tuple[int, int, int]]]) -> None:
    heading(f"Memory while waiting, kB; medians of {len(samples[BARE])} rounds")
    medians = {
        name: [statistics.median(column) for column in zip(*of, strict=True)]
        for name, of in samples.items()
        if name not in (BARE, SETPRIV)
    }
    rows = [[name, *(f"{value:.0f}" for value in values)] for name, values in medians.items()]
    table(["", "Pss", "Private_Dirty", "processes"], rows)
    print("setpriv becomes the command: nothing is left of it\n")
    if "tini -s" in medians:
        for i, what in enumerate(("Pss", "Private_Dirty")):
            goal(f"{OURS}, {what}, to tini", medians[OURS][i], medians["tini -s"][i], " kB", digits=0)


def main() -> None:
    options = arguments(__doc__)
    env = environment()
    with tempfile.TemporaryDirectory(prefix="pdeathsig-bench-") as scratch:
        python = Wheel(Path(scratch), options.wheel).python()
        print(machine(python))
        under = prefixes(python)
        starts = {name: partial(start_and_wait, prefix, env) for name, prefix in under.items()}
        alternate(starts, 5)
        report_start(alternate(starts, 100 if options.quick else 1000))
        waits = {name: partial(memory, prefix, env) for name, prefix in under.items()}
        report_memory(alternate(waits, 5 if options.quick else 25))


if __name__ == "__main__":
    main()
