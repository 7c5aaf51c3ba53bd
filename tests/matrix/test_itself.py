"""The runner of the matrix finds every kind of fault, and leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import rows
import run

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the matrix is CPython's: it uses os.pidfd_open")


@pytest.mark.parametrize("name", ["hang", "crash", "survivor", "false_kill", "shm"])
def test_each_fault_is_found(name: str) -> None:
    row = rows.load()[f"itself.{name}"]
    before = set(os.listdir("/dev/shm"))
    result = run.run_one(row, "nothing", 0.3)
    for file in set(os.listdir("/dev/shm")) - before:  # an ordinary user shares /dev/shm with all others
        if file.startswith("matrix-"):
            Path("/dev/shm", file).unlink()
    found = {
        "error": bool(result.error),
        "some": any(result.survivors),
        "false kill": bool(result.false_kills),
        "shm": bool(result.shm),
    }
    assert [fault for fault, is_found in found.items() if is_found] == [row.expects], result
    assert result.swept == {"hang": 2, "survivor": 1}.get(name, 0)


def test_a_bad_row_fails_the_run() -> None:
    """A survivor is bad in a way with pdeathsig, and expected without it."""
    row = rows.load()["itself.survivor"]
    result = run.run_one(row, "run", 0.3)
    assert not run.is_bad(result), result
    assert run.is_bad(run.run_one(row, "nothing", 0.3)) is False
    result.survivors, result.gone = [1, 1, 1], -1.0
    assert run.is_bad(result)
