"""Beneath every spawn of a family member. It costs a start-up next to nothing: neither subprocess nor what binds a
child is imported before the first one.

subprocess, asyncio and multiprocessing start programs by ``_posixsubprocess.fork_exec``, and subprocess some by
``os.posix_spawn`` unless ``_USE_POSIX_SPAWN`` is off. What os has besides is in ``OS``. uvloop has its own way, in C.
"""

import _posixsubprocess
import os
import sys

from . import _arm, _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

# PyPy has no posix_spawn.
OS = tuple(name for name in ("posix_spawn", "posix_spawnp", "system", "_spawnvef") if hasattr(os, name))

cpython: "Callable[..., int]" = _posixsubprocess.fork_exec
beneath: "dict[str, Callable[..., Any]]" = {name: getattr(os, name) for name in OS}


def put() -> None:
    """Once in a process, when it becomes a member."""
    if _posixsubprocess.fork_exec is fork_exec:
        return
    _posixsubprocess.fork_exec = fork_exec
    for name in OS if _core.backend == "compiled" else ():
        setattr(os, name, _of_os(name))
    for name in CHANGES:
        change(name)


def fork_exec(*arguments: "Any") -> int:
    """In the place of CPython's."""
    from . import _members

    return _members.fork_exec(arguments)


def _of_os(name: str) -> "Callable[..., Any]":
    def ours(*arguments: "Any", **options: "Any") -> "Any":
        from . import _members

        return _members.OS[name](*arguments, **options)

    real = beneath[name]
    ours.__name__, ours.__qualname__, ours.__doc__ = real.__name__, real.__qualname__, real.__doc__
    ours.__wrapped__ = real  # type: ignore[attr-defined]
    return ours


def without_family(beneath: "Callable[..., int]") -> "Callable[..., int]":
    """For a child that is bound already, or is not to be."""
    return cpython if beneath is fork_exec else beneath


def _change_subprocess(subprocess: "Any") -> None:
    if getattr(subprocess, "_fork_exec", None) is cpython:
        subprocess._fork_exec = fork_exec
    subprocess._USE_POSIX_SPAWN = False


def _change_uvloop(uvloop: "Any") -> None:
    from . import _uvloop

    _uvloop.change(uvloop)


def _change_torch(spawn: "Any") -> None:
    """Its workers bind themselves to the thread that started them, by SIGINT: that would take the place of ours."""
    real: "Callable[[int], None] | None" = getattr(spawn, "_prctl_pr_set_pdeathsig", None)
    if real is None:
        return

    def unless_armed(sig: int) -> None:
        if not _arm.is_armed():
            real(sig)

    spawn._prctl_pr_set_pdeathsig = unless_armed


CHANGES: "dict[str, Callable[[Any], None]]" = {
    "subprocess": _change_subprocess,
    "torch.multiprocessing.spawn": _change_torch,
    "uvloop": _change_uvloop,
}


def change(name: str) -> None:
    """That module, now or when it has been imported, once."""
    if name in sys.modules:
        CHANGES[name](sys.modules[name])
        return
    finder = next((finder for finder in sys.meta_path if isinstance(finder, _Finder)), None)
    if finder is None:
        finder = _Finder()
        sys.meta_path.insert(0, finder)
    finder.names.add(name)


class _Finder:
    def __init__(self) -> None:
        self.names: "set[str]" = set()

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "ModuleSpec | None":
        if name not in self.names:
            return None
        from importlib.util import find_spec

        self.names.discard(name)
        spec = find_spec(name)
        if spec is None or spec.loader is None:
            self.names.add(name)
        else:
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
        return spec


class _Loader:
    def __init__(self, loader: "Any") -> None:
        self._loader = loader

    def create_module(self, spec: "ModuleSpec") -> "ModuleType | None":
        module: "ModuleType | None" = self._loader.create_module(spec)
        return module

    def exec_module(self, module: "Any") -> None:
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        CHANGES[module.__name__](module)
