"""create_subprocess_exec and create_subprocess_shell, on any loop and any thread."""

from __future__ import annotations

import asyncio
import asyncio.subprocess
import importlib.util
import os
import subprocess
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import harness
import pytest
from conftest import Start

import pdeathsig

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def uvloop_run(main: Coroutine[Any, Any, Any]) -> Any:
    uvloop = pytest.importorskip("uvloop")
    loop = uvloop.new_event_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


def thread_run(main: Coroutine[Any, Any, Any]) -> Any:
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(asyncio.run(main)))
    thread.start()
    thread.join()
    return result[0]


@pytest.fixture(autouse=True, scope="module")
def first_use() -> None:
    """Start uvloop once, because it keeps two descriptors open for ever."""
    if importlib.util.find_spec("uvloop") is not None:
        uvloop_run(asyncio.sleep(0))


@pytest.fixture(params=["asyncio", "uvloop", "thread"])
def run(request: pytest.FixtureRequest) -> Run:
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    runs: dict[str, Run] = {"asyncio": asyncio.run, "uvloop": uvloop_run, "thread": thread_run}
    return runs[request.param]


def test_a_conversation(run: Run) -> None:
    async def main() -> None:
        process = await pdeathsig.create_subprocess_exec("cat", stdin=-1, stdout=-1, stderr=-1)
        assert isinstance(process, asyncio.subprocess.Process)
        assert process.returncode is None
        assert await process.communicate(b"hello") == (b"hello", b"")
        assert process.returncode == await process.wait() == 0

    run(main())


def test_a_shell_and_its_exit_status(run: Run) -> None:
    async def main() -> None:
        process = await pdeathsig.create_subprocess_shell(
            "read x; echo $x >&2; exit 3", stdin=-1, stderr=-1, scope="group"
        )
        assert process.stdin is not None
        process.stdin.write(b"word\n")
        assert process.stderr is not None
        assert await process.stderr.readline() == b"word\n"
        assert await process.wait() == 3

    run(main())


def test_death_by_signal(run: Run) -> None:
    async def main() -> None:
        process = await pdeathsig.create_subprocess_exec("sleep", "1000")
        process.terminate()
        assert await process.wait() == -15

    run(main())


def test_many_at_once(run: Run) -> None:
    async def one(i: int) -> int:
        process = await pdeathsig.create_subprocess_exec("sh", "-c", f"exit {i}")
        return await process.wait()

    async def main() -> None:
        assert await asyncio.gather(*map(one, range(40))) == list(range(40))

    run(main())


def test_errors_are_those_of_asyncio(run: Run) -> None:
    async def main() -> None:
        for program, options in (
            ("nowhere", {}),
            ("true", {"cwd": "/nowhere"}),
            ("true", {"text": True}),
            ("true", {"shell": True}),
            ("true", {"bufsize": 1}),
            ("true", {"nonsense": 1}),
        ):
            errors = []
            for create in (asyncio.create_subprocess_exec, pdeathsig.create_subprocess_exec):
                with pytest.raises((OSError, ValueError, TypeError)) as caught:
                    await create(program, **options)
                errors.append((caught.type, caught.value.args, getattr(caught.value, "filename", None)))
            assert errors[0] == errors[1]
        with pytest.raises(ValueError, match="cmd must be a string"):
            await pdeathsig.create_subprocess_shell(["true"])  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="^scope: "):
            await pdeathsig.create_subprocess_exec("true", scope="tribe")  # type: ignore[arg-type]

    if run is uvloop_run:  # uvloop's errors differ
        pytest.skip("asyncio's errors are compared on asyncio's loop")
    run(main())


def test_cancelled_while_it_starts_leaves_no_child(run: Run) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(pdeathsig.create_subprocess_exec("sleep", "1000", stdout=-1))
        await asyncio.sleep(0)  # lets the task begin
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)

    run(main())


def test_a_loop_closed_before_the_child_ends() -> None:
    """No descriptor is left. The transport's finalizer ends the child, as in asyncio."""
    code = """
import asyncio, gc, os, select, warnings, pdeathsig
from actors import pidfd_open
warnings.simplefilter('ignore')
async def main(): return await pdeathsig.create_subprocess_exec('sleep', '1000')
loop = asyncio.new_event_loop()
before = os.listdir('/proc/self/fd')
process = loop.run_until_complete(main())
poll = select.poll()
poll.register(pidfd_open(process.pid), select.POLLIN)
loop.close()
del process, loop
for _ in range(5): gc.collect()  # PyPy finalizes in a cycle one by one
print(len(poll.poll(10_000)), len(before) - len(os.listdir('/proc/self/fd')))
"""
    assert harness.run(code).stdout == "1 2\n"  # three less by the loop, one more by the pidfd here


def test_a_child_is_awaited_without_a_pidfd(start: Start) -> None:
    """A thread waits before Linux 5.3, or with no descriptor left."""
    tree = start("""
import asyncio, pdeathsig, errno
def refused(pid, flags=0): raise OSError(errno.ENOSYS, 'pidfd_open')
os.pidfd_open = refused
async def main():
    process = await pdeathsig.create_subprocess_exec('sh', '-c', 'exit 7')
    say('status', await process.wait())
asyncio.run(main())
""")
    assert tree.event("status") == "7"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("thread", [False, True], ids=["main", "thread"])
def test_it_dies_with_its_parent(start: Start, loop: str, thread: bool) -> None:
    pytest.importorskip(loop)
    tree = start(f"""
import asyncio, pdeathsig, {loop}
async def main():
    for create, args in ((pdeathsig.create_subprocess_exec, ['sleep', '1000']),
        (pdeathsig.create_subprocess_shell, ['sleep 1000; :'])):
        process = await create(*args, scope='group')
        say('child', process.pid)
    if not {thread}: forever()
    process._transport._process_exited(0)  # let the loop go, and the child live
    process._transport.close()
    keep.append(process)
keep = []
def run():
    loop = {loop}.new_event_loop()
    loop.run_until_complete(main())
    keep.append(loop)
if {thread}:
    worker = threading.Thread(target=run); worker.start(); worker.join()
    say('joined')
else: run()
forever()
""")
    children = [tree.process("child"), tree.process("child")]
    if thread:
        tree.event("joined")
        assert children[1].alive()
    tree.kill()
    assert all(child.dies() for child in children)
    assert tree.all_gone()


def test_asyncio_s_own_functions_are_unchanged() -> None:
    before = (vars(asyncio.subprocess).copy(), vars(subprocess).copy())
    asyncio.run(one())
    assert (vars(asyncio.subprocess), vars(subprocess)) == before


async def one() -> None:
    await (await pdeathsig.create_subprocess_exec("true")).wait()


UVLOOP = """
import asyncio, uvloop
async def main():
    shell = await asyncio.create_subprocess_shell("echo shell $$; sleep 1000 & echo sleep $!; wait")
    echo = await asyncio.create_subprocess_exec('sh', '-c', 'read word; echo $word >&2; exit 3', stdin=-1, stderr=-1)
    say('told', *await echo.communicate(b'word'), echo.returncode)
    wait()
uvloop.run(main())
"""


@pytest.mark.parametrize("way", ["family", "install", "uninstall"])
@pytest.mark.parametrize("first", ["", "import uvloop\n"], ids=["uvloop later", "uvloop first"])
def test_the_children_of_uvloop_s_own_functions_are_bound(start: Start, way: str, first: str) -> None:
    pytest.importorskip("uvloop")
    before = {
        "family": "import pdeathsig.auto",
        "install": "import pdeathsig; pdeathsig.install(scope='tree')",
        "uninstall": "import pdeathsig; pdeathsig.install(); pdeathsig.uninstall()",
    }[way]
    tree = start(first + before + UVLOOP, PDEATHSIG="KILL" if way == "family" else None)
    seen = dict(tree.line().split(" ", 1) for _ in range(3))
    shell, sleep = tree.adopt(seen["shell"]), tree.adopt(seen["sleep"])
    assert seen["told"] == "None b'word\\n' 3"
    tree.kill()
    if way == "uninstall":
        assert not sleep.dies(within=0.1)
        shell.kill()
        sleep.kill()
    assert shell.dies() and sleep.dies()
