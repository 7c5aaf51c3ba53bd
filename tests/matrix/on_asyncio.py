"""asyncio, and uvloop under it."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from rows import SHELL, SLEEP, compute, main, on_a_thread, ready, row, started


async def execute() -> Any:
    process = await asyncio.create_subprocess_exec(*SLEEP)
    started(process.pid)
    return process


async def shell() -> Any:
    process = await asyncio.create_subprocess_shell(SHELL)
    started(process.pid)
    return process


row("`create_subprocess_exec`", 1, light=True)(execute)
row("`create_subprocess_shell`: a shell that starts a program", 2, light=True)(shell)


@row("`to_thread(Popen)`", 1, light=True)
async def to_thread() -> Any:
    process = await asyncio.to_thread(subprocess.Popen, SLEEP)
    started(process.pid)
    await asyncio.get_running_loop().shutdown_default_executor()
    return process


@row("`asyncio.run` on a `Thread` that ends", 2, light=True)
def thread() -> Any:
    async def leave() -> Any:
        return (await shell())._transport  # kept, because its end would kill the process

    return on_a_thread(lambda: asyncio.new_event_loop().run_until_complete(leave()))


@row("`asyncio.run` on a `Thread` that stays", 1, light=True)
def staying_thread() -> None:
    async def stay() -> None:
        kept = await execute()
        ready()
        await asyncio.Event().wait()
        del kept

    threading.Thread(target=asyncio.run, args=(stay(),)).start()


@row("`run_in_executor` of a `ProcessPoolExecutor`", 2, light=True)
async def process_pool() -> Any:
    pool = ProcessPoolExecutor(2)
    return pool, [asyncio.get_running_loop().run_in_executor(pool, compute, n) for n in range(2)]


def on_uvloop(set_up: Any) -> None:
    import uvloop

    async def stay() -> None:
        kept = await set_up()
        ready()
        await asyncio.Event().wait()
        del kept

    uvloop.run(stay())


@row("uvloop: `create_subprocess_exec`", 1, needs=("uvloop",), light=True)
def uvloop_exec() -> None:
    on_uvloop(execute)


@row("uvloop: `create_subprocess_shell`: a shell that starts a program", 2, needs=("uvloop",), light=True)
def uvloop_shell() -> None:
    on_uvloop(shell)


@row("uvloop: `to_thread(Popen)`", 1, needs=("uvloop",), light=True)
def uvloop_to_thread() -> None:
    on_uvloop(to_thread)


if __name__ == "__main__":
    main()
