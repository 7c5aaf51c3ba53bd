"""Kill a process at every system call boundary of each entry point, and count what outlives it.

``sweep.py TOOL [--at-most N] [--table FILE] [TITLE...]``, where TOOL is sweep.c, compiled. Each
point is a run of its own: a tracer, and a driver forked from this process. Where there are more
points than ``--at-most``, that many are tried, evenly chosen. ``--jobs`` runs go side by side.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

if TYPE_CHECKING:
    from killpoints.entries import Entry

DENIED = 8
TESTS = Path(__file__).absolute().parents[1]
STEP = 13  # through an interpreter's start, and while a process cannot know its parent
NEAR = 4  # in another run the same boundary may have a number that differs by so much
SETTLE = 150  # milliseconds
PR_SET_CHILD_SUBREAPER = 36


class Point(NamedTuple):
    k: int
    words: frozenset[str]
    details: list[str]
    letters: str


class Row:
    """The results of one entry and one victim."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.boundaries = self.starting = 0
        self.tried = self.survivors = self.false_kills = self.stopped = 0
        self.blind = self.blind_survivors = 0
        self.details: list[str] = []

    def add(self, point: Point) -> None:
        words = point.words
        if "absent" in words:
            return
        bad = "survivors" in words
        if "blind" in words:
            self.blind += 1
            self.blind_survivors += bad
            return
        self.tried += 1
        self.survivors += bad
        self.stopped += "stopped" in words
        self.false_kills += "false-kill" in words
        self.details += point.details

    @property
    def good(self) -> bool:
        bad = self.survivors + self.false_kills
        return bool(self.entry.limit) or (bad > 0) == bool(self.entry.control)

    @property
    def cells(self) -> list[str]:
        entry = self.entry
        notes = [f"control: {entry.control}" if entry.control else entry.limit]
        if self.stopped:
            notes.append(f"stopped at {self.stopped}")
        if self.blind:
            notes.append(f"before it could know its parent: {self.blind_survivors} of {self.blind}")
        of = f"{self.boundaries}, {self.starting} of them an interpreter's start" if self.starting else self.boundaries
        note = "; ".join(note for note in notes if note)
        false_kills = str(self.false_kills) if entry.then == "lives" else ""
        return [entry.name, entry.killed, str(of), str(self.tried), str(self.survivors), false_kills, note]


def start(tool: str, k: int, entry: Entry) -> tuple[int, int]:
    """Start a tracer, the driver's parent, for the K-th point. Return its PID and output pipe."""
    sys.stdout.flush()
    reader, writer = os.pipe()
    tracer = os.fork()
    if tracer == 0:
        os.dup2(writer, 1)
        trace(tool, k, entry)
    os.close(writer)
    return tracer, reader


def trace(tool: str, k: int, entry: Entry) -> NoReturn:
    gate, opener = os.pipe()
    driver = os.fork()
    if driver == 0:
        os.close(opener)
        drive(gate, k, entry)
    os.close(gate)
    os.set_inheritable(opener, True)
    told = {"VICTIM": entry.victim, "THEN": entry.then, "LEAVES": str(entry.leaves), "BLIND": entry.blind}
    told["PATIENCE"] = str(SETTLE) if entry.settle else ""
    os.execve(tool, [tool, str(k), str(driver), str(opener)], {name: value for name, value in told.items() if value})


def drive(gate: int, k: int, entry: Entry) -> NoReturn:
    try:
        os.read(gate, 1)
        os.close(gate)
        null = os.open(os.devnull, os.O_WRONLY)
        errors = os.dup(2)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.close(null)
        del sys.modules["__main__"].__file__  # or multiprocessing would run it again in its children
        entry.start()
    except BaseException as error:
        if k == 0:  # no process was killed
            os.write(errors, f"driver: {error!r}\n".encode())
            os._exit(1)
    while True:
        signal.pause()


def read(k: int, reader: int, status: int) -> Point:
    with open(reader) as file:
        lines = file.read().splitlines()
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        print(*lines, sep="\n")
        sys.exit(DENIED if code == DENIED else f"sweep: exit status {code} at point {k}")
    letters = lines[0] if k == 0 else ""
    details = [f"{line} (point {k})" for line in lines[:-1]] if k else []
    return Point(k, frozenset(lines[-1].split()), details, letters)


def points(tool: str, entry: Entry, numbers: Iterator[int], jobs: int) -> Iterator[Point]:
    running: dict[int, tuple[int, int]] = {}
    more = True
    while more or running:
        k = next(numbers, None) if more and len(running) < jobs else None
        if k is not None:
            tracer, reader = start(tool, k, entry)
            running[tracer] = k, reader
            continue
        more = more and len(running) >= jobs
        if running:
            pid, status = os.wait()
            if pid not in running:  # this process is the subreaper above the tracer
                sys.exit(f"sweep: {pid} was left behind by the tracer")
            yield read(*running.pop(pid), status)


def chosen(letters: str) -> Iterator[int]:
    """The points at which there is a victim; in an interpreter's start, only some of them."""
    for k in range(1, len(letters) + 1):
        near = letters[max(0, k - 1 - NEAR) : k + NEAR]
        if "." in near or (near.strip("-") and k % STEP == 0):
            yield k


def evenly(numbers: list[int], wanted: int) -> list[int]:
    if len(numbers) <= wanted:
        return numbers
    return [numbers[i * (len(numbers) - 1) // max(1, wanted - 1)] for i in range(wanted)]


def sweep(tool: str, entry: Entry, at_most: int, jobs: int) -> Row:
    row = Row(entry)
    (profile,) = points(tool, entry, iter([0]), 1)
    letters = profile.letters
    row.boundaries, row.starting = sum(letters.count(letter) for letter in ".sb"), letters.count("s")
    for point in points(tool, entry, iter(evenly(list(chosen(letters)), at_most)), jobs):
        row.add(point)
    for point in points(tool, entry, count(len(letters) + 1), 1):
        row.add(point)
        if "end" in point.words:  # this run had no more boundaries than the counted one
            break
    return row


HEAD = ["entry point", "killed", "boundaries", "tried", "with survivors", "with false kills", ""]


def table(rows: list[Row], seconds: float) -> str:
    kernel, python = platform.release(), platform.python_version()
    lines = [
        "# Kill points",
        "",
        f"Made by `make killpoints` on {time.strftime('%Y-%m-%d')}, Linux {kernel}, Python {python}, "
        f"in {seconds / 60:.0f} minutes. {sum(row.tried for row in rows)} points.",
        "",
        (Path(__file__).parent / "about.md").read_text().strip(),
        "",
        f"| {' | '.join(HEAD)} |",
        f"|{' --- |' * len(HEAD)}",
        *(f"| {' | '.join(row.cells)} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    sys.path.insert(0, str(TESTS))
    parser = argparse.ArgumentParser()
    parser.add_argument("tool")
    parser.add_argument("--at-most", type=int, default=700)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--table")
    parser.add_argument("titles", nargs="*")
    given = parser.parse_intermixed_args()
    from harness import own_temporary_files

    compiled, to = Path(given.tool).absolute(), given.table and Path(given.table).absolute()
    os.chdir(TESTS)  # where `python -c` finds no source tree
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    since = time.monotonic()
    rows = []
    with own_temporary_files() as directory:
        tool = str(shutil.copy(compiled, directory))  # other users run it too
        os.environ.update(TOOL=tool, PDEATHSIG_QUIET="1")
        from killpoints.entries import ENTRIES

        for title in given.titles or ENTRIES:
            started = time.monotonic()
            row = sweep(tool, ENTRIES[title], given.at_most, given.jobs)
            rows.append(row)
            print(*row.details[:20], sep="\n", end="\n" if row.details else "")
            verdict = "" if row.good else "  <- FAILED"
            print(" | ".join(row.cells), f"{time.monotonic() - started:.0f} s{verdict}", flush=True)
    if to:
        to.write_text(table(rows, time.monotonic() - since))
    sys.exit(not all(row.good for row in rows))


if __name__ == "__main__":
    main()
