"""Nothing a program starts outlives it, and nothing dies that should live.

In a child::

    import pdeathsig.auto                      # dies with its parent process
    pdeathsig.arm(signal.SIGTERM, grace=5)     # SIGTERM when the parent dies, SIGKILL 5 s later

In a parent that must use ``subprocess``::

    subprocess.Popen(cmd, preexec_fn=pdeathsig.preexec())

Programs that count their milliseconds import this first. So only the shim is loaded here, without cffi: it must see
every fork from now on. The rest comes on first use.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._arm import arm as arm
    from ._arm import disarm as disarm
    from ._core import supported as supported
    from ._preexec import preexec as preexec
    from ._status import Status as Status
    from ._status import status as status

__version__ = "0.1.0"
__all__ = ["Status", "arm", "disarm", "preexec", "status", "supported"]

_LAZY = {
    "Status": "_status",
    "arm": "_arm",
    "disarm": "_arm",
    "preexec": "_preexec",
    "status": "_status",
    "supported": "_core",
}
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
