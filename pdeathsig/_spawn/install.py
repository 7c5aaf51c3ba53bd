"""install(): the binding under every spawn of this process.

What is replaced is CPython's ``fork_exec``, in the two modules that call it: subprocess (so asyncio too) and
multiprocessing, which starts its workers (spawn), its fork server and its resource tracker by it. Children of
multiprocessing's fork arm themselves. And in ``os`` what starts a program without it: posix_spawn, posix_spawnp,
system, and that which spawnv and its family come to.
"""

import _posixsubprocess
import os
import subprocess
from typing import TYPE_CHECKING, Any

from .._base import native
from .._base.checks import check_signal
from .._base.environ import is_resource_tracker
from .._base.patching import OS_FUNCTIONS, Patch, look_like, unpatched, when_imported
from .._child import arm
from . import fork_exec, os_functions, uvloop
from .binding import KILL, Binding, choose_binding

if TYPE_CHECKING:
    from .guard_command import Scope

_bound: "Binding | None" = None


def install(sig: int = KILL, *, scope: "Scope" = "child", grace: "float | None" = None) -> None:
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
    native.require_linux("install()")
    first = _bound is None
    check_signal(sig)
    bound = choose_binding(sig, scope, grace, name="sig", linger=True)
    from multiprocessing import util  # this may fail, and then nothing has changed

    _bound = bound
    if first:
        for patch in _PATCHES:
            patch.apply()
        util.register_after_fork(install, _arm_worker)
        when_imported("uvloop", uvloop.change)


def uninstall() -> None:
    """Take back ``install()``. What was started meanwhile stays bound.

    A function that other code has put above ours stays there, and finds CPython's beneath.
    """
    global _bound
    _bound = None
    for patch in _PATCHES:
        patch.undo()


def installed() -> bool:
    """Whether ``install()`` holds."""
    return _bound is not None


def _fork_exec_patch(module: Any, name: str) -> Patch:
    def bound_fork_exec(*arguments: Any) -> int:
        if _bound is None or fork_exec.is_bound(arguments) or is_resource_tracker(arguments[0]):
            pid: int = patch.original(*arguments)
            return pid
        return fork_exec.start_bound(_bound, unpatched(bound_fork_exec), arguments)

    patch = Patch(module, name, bound_fork_exec)
    return patch


def _how_bound(args: Any, *_: object) -> "Binding | None":
    return None if is_resource_tracker(args) else _bound


def _os_patch(name: str) -> Patch:
    def stub(*arguments: Any, **options: Any) -> Any:
        return os_functions.call(name, _how_bound, patch.original, arguments, options)

    patch = Patch(os, name, look_like(stub, getattr(os, name)))
    return patch


def _arm_worker(_: object) -> None:
    if _bound is not None and not arm.is_armed():
        arm.arm(_bound.sig)


_PATCHES = [
    _fork_exec_patch(_posixsubprocess, "fork_exec"),
    _fork_exec_patch(subprocess, "_fork_exec"),
    Patch(subprocess, "_USE_POSIX_SPAWN", False),
    *(_os_patch(name) for name in OS_FUNCTIONS if native.backend == "compiled"),
]
uvloop.binds_starts.append(installed)
