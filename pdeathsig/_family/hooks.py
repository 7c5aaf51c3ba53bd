"""Replacing what a member of the family starts programs by.

subprocess, asyncio and multiprocessing start programs by ``_posixsubprocess.fork_exec``. subprocess
starts some by ``os.posix_spawn``, unless ``_USE_POSIX_SPAWN`` is off. The other functions of os are
in ``patching.OS_FUNCTIONS``. uvloop starts programs in C.

The functions put here import subprocess and what binds a child when the first program is started:
a start-up pays for neither.

State of this process: ``_terms``, ``_are_put``.
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
_are_put = False  # the functions below, in the place of CPython's


def put(terms: Terms) -> None:
    """Bind by these terms what this process starts from now on."""
    global _terms, _are_put
    _terms = terms
    fork.wrap_program = _wrap_program if terms.gives_guards else None
    if _are_put:
        return
    _are_put = True
    Patch(_posixsubprocess, "fork_exec", _fork_exec).apply()
    for name in OS_FUNCTIONS if native.backend == "compiled" else ():
        Patch(os, name, _os_function(name)).apply()
    when_imported("subprocess", _change_subprocess)
    when_imported("uvloop", _change_uvloop)
    when_imported("torch.multiprocessing.spawn", _change_torch)


def import_programs() -> None:
    """Import what a start needs, before a fork.

    A fork while another thread imports leaves the child an import lock that is never released.
    """
    from .._spawn import guard  # noqa: F401
    from . import programs  # noqa: F401


def _fork_exec(*arguments: "Any") -> int:
    from . import programs

    return programs.fork_exec(_terms, unpatched(_fork_exec), arguments)


def _os_function(name: str) -> "Callable[..., Any]":
    def bound_function(*arguments: "Any", **options: "Any") -> "Any":
        from . import programs

        return programs.call_os_function(_terms, name, unpatched(bound_function), arguments, options)

    return look_like(bound_function, getattr(os, name))  # type: ignore[no-any-return]


def _wrap_program(path: bytes, argv: "Any", env: "Any") -> "tuple[bytes, list[bytes]] | None":
    from . import programs

    return programs.wrap_exec(_terms, path, argv, env)


def _change_subprocess(subprocess: "Any") -> None:
    if getattr(subprocess, "_fork_exec", None) is unpatched(_fork_exec):
        subprocess._fork_exec = _fork_exec
    subprocess._USE_POSIX_SPAWN = False


def _change_uvloop(module: "Any") -> None:
    from .._spawn import uvloop

    uvloop.binds_starts.append(lambda: True)
    uvloop.change(module)


def _change_torch(spawn: "Any") -> None:
    """Keep torch's workers from binding themselves to the thread that started them.

    They do so by prctl(2), PR_SET_PDEATHSIG, of which a process has one.
    """
    original: "Callable[[int], None] | None" = getattr(spawn, "_prctl_pr_set_pdeathsig", None)
    if original is None:
        return

    def unless_armed(sig: int) -> None:
        if not arm.is_armed():
            original(sig)

    spawn._prctl_pr_set_pdeathsig = unless_armed
