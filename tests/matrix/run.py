"""The matrix: run every set-up in three ways, kill its main process, and count survivors and false
kills.

    python run.py [--light] [--ways nothing,family,run] [--seconds 10] [--jobs 4]
        [--write docs/matrix.md] [ROW ...]

ROW is the name of a file (``ray``) or of a set-up (``ray.actor``), with * and ?. The exit status is
1 if a way with pdeathsig has a survivor that is not known, or if a known one is missing.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import fnmatch
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import rows
import table
from one import PR_SET_CHILD_SUBREAPER, Result, Watch, libc

WAYS = ("nothing", "family", "run")
running: list[subprocess.Popen[bytes]] = []


def run_one(row: rows.Row, way: str, seconds: float) -> Result:
    """Run the row in a process that cleans up. The caller kills what is left even so."""
    command = [sys.executable, str(rows.HERE / "one.py"), row.id, way, str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    running.append(process)
    try:
        output, errors = process.communicate(timeout=row.limit + seconds + 60)
    except subprocess.TimeoutExpired:
        process.terminate()
        output, errors = process.communicate()
    try:
        return Result(**json.loads(output))
    except ValueError:
        return Result(row.id, way, error=errors.decode(errors="replace")[-3000:] or "no result")


def is_bad(result: Result) -> bool:
    row = rows.ROWS[result.row]
    if result.way in row.known:  # a known survivor that is missing is a change to write down
        return bool(result.error) or not table.is_bad(result)
    if result.way != "nothing" or row.expects == "none":
        return table.is_bad(result)
    return bool(result.error or (row.expects == "some" and not result.survivors[1]))


def chosen(patterns: list[str], light: bool) -> list[rows.Row]:
    def wanted(row: rows.Row) -> bool:
        matches = not patterns or any(fnmatch.fnmatch(name, p) for p in patterns for name in (row.id, row.file))
        return matches and (row.light or not light) and (bool(patterns) or not row.expects)

    found = [row for row in rows.load().values() if wanted(row)]
    if not found:
        sys.exit(f"no such row: {' '.join(patterns)}")
    for row in [row for row in found if row.missing()]:
        print(f"skipped: {row.id} needs {row.missing()}", file=sys.stderr)
    return [row for row in found if not row.missing()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", nargs="*")
    parser.add_argument("--light", action="store_true")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    if os.getuid() != 0:
        options.jobs = 1  # all share one /dev/shm
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    wanted, ways = chosen(options.rows, options.light), options.ways.split(",")
    results: dict[tuple[str, str], Result] = {}
    pool = concurrent.futures.ThreadPoolExecutor(options.jobs)
    try:
        runs = [pool.submit(run_one, row, way, options.seconds) for row in wanted for way in ways]
        for done in concurrent.futures.as_completed(runs):
            result = done.result()
            results[result.row, result.way] = result
            print(table.line(result), flush=True)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in running:  # after an interruption: each cleans up
            if process.poll() is None:
                process.terminate()
        pool.shutdown()
        left = Watch("no cookie").sweep()
    bad = [result for result in results.values() if is_bad(result)]
    if options.results:
        merged = json.loads(options.results.read_text()) if options.results.exists() else {}
        merged |= {f"{r.row} {r.way}": vars(r) for r in results.values()}
        options.results.write_text(json.dumps(merged, indent=1))
    if options.write:
        table.write(options.write, wanted, results)
    print(f"{len(results) - len(bad)} passed, {len(bad)} failed" + (f"; {left} processes left behind" if left else ""))
    sys.exit(1 if bad or left else 0)


if __name__ == "__main__":
    main()
