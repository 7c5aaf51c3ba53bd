"""The installed pdeathsig-run, and what its tests share."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import descendants

import pdeathsig

_BESIDE = Path(sys.executable).parent / "pdeathsig-run"
GUARD = str(_BESIDE if _BESIDE.exists() else Path(pdeathsig.__file__).parent / "pdeathsig-run")


def guarded(*options: str) -> tuple[str, ...]:
    """The prefix of a guarded command."""
    return (GUARD, *options, "--")


def guard(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run([GUARD, *arguments], capture_output=True, text=True, check=False, timeout=15, **options)


def children(pid: int) -> list[int]:
    """The kernel lists them by the thread that made them."""
    found: list[int] = []
    for task in os.listdir(f"/proc/{pid}/task"):
        found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found


def reaper_of(monitor: int) -> int:
    """The guard's reaper; the monitor has no other child."""
    (reaper,) = children(monitor)
    return reaper


@pytest.fixture(autouse=True)
def guards_end(nothing_left: None) -> Iterator[None]:
    """Wait for the guards' end. It comes a little later than what a test waits for: end of file on
    pipes that no guard holds. In each file that imports this."""
    yield
    until = time.monotonic() + 5
    while time.monotonic() < until and any("pdeathsig-run" in command for command in descendants(os.getpid()).values()):
        os.sched_yield()
