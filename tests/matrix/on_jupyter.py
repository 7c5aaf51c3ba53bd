"""Jupyter kernels."""

from __future__ import annotations

import asyncio
from typing import Any

from rows import main, on_a_thread, ready, row

needs = ("jupyter_client", "ipykernel")
CELL = "from rows import work; work()"


def kernel(code: str = CELL) -> Any:
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel()
    client.execute(code)
    return manager, client


@row("`start_new_kernel`, a cell that starts a program", 2, needs=needs)
def plain() -> Any:
    return kernel()


@row("the same, from a `Thread` that ends", 2, needs=needs)
def thread() -> Any:
    return on_a_thread(kernel)


@row("a cell with `!` (a shell on a terminal)", 2, needs=needs)
def shell() -> Any:
    return kernel("!echo $$ >$MATRIX_CHANNEL; sleep 1000 & echo $! >$MATRIX_CHANNEL; wait")


@row("`AsyncKernelManager`", 2, needs=needs)
def asynchronous() -> None:
    from jupyter_client.manager import start_new_async_kernel

    async def stay() -> None:
        kept = await start_new_async_kernel()
        kept[1].execute(CELL)
        ready()
        await asyncio.Event().wait()

    asyncio.run(stay())


if __name__ == "__main__":
    main()
