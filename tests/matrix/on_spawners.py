"""Libraries that start programs: anyio, trio, plumbum, sh, pexpect."""

from __future__ import annotations

import subprocess
from typing import Any

from rows import SHELL, SLEEP, compute, main, on_a_thread, ready, row, started


def anyio_open(backend: str) -> None:
    import anyio

    async def stay() -> None:
        kept = await anyio.open_process(SHELL)
        started(kept.pid)
        ready()
        await anyio.sleep_forever()

    anyio.run(stay, backend=backend)


@row("anyio: `open_process`, on asyncio", 2, needs=("anyio",), light=True)
def anyio_asyncio() -> None:
    anyio_open("asyncio")


@row("anyio: `open_process`, on trio", 2, needs=("anyio", "trio"), light=True)
def anyio_trio() -> None:
    anyio_open("trio")


@row("anyio: `to_process.run_sync`", 1, needs=("anyio",), light=True)
def anyio_to_process() -> None:
    import anyio
    import anyio.to_process

    async def stay() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_process.run_sync, compute)
            ready()

    anyio.run(stay)


@row("anyio: `to_thread.run_sync(Popen)`", 1, needs=("anyio",), light=True)
def anyio_to_thread() -> None:
    import anyio
    import anyio.to_thread

    async def once() -> Any:
        kept = await anyio.to_thread.run_sync(subprocess.Popen, SLEEP)
        started(kept.pid)
        return kept

    anyio.run(once)  # the loop's threads end with it


@row("trio: `run_process`", 2, needs=("trio",), light=True)
def trio_run() -> None:
    import trio

    async def stay() -> None:
        async with trio.open_nursery() as nursery:
            kept: Any = await nursery.start(trio.run_process, ["sh", "-c", SHELL])
            started(kept.pid)
            ready()

    trio.run(stay)


@row("trio: `to_thread.run_sync(Popen)`", 1, needs=("trio",), light=True)
def trio_to_thread() -> None:
    import trio

    async def stay() -> None:
        kept = await trio.to_thread.run_sync(subprocess.Popen, SLEEP)
        started(kept.pid)
        ready()
        await trio.sleep_forever()

    trio.run(stay)  # trio ends a thread that was idle for ten seconds


@row("plumbum: `popen`", 2, needs=("plumbum",), light=True)
def plumbum_popen() -> Any:
    import plumbum

    process: Any = plumbum.local["sh"]["-c", SHELL].popen()
    started(process.pid)
    return process


@row("plumbum: `& BG` on a `Thread` that ends", 2, needs=("plumbum",), light=True)
def plumbum_thread() -> Any:
    import plumbum

    future: Any = on_a_thread(lambda: plumbum.local["sh"]["-c", SHELL] & plumbum.BG)
    started(future.proc.pid)
    return future


@row("sh: `_bg=True`", 2, needs=("sh",), light=True)
def sh_background() -> Any:
    import sh

    command = sh.bash("-c", SHELL, _bg=True)
    started(command.pid)
    return command


@row("sh: `_bg=True` on a `Thread` that ends", 2, needs=("sh",), light=True)
def sh_thread() -> Any:
    return on_a_thread(sh_background)


@row("pexpect: `spawn`, which ignores the hang-up", 2, needs=("pexpect",), light=True)
def pexpect_spawn() -> Any:
    import pexpect

    child: Any = pexpect.spawn("sh", ["-c", f"trap '' HUP; {SHELL}"])
    started(child.pid)
    return child


@row("pexpect: `spawn` on a `Thread` that ends", 2, needs=("pexpect",), light=True)
def pexpect_thread() -> Any:
    return on_a_thread(pexpect_spawn)


@row("pexpect: `popen_spawn`", 2, needs=("pexpect",), light=True)
def pexpect_popen() -> Any:
    import pexpect.popen_spawn

    child: Any = pexpect.popen_spawn.PopenSpawn(["sh", "-c", SHELL])
    started(child.pid)
    return child


if __name__ == "__main__":
    main()
