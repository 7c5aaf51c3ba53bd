"""What binding a child costs in Go and here, each against the same start of /bin/true without it.

In Go, SysProcAttr.Pdeathsig binds on a locked thread. It follows the thread, as the kernel does, so
the caller must keep the thread (LockOSThread) as long as the child lives. The child compares
getppid() before its exec.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._installed import Wheel, environment
from benchmarks._side_by_side import (
    alternate,
    arguments,
    heading,
    machine,
    median_and_interval,
    ratios,
    spread,
    table,
)
from benchmarks.spawn import Parent

GO, GO_BOUND, PYTHON, PYTHON_BOUND = "Go", "Go, Pdeathsig", "subprocess.Popen", "pdeathsig.Popen"
TO = {GO_BOUND: GO, PYTHON_BOUND: PYTHON}


def built(go: str, scratch: Path) -> Path:
    program = scratch / "spawner"
    source = Path(__file__).with_name("spawner.go")
    homes = {"GOCACHE": str(scratch / "go-cache"), "GOPATH": str(scratch / "go-path"), "GO111MODULE": "off"}
    subprocess.run([go, "build", "-o", program, source], check=True, env=environment(**homes), cwd=scratch)
    return program


def in_go(process: subprocess.Popen[str], way: str) -> float:
    assert process.stdin is not None and process.stdout is not None
    print(way, file=process.stdin, flush=True)
    return float(process.stdout.readline())


def in_python(parent: Parent, way: str) -> float:
    answer: dict[str, list[float]] = parent.ask("spawn_and_wait", [way], "main", 1, 1)
    return answer[way][0]


def main() -> None:
    options = arguments(__doc__)
    rounds = 50 if options.quick else 1000
    go = shutil.which("go")
    if go is None:
        print("go: not installed")
        return
    pipe = subprocess.PIPE
    with tempfile.TemporaryDirectory(prefix="pdeathsig-bench-") as directory:
        scratch = Path(directory)
        python = Wheel(scratch, options.wheel).python()
        program = built(go, scratch)
        empty = scratch / "empty"
        empty.mkdir()
        print(machine(python) + ", " + subprocess.check_output([go, "version"], text=True).strip())
        with (
            Parent(python, empty) as parent,
            subprocess.Popen([program], stdin=pipe, stdout=pipe, text=True) as process,
        ):
            variants = {
                GO: partial(in_go, process, "plain"),
                GO_BOUND: partial(in_go, process, "pdeathsig"),
                PYTHON: partial(in_python, parent, "subprocess"),
                PYTHON_BOUND: partial(in_python, parent, "pdeathsig"),
            }
            alternate(variants, 10)
            samples = alternate(variants, rounds)
        os.chdir("/")
    heading(f"Start of /bin/true and wait, ms; medians of {rounds} rounds, ± IQR; the ratio of the same round [95 %]")
    rows = []
    for name, times in samples.items():
        ratio = median_and_interval(ratios(times, samples[TO[name]]), 2) if name in TO else ""
        rows.append([name, f"{statistics.median(times):.2f} ±{spread(times):.2f}", ratio])
    table(["", "ms ± IQR", "to without it"], rows)


if __name__ == "__main__":
    main()
