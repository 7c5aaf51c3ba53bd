"""install(): the binding under every spawn of this process.

What is replaced is CPython's ``fork_exec``, in the two modules that call it: subprocess (so asyncio too) and
multiprocessing, which starts its workers (spawn), its fork server and its resource tracker by it. Children of
multiprocessing's fork arm themselves. And in ``os`` what starts a program without it: posix_spawn, posix_spawnp,
system, and that which spawnv and its family come to.
"""

import _posixsubprocess
import os
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _arm, _core, _exec, _fork_exec, _os_spawn, _seam

if TYPE_CHECKING:
    from ._guard import Scope

_bound: "_fork_exec.Binding | None" = None
_replaced: "dict[str, Any]" = {}


def install(sig: int = _fork_exec.KILL, *, scope: "Scope" = "child", grace: "float | None" = None) -> None:
    """Bind every child that this process starts from now on by subprocess, asyncio or multiprocessing, and by os.popen,
    os.system, os.posix_spawn, os.posix_spawnp and os.spawnv and its family: it gets ``sig`` when this process dies.

    Exempt are the resource trackers of multiprocessing and loky, which clean up after us and then go by themselves,
    and what ``pdeathsig.Popen(pdeathsig=None)`` starts. Workers of multiprocessing's fork server are children of the
    server, and arm themselves by ``initializer=pdeathsig.arm``. Left as they are: ``os.fork``, and what such a child
    becomes by exec (``arm(inherit=True)`` binds both).
    os.spawnv and its family do not fork any more: no at-fork handler runs. Where the extension is not compiled, of all
    those in ``os`` only os.popen is bound.

    Called again, it changes the terms. ``uninstall()`` takes it back; what runs stays bound. In a ``PDEATHSIG`` family
    these terms replace the family's, in this process and those it forks.

    :param sig: a signal number.
    :param scope: as in ``Popen``; but with ``"tree"`` what a program leaves behind when it ends, a server that it
        started in the background, lives as long as this process does. With a guard the ``pid`` that others see is the
        guard's: it passes signals on and ends as the program does; SIGKILL of it ends all that is below.
    :param grace: as in ``Popen``: seconds from the signal, then SIGTERM if ``sig`` does not say otherwise, to SIGKILL.

    Raises TypeError or ValueError that names the argument.
    """
    global _bound
    _core.require_linux("install()")
    first = _bound is None
    _arm.check_signal(sig)
    bound = _fork_exec.binding(sig, scope, grace, name="sig", linger=True)
    from multiprocessing import util  # this may fail, and then nothing has changed

    _bound = bound
    if first:
        for module, name, value in _PLACES:
            now = getattr(module, name, value)
            # Another thread may be at the same: what is ours already is nobody's original.
            if now is not value and _replaced.setdefault(name, now) is now:
                setattr(module, name, value)
        util.register_after_fork(_installed, _arm_worker)
        _seam.change("uvloop")


def uninstall() -> None:
    """Take back ``install()``. What was started meanwhile stays bound. Who has put himself in our place stays there,
    and finds CPython beneath."""
    global _bound
    _bound = None
    for module, name, value in _PLACES:
        if name in _replaced and getattr(module, name) is value:
            setattr(module, name, _replaced.pop(name))


def installed() -> bool:
    """Whether ``install()`` holds."""
    return _bound is not None


def beneath() -> "Callable[..., int]":
    """The fork_exec that CPython's code calls without us: its own, or somebody's who has put himself in its place."""
    now: Callable[..., int] = getattr(subprocess, "_fork_exec", _posixsubprocess.fork_exec)
    return _seam.without_family(_original() if now is _installed else now)


def _original() -> "Callable[..., int]":
    found: Callable[..., int] = _replaced.get("_fork_exec", _replaced.get("fork_exec", _fork_exec.cpython))
    return found


def _installed(*arguments: Any) -> int:
    if _bound is None or _fork_exec.is_bound(arguments) or _exec.is_tracker(arguments[0]):
        return _original()(*arguments)
    return _fork_exec.start(_bound, _seam.without_family(_original()), arguments)


def _binding(args: Any, *_: object) -> "_fork_exec.Binding | None":
    return None if _exec.is_tracker(args) else _bound


def _arm_worker(_: object) -> None:
    if _bound is not None and not _arm.is_armed():
        _arm.arm(_bound.sig)


_PLACES: "tuple[tuple[Any, str, Any], ...]" = (
    (_posixsubprocess, "fork_exec", _installed),
    (subprocess, "_fork_exec", _installed),
    (subprocess, "_USE_POSIX_SPAWN", False),
)
if _core.backend == "compiled":
    _PLACES += tuple(
        (os, name, _os_spawn.in_place_of(name, _binding, lambda name=name: _replaced.get(name, _seam.beneath[name])))  # type: ignore[misc]
        for name in _seam.OS
    )
