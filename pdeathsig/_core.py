"""The only importer of the compiled extension: -errno becomes OSError here.

Without the extension (installed where there is no compiler) ``_ctypes`` stands in, with the kernel's own semantics.
``PDEATHSIG_BACKEND=ctypes|syscall`` selects that on purpose.
"""

import os
import sys

import pdeathsig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ffi: "Any" = None
lib: "Any" = None  # the extension, or what stands in for it
backend = ""  # "compiled", "ctypes", "syscall"; empty: not Linux


def supported() -> bool:
    """Whether this platform has parent-death signals: True on Linux."""
    return bool(backend)


def require_linux(what: str) -> None:
    """Raise NotImplementedError, naming ``what``, on a platform without prctl(2)."""
    if not backend:
        raise NotImplementedError(f"pdeathsig.{what} needs Linux's prctl(2); this is {sys.platform}")


def check(result: int) -> int:
    """A result of the extension: pass it on, or raise the OSError that it stands for."""
    if result >= 0:
        return result
    raise OSError(-result, f"{failed_call()}: {os.strerror(-result)}")


def failed_call() -> str:
    """The name of the system call that failed last on this thread."""
    return str(ffi.string(lib.pds_failed_call()), "ascii") if ffi else "prctl"


def forkers_creator() -> object:
    """multiprocessing's parent_process() when this process was forked: then it is our forker's, not ours."""
    return pdeathsig._forkers_creator


def _load() -> str:
    global ffi, lib
    if not sys.platform.startswith("linux"):
        return ""
    wanted = os.environ.get("PDEATHSIG_BACKEND", "")
    if wanted:
        from ._environ import distrusted

        wanted = "" if distrusted() else wanted
    if wanted not in ("", "compiled", "ctypes", "syscall"):
        raise ImportError(f"PDEATHSIG_BACKEND={wanted!r}: not one of compiled, ctypes, syscall")
    if wanted in ("", "compiled") and pdeathsig._quick is not None:
        from ._ffi import ffi, lib

        return "compiled"
    if wanted == "compiled":
        raise ImportError("PDEATHSIG_BACKEND=compiled: pdeathsig was installed without its extension")
    if not wanted and os.path.exists(f"{pdeathsig.__path__[0]}/../build_ffi.py"):
        raise ImportError("this is pdeathsig's source tree, not compiled: `pip install .`, and run from elsewhere")
    from . import _ctypes

    lib = _ctypes.Library(direct=wanted == "syscall")
    return wanted or "ctypes"


backend = _load()
