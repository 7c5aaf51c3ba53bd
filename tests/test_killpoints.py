"""Nothing outlives a parent that is killed at any moment, and no child dies by the end of a thread.

`make killpoints` tries every moment of each entry point (docs/killpoints.md). These tests try some
of each, evenly chosen.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest
from conftest import needs
from harness import TESTS, environment
from killpoints.entries import ENTRIES
from killpoints.sweep import DENIED

HERE = TESTS / "killpoints"
POINTS, POINTS_OF_A_POOL = 8, 3  # a point of a pool takes a quarter of a second

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = which("cc") or ""
    needs(bool(compiler), "needs a C compiler")
    tool = tmp_path_factory.mktemp("killpoints") / "sweep"
    options = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *options, *HERE.glob("*.c"), "-o", tool], check=True)
    return tool


@pytest.mark.parametrize("title", ENTRIES)
def test_nothing_outlives_a_process_killed_at_some_points(tool: Path, title: str) -> None:
    """The controls are tried too: with them, something must be left."""
    points = POINTS_OF_A_POOL if title.startswith(("spawn", "forkserver")) else POINTS
    alone = ["--jobs", "1"] if "PYTEST_XDIST_WORKER" in os.environ else []  # others use the processors
    done = subprocess.run(
        [sys.executable, HERE / "sweep.py", tool, *alone, "--at-most", str(points), title],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    needs(done.returncode != DENIED, "needs ptrace")
    assert done.returncode == 0, done.stdout + done.stderr
