"""pytest and pytest-xdist."""

from __future__ import annotations

import sys
from pathlib import Path

from rows import row

TESTS = """
import pytest
from rows import work

@pytest.mark.parametrize("n", range(2))
def test_work(n):
    work()
"""


def pytest(directory: Path, *options: str) -> list[str]:
    (directory / "test_work.py").write_text(TESTS)
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, str(directory / "test_work.py")]


@row("pytest, a test that starts a program", 2, command=True, needs=("pytest",))
def plain(directory: Path) -> list[str]:
    return pytest(directory)


@row("pytest-xdist, `-n 2`", 4, command=True, needs=("xdist",))
def xdist(directory: Path) -> list[str]:
    return pytest(directory, "-n", "2")
