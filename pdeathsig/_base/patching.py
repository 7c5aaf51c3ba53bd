"""Putting ours in the place of a function of another module, and taking it back.

State of this process: which function each of ours replaced, and which modules are still to be
changed when they are imported.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

# What os has to start programs, beneath all else there. PyPy has no posix_spawn.
OS_FUNCTIONS = tuple(name for name in ("posix_spawn", "posix_spawnp", "system", "_spawnvef") if hasattr(os, name))

_originals: "dict[Any, Any]" = {}  # ours: what it replaced


class Patch:
    """One attribute of a module, and ours in its place."""

    __slots__ = ("_applied", "_module", "_name", "_pristine", "original", "ours")

    def __init__(self, module: "Any", name: str, ours: "Any") -> None:
        self._module, self._name, self.ours = module, name, ours
        self._applied = False
        self.original: "Any" = getattr(module, name, None)
        self._pristine = self.original

    def apply(self) -> None:
        """Put ours there. A function that other code has put above ours meanwhile stays.

        If that code has taken ours away with its own, ours is put there again.
        """
        now = getattr(self._module, self._name, self.ours)
        is_above = self._applied and now not in (self.original, self._pristine)
        if now is not self.ours and not is_above:
            self.original, self._applied = now, True
            if callable(self.ours):
                _originals[self.ours] = now
            setattr(self._module, self._name, self.ours)

    def undo(self) -> None:
        """Take it back. A function that other code has put above ours stays."""
        if self._applied and getattr(self._module, self._name) is self.ours:
            self._applied = False
            setattr(self._module, self._name, self.original)


def unpatched(function: "Any") -> "Any":
    """What is beneath all of ours: CPython's own, or what another package has put there."""
    while function in _originals:
        function = _originals[function]
    return function


def look_like(ours: "Any", original: "Any") -> "Any":
    """Give ours the name and documentation of what it replaces; functools.wraps costs an import."""
    ours.__name__, ours.__qualname__, ours.__doc__ = original.__name__, original.__qualname__, original.__doc__
    ours.__wrapped__ = original
    return ours


def when_imported(name: str, change: "Callable[[Any], None]") -> None:
    """Call ``change`` with that module: now if it is imported, else when it has been."""
    if name in sys.modules:
        change(sys.modules[name])
        return
    finder = next((finder for finder in sys.meta_path if isinstance(finder, _Finder)), None)
    if finder is None:
        finder = _Finder()
        sys.meta_path.insert(0, finder)
    finder.changes.setdefault(name, []).append(change)


class _Finder:
    """Finds nothing itself: it has the other finders' loader call the changes after the import."""

    def __init__(self) -> None:
        self.changes: "dict[str, list[Callable[[Any], None]]]" = {}

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "ModuleSpec | None":
        if name not in self.changes:
            return None
        from importlib.util import find_spec

        changes = self.changes.pop(name)  # before the search, which comes by here again
        spec = find_spec(name)
        if spec is None or spec.loader is None:
            self.changes[name] = changes
        else:
            spec.loader = _Loader(spec.loader, changes)  # type: ignore[assignment]
        return spec


class _Loader:
    def __init__(self, loader: "Any", changes: "list[Callable[[Any], None]]") -> None:
        self._loader, self._changes = loader, changes

    def create_module(self, spec: "ModuleSpec") -> "ModuleType | None":
        module: "ModuleType | None" = self._loader.create_module(spec)
        return module

    def exec_module(self, module: "Any") -> None:
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        for change in self._changes:
            change(module)
