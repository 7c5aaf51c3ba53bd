"""Binding what uvloop's loops start: uvloop starts processes in C, by no function that is patched.

In a family and under install() its loops start them as asyncio's do: by subprocess, which is bound.
State of this process: the functions that say whether that is so.
"""

from collections.abc import Callable
from typing import Any

from .._base.patching import look_like

# Asked at each start: whether what this process starts is bound. A family and install() add theirs.
binds_starts: "list[Callable[[], bool]]" = []


def change(uvloop: Any) -> None:
    """Replace the methods of uvloop's loops that start processes."""
    from asyncio import base_events  # not above: install() imports this file, asyncio takes 30 ms

    for name in ("subprocess_exec", "subprocess_shell"):
        original = getattr(uvloop.Loop, name, None)
        if original is not None and not hasattr(original, "__wrapped__"):
            setattr(uvloop.Loop, name, _replacement(original, getattr(base_events.BaseEventLoop, name)))


def _replacement(original: "Callable[..., Any]", asyncio_method: "Callable[..., Any]") -> "Callable[..., Any]":
    from . import aio

    async def start_process(self: Any, protocol_factory: Any, *args: Any, **kwds: Any) -> Any:
        if not any(binds() for binds in binds_starts):
            return await original(self, protocol_factory, *args, **kwds)
        starter = aio.Starter(self, aio.SubprocessTransport)
        return await asyncio_method(starter, protocol_factory, *args, **kwds)

    return look_like(start_process, original)  # type: ignore[no-any-return]
