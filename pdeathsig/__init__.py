"""Nothing a program starts outlives it, and nothing dies that should live.

In a child::

    import pdeathsig.auto                      # dies with its parent process
    pdeathsig.arm(signal.SIGTERM, grace=5)     # SIGTERM when the parent dies, SIGKILL 5 s later

In a parent that must use ``subprocess``::

    subprocess.Popen(cmd, preexec_fn=pdeathsig.preexec())

Start-up time matters, so only the shim is loaded here, without cffi: it must see every fork from
now on. The rest comes on first use.

PYTEST_DONT_REWRITE: pytest rewrites the assertions of packages that have a plugin, and warns where
it comes too late.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._base.native import supported as supported
    from ._child.arm import arm as arm
    from ._child.arm import disarm as disarm
    from ._child.status import Status as Status
    from ._child.status import status as status
    from ._kill.tree import Ended as Ended
    from ._kill.tree import kill_group as kill_group
    from ._kill.tree import kill_tree as kill_tree
    from ._spawn.guard_command import guarded as guarded
    from ._spawn.install import install as install
    from ._spawn.install import uninstall as uninstall
    from ._spawn.preexec import preexec as preexec
    from ._typed import Popen as Popen
    from ._typed import call as call
    from ._typed import check_call as check_call
    from ._typed import check_output as check_output
    from ._typed import create_subprocess_exec as create_subprocess_exec
    from ._typed import create_subprocess_shell as create_subprocess_shell
    from ._typed import run as run

__version__ = "0.1.0"
_MODULES = {
    "_base.native": ["supported"],
    "_child.arm": ["arm", "disarm"],
    "_child.status": ["Status", "status"],
    "_kill.tree": ["Ended", "kill_group", "kill_tree"],
    "_spawn.aio": ["create_subprocess_exec", "create_subprocess_shell"],
    "_spawn.guard_command": ["guarded"],
    "_spawn.install": ["install", "uninstall"],
    "_spawn.popen": ["Popen", "call", "check_call", "check_output", "run"],
    "_spawn.preexec": ["preexec"],
}
_LAZY = {name: module for module, names in _MODULES.items() for name in names}
__all__ = list(_LAZY)
# For `-p pdeathsig` where pytest does not look for entry points: in workers of xdist, and with
# autoloading off.
pytest_plugins = ("pdeathsig.pytest_plugin",)
_quick: "Any" = None  # the compiled shim's quick entrance (c_src/module/quick.c), where there is a shim


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = f"{__name__}.{_LAZY[name]}"
    __import__(module)
    value: object = getattr(sys.modules[module], name)
    globals()[name] = value
    return value


def __dir__() -> "list[str]":
    return sorted({*globals(), *__all__})


def _before_fork() -> None:
    """Import what a child needs to arm itself.

    A fork while another thread imports leaves the child an import lock that is never released.
    """
    from ._child import arm  # noqa: F401


def _load_quick() -> "Any":
    """The module _quick, which has no file of its own: it is inside that of _ffi."""
    from _imp import create_dynamic, exec_dynamic, extension_suffixes

    for suffix in extension_suffixes():
        path = f"{__path__[0]}/_ffi{suffix}"
        try:
            os.stat(path)
        except OSError:
            continue
        module = create_dynamic(type(__spec__)(f"{__name__}._quick", None, origin=path))
        exec_dynamic(module)
        sys.modules[f"{__name__}._quick"] = module
        return module
    return None  # built without it: _base.fallback stands in


if sys.platform.startswith("linux"):
    _quick = _load_quick()
    os.register_at_fork(before=_before_fork)
