"""Beneath every spawn of a member.

It costs a start-up next to nothing: neither subprocess nor what binds a child is imported before
the first spawn. subprocess, asyncio and multiprocessing start programs by
``_posixsubprocess.fork_exec``, and subprocess some by ``os.posix_spawn`` unless
``_USE_POSIX_SPAWN`` is off. What os has besides is in ``patching.OS_FUNCTIONS``. uvloop has its
own way, in C.
"""

import _posixsubprocess
import os

from .._base import native
from .._base.patching import OS_FUNCTIONS, Patch, look_like, unpatched, when_imported
from .._child import arm, fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Terms:
    """Signal, grace and scope, as ``PDEATHSIG`` and ``PDEATHSIG_SCOPE`` say."""

    __slots__ = ("arms_at_start", "grace", "scope", "sig")

    def __init__(self, sig: int, grace: "float | None", scope: str, arms_at_start: bool) -> None:
        self.sig, self.grace, self.scope = sig, grace, scope
        self.arms_at_start = arms_at_start
        """Whether another run of this Python arms itself, as site has started this one so."""

    @property
    def gives_guards(self) -> bool:
        """Whether programs that do not arm themselves get a guard."""
        return (self.grace, self.scope) != (None, "child")


_terms: Terms
_is_put = False


def put(terms: Terms) -> None:
    """From now on what this process starts is bound by these terms."""
    global _terms, _is_put
    _terms = terms
    fork.wrap_program = _wrap_program if terms.gives_guards else None
    if _is_put:
        return
    _is_put = True
    Patch(_posixsubprocess, "fork_exec", fork_exec).apply()
    for name in OS_FUNCTIONS if native.backend == "compiled" else ():
        Patch(os, name, _stub(name)).apply()
    when_imported("subprocess", _change_subprocess)
    when_imported("uvloop", _change_uvloop)
    when_imported("torch.multiprocessing.spawn", _change_torch)


def import_programs() -> None:
    """Before a fork: a child cannot import while a lock of another thread is held."""
    from .._spawn import guard  # noqa: F401
    from . import programs  # noqa: F401


def fork_exec(*arguments: "Any") -> int:
    """In the place of CPython's."""
    from . import programs

    return programs.fork_exec(_terms, unpatched(fork_exec), arguments)


def _stub(name: str) -> "Callable[..., Any]":
    def stub(*arguments: "Any", **options: "Any") -> "Any":
        from . import programs

        return programs.call_os_function(_terms, name, unpatched(stub), arguments, options)

    return look_like(stub, getattr(os, name))  # type: ignore[no-any-return]


def _wrap_program(path: bytes, argv: "Any", env: "Any") -> "tuple[bytes, list[bytes]] | None":
    from . import programs

    return programs.with_guard(_terms, path, argv, env)


def _change_subprocess(subprocess: "Any") -> None:
    if getattr(subprocess, "_fork_exec", None) is unpatched(fork_exec):
        subprocess._fork_exec = fork_exec
    subprocess._USE_POSIX_SPAWN = False


def _change_uvloop(module: "Any") -> None:
    from .._spawn import uvloop

    uvloop.binds_starts.append(lambda: True)
    uvloop.change(module)


def _change_torch(spawn: "Any") -> None:
    """Its workers bind themselves to the thread that started them, which would undo ours."""
    real: "Callable[[int], None] | None" = getattr(spawn, "_prctl_pr_set_pdeathsig", None)
    if real is None:
        return

    def unless_armed(sig: int) -> None:
        if not arm.is_armed():
            real(sig)

    spawn._prctl_pr_set_pdeathsig = unless_armed
