"""The set-ups of the matrix, and the helpers that they share.

A set-up is a function in on_<framework>.py. Most are the program itself: ``python on_<framework>.py
NAME`` calls the function, which starts processes and returns; then the program stays. For servers
and managers (``command=True``) the function writes their files into a directory, and returns the
command that a user would type.

Each started process reports its PID, a line, through a FIFO that the environment names. A shell can
do that, too. The functions import the frameworks, because the runner imports these files as well.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any, TypeVar

HERE = Path(__file__).parent
CHANNEL = "MATRIX_CHANNEL"
SLEEP = ["sleep", "1000"]
SHELL = "sleep 1000 & echo $! >$MATRIX_CHANNEL; wait"  # a shell with a child that is no Python

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One set-up."""

    file: str  # without on_ and .py
    name: str
    title: str  # in the table
    announced: int  # how many processes report
    function: Callable[..., Any]
    command: bool = False
    needs: tuple[str, ...] = ()  # modules, programs, and ``root``
    light: bool = False  # runs in CI
    passing: str = ""  # a pattern of command lines that come and go by design
    limit: float = 60.0  # seconds until it is ready
    known: tuple[str, ...] = ()  # the ways with known survivors; docs/matrix.md says why
    expects: str = ""  # the survivors of a recipe's program in the way ``nothing``: "none" or "some"

    @property
    def id(self) -> str:
        return f"{self.file}.{self.name}"

    def missing(self) -> str:
        """What it needs and this machine lacks."""
        absent = [name for name in self.needs if name != "root" and not (importlib.util.find_spec(name) or which(name))]
        if "root" in self.needs and os.getuid() != 0:
            absent.append("root")
        return ", ".join(absent)

    def argv(self, directory: Path) -> list[str]:
        if self.command:
            return list(self.function(directory))
        return [sys.executable, str(HERE / f"on_{self.file}.py"), self.name]


ROWS: dict[str, Row] = {}


def row(title: str, announced: int, **options: Any) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Make a set-up of that function."""

    def add(function: Callable[..., T]) -> Callable[..., T]:
        file = Path(inspect.getfile(function)).stem.removeprefix("on_")
        new = Row(file, function.__name__, title, announced, function, **options)
        ROWS[new.id] = new
        return function

    return add


def load() -> dict[str, Row]:
    """All set-ups, in the order of the files."""
    for path in sorted(HERE.glob("on_*.py")):
        importlib.import_module(path.stem)
    return ROWS


def main() -> None:
    """Run a set-up as a program: set up, report, and stay."""
    file = Path(sys.argv[0]).stem.removeprefix("on_")
    function = ROWS[f"{file}.{sys.argv[1]}"].function
    if inspect.iscoroutinefunction(function):
        asyncio.run(stay(function()))
    kept = function()
    ready()
    while True:
        signal.pause()
    del kept


async def stay(set_up: Awaitable[Any]) -> None:
    """Set up, report and stay, on an event loop."""
    kept = await set_up
    ready()
    await asyncio.Event().wait()
    del kept


def say(word: object) -> None:
    with open(os.environ[CHANNEL], "a") as channel:  # one write of a line is atomic: pipe(7)
        channel.write(f"{word}\n")


def started(*pids: int) -> None:
    """Report these processes."""
    for pid in pids:
        say(pid)


def started_below() -> None:
    """Report every process that is below this one now."""
    todo = [os.getpid()]
    while todo:
        for task in Path(f"/proc/{todo.pop()}/task").glob("*/children"):
            children = [int(child) for child in task.read_text().split()]
            started(*children)
            todo += children


def cluster() -> None:
    """Report that all present processes but the one to be killed must live on."""
    say("cluster")
    with open(f"{os.environ[CHANNEL]}-back", "rb", buffering=0) as back:
        back.read(1)


def ready() -> None:
    """Report that all is started, and that the threads that were to end have ended."""
    say("ready")


def work(*_: object) -> None:
    """A task that starts a program and waits for it."""
    process = subprocess.Popen(SLEEP)
    started(os.getpid(), process.pid)
    process.wait()


def compute(*_: object) -> None:
    """A task that is busy and reads nothing."""
    started(os.getpid())
    while True:
        sum(range(10**6))
        signal.sigtimedwait([signal.SIGRTMAX], 0.05)  # spares the CPU, because other runs measure too


def on_a_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Run it on a thread, and return after the end of that thread in the kernel."""
    before = set(os.listdir("/proc/self/task"))
    result: list[T] = []
    native: list[int] = []

    def body() -> None:
        native.append(threading.get_native_id())
        result.append(function(*arguments))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert str(native[0]) not in before
    thread_gone(native[0])
    return result[0]


def thread_gone(tid: int) -> None:
    """Wait for the thread's end in the kernel, which comes after Python's join and has no event."""
    while os.path.exists(f"/proc/self/task/{tid}"):
        os.sched_yield()
