"""Nothing a program starts outlives it, and nothing dies that should live.

In a child::

    import pdeathsig.auto                      # dies with its parent process
    pdeathsig.arm(signal.SIGTERM, grace=5)     # SIGTERM when the parent dies, SIGKILL 5 s later

In a parent that must use ``subprocess``::

    subprocess.Popen(cmd, preexec_fn=pdeathsig.preexec())

Programs that count their milliseconds import this first. So only the shim is loaded here, without cffi: it must see
every fork from now on. The rest comes on first use.

PYTEST_DONT_REWRITE: pytest rewrites the assertions of packages that have a plugin, and warns where it comes too late.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._aio import create_subprocess_exec as create_subprocess_exec
    from ._aio import create_subprocess_shell as create_subprocess_shell
    from ._arm import arm as arm
    from ._arm import disarm as disarm
    from ._core import supported as supported
    from ._guard import guarded as guarded
    from ._install import install as install
    from ._install import uninstall as uninstall
    from ._preexec import preexec as preexec
    from ._spawn import Popen as Popen
    from ._spawn import call as call
    from ._spawn import check_call as check_call
    from ._spawn import check_output as check_output
    from ._spawn import run as run
    from ._status import Status as Status
    from ._status import status as status
    from ._tree import Ended as Ended
    from ._tree import kill_group as kill_group
    from ._tree import kill_tree as kill_tree

__version__ = "0.1.0"
_LAZY = {
    "Ended": "_tree",
    "Popen": "_spawn",
    "Status": "_status",
    "arm": "_arm",
    "call": "_spawn",
    "check_call": "_spawn",
    "check_output": "_spawn",
    "create_subprocess_exec": "_aio",
    "create_subprocess_shell": "_aio",
    "disarm": "_arm",
    "guarded": "_guard",
    "install": "_install",
    "kill_group": "_tree",
    "kill_tree": "_tree",
    "preexec": "_preexec",
    "run": "_spawn",
    "status": "_status",
    "supported": "_core",
    "uninstall": "_install",
}
__all__ = [
    "Ended",
    "Popen",
    "Status",
    "arm",
    "call",
    "check_call",
    "check_output",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "disarm",
    "guarded",
    "install",
    "kill_group",
    "kill_tree",
    "preexec",
    "run",
    "status",
    "supported",
    "uninstall",
]
# `-p pdeathsig` also where pytest does not look for entry points (in workers of xdist, with autoloading off).
pytest_plugins = ("pdeathsig.pytest_plugin",)
_quick: "Any" = None  # the compiled shim's quick entrance (c_src/quick.c), where there is a shim
_forkers_creator: object = None


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
    """A fork while another thread imports leaves the child with an import lock that nobody will release: so what a
    child needs to arm itself is imported by now."""
    from . import _arm  # noqa: F401

    family = sys.modules.get("pdeathsig._family")
    if family is not None and family.guards():
        from . import _guard, _members  # noqa: F401


def _after_fork_in_child() -> None:
    global _forkers_creator
    process = sys.modules.get("multiprocessing.process")
    parent_process = getattr(process, "parent_process", None)
    _forkers_creator = parent_process() if parent_process else None


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
        return module
    return None  # built without it: _core finds another way, and says so


if sys.platform.startswith("linux"):
    _quick = _load_quick()
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
