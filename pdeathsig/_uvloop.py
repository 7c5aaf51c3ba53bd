"""uvloop starts processes in its own way, in C. In a family, and under install(), its loops do as asyncio's do: by
subprocess, whose spawns are bound."""

import sys
from asyncio import base_events
from collections.abc import Callable
from typing import Any

from . import _aio, _family


def change(uvloop: Any) -> None:
    for name in ("subprocess_exec", "subprocess_shell"):
        real = getattr(uvloop.Loop, name, None)
        if real is not None and not hasattr(real, "__wrapped__"):
            setattr(uvloop.Loop, name, _in_place_of(real, getattr(base_events.BaseEventLoop, name)))


def _in_place_of(real: "Callable[..., Any]", asyncio_s: "Callable[..., Any]") -> "Callable[..., Any]":
    async def ours(self: Any, protocol_factory: Any, *args: Any, **kwds: Any) -> Any:
        if not _bound():
            return await real(self, protocol_factory, *args, **kwds)
        return await asyncio_s(_aio.Starter(self, _aio.PlainTransport), protocol_factory, *args, **kwds)

    ours.__name__, ours.__qualname__, ours.__doc__ = real.__name__, real.__qualname__, real.__doc__
    ours.__wrapped__ = real  # type: ignore[attr-defined]
    return ours


def _bound() -> bool:
    install = sys.modules.get("pdeathsig._install")
    return _family.terms is not None or (install is not None and install.installed())
