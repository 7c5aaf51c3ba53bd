"""install(): binding all that this process starts.

Replaced is CPython's ``fork_exec``, in the two modules that call it: subprocess, so asyncio too,
and multiprocessing, which starts by it the workers of spawn, the fork server and the resource
tracker. Children of multiprocessing's fork arm themselves. Replaced are also the functions of
``os`` that start a program without it: posix_spawn, posix_spawnp, system, and what spawnv and its
family call.

State of this process: ``_binding``, ``_shell_binding``, ``_PATCHES``, the hook for
multiprocessing's forks that the first ``install()`` sets, and the entry in
``uvloop.binds_starts``.
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
from .binding import KILL, Binding, choose_binding, is_shell_command, shell_can_be_tree

if TYPE_CHECKING:
    from .guard_command import Scope

# How children are bound, and shell commands. None: not installed.
_binding: "Binding | None" = None
_shell_binding: "Binding | None" = None


def install(sig: "int | str" = KILL, *, scope: "Scope | None" = None, grace: "float | None" = None) -> None:
    """Bind every child that this process starts from now on.

    The child gets ``sig`` when this process dies. Bound is what subprocess, asyncio and
    multiprocessing start, and what os.popen, os.system, os.posix_spawn, os.posix_spawnp, and
    os.spawnv and its family start. The last do not fork any more: no at-fork handler runs.

    Not bound are:

    - the resource trackers of multiprocessing and loky: they clean up after this process, and then
      end by themselves;
    - what ``pdeathsig.Popen(pdeathsig=None)`` starts;
    - workers of multiprocessing's fork server, which are children of the server; they arm
      themselves by ``initializer=pdeathsig.arm``;
    - children of ``os.fork``, and what they become by exec; ``arm(inherit=True)`` binds both;
    - where the extension is not compiled, what the functions of ``os`` start, but for os.popen.

    Called again, it changes the terms. ``uninstall()`` takes it back; children that run stay bound.
    In a ``PDEATHSIG`` family these terms replace the family's, in this process and in those that it
    forks.

    :param sig: a signal, by number or name (``"TERM"``, ``"SIGTERM"``).
    :param scope: as in ``Popen``: None is ``"tree"`` for a shell command, else ``"child"``. But
        with ``"tree"``, what a program leaves behind when it ends, such as a server that it started
        in the background, lives as long as this process does.
        A shell command is what os.system, os.popen and ``shell=True`` start. Its arguments tell:
        the path of a shell (sh, bash, dash, zsh ...), then ``-c``. ``["sh", "-c", ...]`` is none.
        With a guard, the ``pid`` that callers see is the guard's. The guard passes signals on, and
        ends as the program does; SIGKILL of the guard ends all that is below it.
    :param grace: as in ``Popen``: seconds from the signal to SIGKILL. The signal is then SIGTERM
        unless ``sig`` says otherwise.

    Raises TypeError or ValueError that names the argument, FileNotFoundError if a guard is needed
    and was not built, and NotImplementedError where this is not Linux.
    """
    global _binding, _shell_binding
    native.require_linux("install()")
    first = _binding is None
    check_signal(sig)
    new_binding = choose_binding(sig, scope, grace, name="sig", linger=True)
    new_shell_binding = choose_binding(sig, scope, grace, shell=True, name="sig", linger=True)
    from multiprocessing import util  # if this fails, nothing has changed

    _binding, _shell_binding = new_binding, new_shell_binding
    if first:
        for patch in _PATCHES:
            patch.apply()
        util.register_after_fork(install, _arm_worker)
        when_imported("uvloop", uvloop.change)


def uninstall() -> None:
    """Take back ``install()``. Children that it bound stay bound.

    What other code has put above one of its functions stays, and finds CPython's beneath.
    """
    global _binding, _shell_binding
    _binding = _shell_binding = None
    for patch in _PATCHES:
        patch.undo()


def installed() -> bool:
    """Whether ``install()`` is in force."""
    return _binding is not None


def _fork_exec_patch(module: Any, name: str) -> Patch:
    def bound_fork_exec(*arguments: Any) -> int:
        binding = None if fork_exec.is_bound(arguments) else _choose_binding(arguments[0])
        if binding is None:
            pid: int = patch.original(*arguments)
            return pid
        return fork_exec.start_bound(binding, unpatched(bound_fork_exec), arguments)

    patch = Patch(module, name, bound_fork_exec)
    return patch


def _os_patch(name: str) -> Patch:
    def bound_function(*arguments: Any, **options: Any) -> Any:
        return os_functions.call(name, _choose_binding, patch.original, arguments, options)

    patch = Patch(os, name, look_like(bound_function, getattr(os, name)))
    return patch


def _choose_binding(args: Any, *_: object) -> "Binding | None":
    if _binding is None or is_resource_tracker(args):
        return None
    if _shell_binding == _binding or not is_shell_command(args):
        return _binding
    # A process that has changed its user or its root since may not reach the guard any more.
    return _shell_binding if shell_can_be_tree() else _binding


def _arm_worker(_: object) -> None:
    if _binding is not None and not arm.is_armed():
        arm.arm(_binding.sig)


_PATCHES = [
    _fork_exec_patch(_posixsubprocess, "fork_exec"),
    _fork_exec_patch(subprocess, "_fork_exec"),
    Patch(subprocess, "_USE_POSIX_SPAWN", False),
    *(_os_patch(name) for name in OS_FUNCTIONS if native.backend == "compiled"),
]
uvloop.binds_starts.append(installed)
