"""uvloop starts processes in its own way, in C. In a family, and under install(), its loops do as asyncio's do: by
subprocess, whose spawns are bound."""

from asyncio import base_events
from collections.abc import Callable
from typing import Any

from .._base.patching import look_like
from . import aio

# Asked at each start: whether what this process starts is bound. A family and install() add theirs.
is_bound: "list[Callable[[], bool]]" = []


def change(uvloop: Any) -> None:
    for name in ("subprocess_exec", "subprocess_shell"):
        real = getattr(uvloop.Loop, name, None)
        if real is not None and not hasattr(real, "__wrapped__"):
            setattr(uvloop.Loop, name, _in_place_of(real, getattr(base_events.BaseEventLoop, name)))


def _in_place_of(real: "Callable[..., Any]", asyncio_s: "Callable[..., Any]") -> "Callable[..., Any]":
    async def ours(self: Any, protocol_factory: Any, *args: Any, **kwds: Any) -> Any:
        if not any(asked() for asked in is_bound):
            return await real(self, protocol_factory, *args, **kwds)
        return await asyncio_s(aio.Starter(self, aio.PlainTransport), protocol_factory, *args, **kwds)

    return look_like(ours, real)  # type: ignore[no-any-return]
