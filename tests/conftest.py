"""Every test leaves no process and no descriptor behind, or fails.

pytest is a subreaper here: what a test orphans comes back to it, and is found. With pytest-xdist,
each worker is one.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import select
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from actors import pidfd_open
from harness import Process, Tree, actor, environment, own_temporary_files, send_signal

import pdeathsig

PR_SET_CHILD_SUBREAPER = 36

Start = Callable[..., Tree]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--share", type=int, default=1, metavar="N", help="every N-th test only: a sample, for slow machines"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Half as many again as there are processors: a third of the time, tests wait."""
    return max(2, len(os.sched_getaffinity(0)) * 3 // 2)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items[:] = items[:: config.getoption("--share")]


def pytest_collection_finish() -> None:
    gc.collect()
    if hasattr(gc, "freeze"):  # PyPy has not
        gc.freeze()  # what is here stays: the collections between tests need not look at it


def pytest_configure(config: pytest.Config) -> None:
    # A shell's background jobs ignore the first two, those of nohup(1) the third. So would all
    # that is tested.
    for sig in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(sig) == signal.SIG_IGN or sys.implementation.name == "pypy":  # which does not see it
            signal.signal(sig, signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # tmp_path is where it always is, and stays
    files = contextlib.ExitStack()
    files.enter_context(own_temporary_files())
    config.add_cleanup(files.close)
    if not list(Path(pdeathsig.__file__).parent.glob("_ffi.*.so")):
        raise pytest.UsageError("pdeathsig is not compiled; `make test` builds and tests it")


def pytest_unconfigure() -> None:
    """End what a worker of pytest-xdist that has crashed, or timed out, has left to us."""
    for pid in descendants(os.getpid()):
        end(pid)


def has_children(pid: int) -> bool:
    """Zombies count. True also where a thread ends meanwhile: its children go to another one."""
    try:
        return any(file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children"))
    except (FileNotFoundError, ProcessLookupError):
        return True


def descendants(pid: int) -> dict[int, str]:
    """PID and command line of everything alive below ``pid``."""
    if not has_children(pid):
        return {}  # the usual case; to read all of /proc takes ten times as long
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = entry.joinpath("stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields[0] not in "ZX":
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: dict[int, str] = {}
    todo = [pid]
    while todo:
        for child in children.get(todo.pop(), []):
            todo.append(child)
            try:
                found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:120]
            except (FileNotFoundError, ProcessLookupError):
                pass
    return found


def descriptors() -> dict[str, str]:
    """Each descriptor and what it is open to.

    The descriptor that lists them is left out. It is not always the lowest: a thread of
    pytest-rerunfailures waits in accept(2), and the number of that is taken but not to be seen.
    """
    held: dict[str, str] = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            held[name] = os.readlink(f"/proc/self/fd/{name}")
    return held


def reap() -> None:
    """Collect what was orphaned to us and has ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def ends_by_itself(pid: int) -> bool:
    """A guard is the last to go, when those that the test waits for have gone."""
    try:
        process = Process(pid)
    except ProcessLookupError:
        return True
    try:
        return process.dies()
    finally:
        process.close()


def end(pid: int) -> None:
    try:
        pidfd = pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        send_signal(pidfd, signal.SIGKILL)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll(5000)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


@pytest.fixture(autouse=True, scope="session")
def lifeline() -> None:
    """The one descriptor that a process keeps once it has started a group."""
    pdeathsig.run(["true"], scope="group", check=True)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    gc.collect()  # of the test before: a descriptor that only a cycle holds would be closed at any time
    before = descendants(os.getpid())
    held = descriptors()
    yield
    left = {pid: command for pid, command in descendants(os.getpid()).items() if pid not in before}
    if any("pdeathsig-run " in command for command in left.values()):
        left = {pid: command for pid, command in left.items() if not ends_by_itself(pid)}
    for pid in left:
        end(pid)
    left = {pid: command for pid, command in left.items() if command}  # without one it was already exiting
    reap()
    assert not left, f"processes left behind: {left}"
    if descriptors() != held:
        gc.collect()
    assert descriptors() == held, "descriptors left open"


@pytest.fixture
def start(nothing_left: None) -> Iterator[Start]:
    """Start an actor: ``start(code, *python_options, **environment)``."""
    trees: list[Tree] = []

    def start(code: str, *args: str, prefix: tuple[str, ...] = (), options: Any = None, **changes: str | None) -> Tree:
        trees.append(Tree([*prefix, *actor(code, *args)], env=environment(**changes), **(options or {})))
        return trees[-1]

    yield start
    for tree in trees:
        tree.close()


def needs(condition: bool, reason: str) -> None:
    if not condition:
        pytest.skip(reason)


def uses(*names: str) -> pytest.MarkDecorator:
    """A test that itself calls what not every Python has, such as "os.waitid"."""
    missing = [name for name in names if not hasattr(importlib.import_module(name.split(".")[0]), name.split(".")[1])]
    return pytest.mark.skipif(bool(missing), reason=f"no {', '.join(missing)} in this Python")


@pytest.fixture
def root() -> None:
    needs(os.getuid() == 0, "needs root: changes credentials")
