"""The compiled extension, or what stands in for it: ``-errno`` becomes OSError here.

Where nothing is compiled, ``fallback`` stands in, with the kernel's own semantics.
``PDEATHSIG_BACKEND=ctypes|syscall`` selects it on purpose. No other module imports ``_ffi``.
"""

import os
import sys

from pdeathsig import _quick

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

quick: "Any" = _quick  # the way into the extension without cffi; None: not compiled
lib: "Any" = None  # a Library, or the fallback's
_AT_SECURE = 23
backend = ""  # "compiled", "ctypes", "syscall"; empty: not Linux


def supported() -> bool:
    """Whether this platform has parent-death signals: True on Linux."""
    return bool(backend)


def require_linux(what: str) -> None:
    """Raise NotImplementedError, naming ``what``, on a platform without prctl(2)."""
    if not backend:
        raise NotImplementedError(f"pdeathsig.{what} needs Linux's prctl(2); this is {sys.platform}")


def require_extension(what: str) -> None:
    """Raise NotImplementedError, naming ``what``, where the extension is not compiled."""
    require_linux(what)
    if backend != "compiled":
        raise NotImplementedError(
            f"pdeathsig.{what} needs the compiled extension: install pdeathsig where there is a C compiler"
        )


def check(result: int) -> int:
    """Return a result of the extension, or raise the OSError that it stands for."""
    if result >= 0:
        return result
    raise OSError(-result, f"{failed_call()}: {os.strerror(-result)}")


def is_secure() -> bool:
    """Whether this program has more rights than its starter: AT_SECURE, getauxval(3)."""
    if quick is not None:
        return bool(quick.secure())
    import ctypes

    return bool(ctypes.CDLL(None).getauxval(ctypes.c_ulong(_AT_SECURE)))


def pidfd_open(pid: int) -> int:
    """``os.pidfd_open``, also for a Python without it: PyPy, or one built on an older system.

    Raises OSError.
    """
    if hasattr(os, "pidfd_open"):
        return os.pidfd_open(pid)
    import ctypes

    number = 434  # on every architecture
    pidfd = int(ctypes.CDLL(None, use_errno=True).syscall(number, pid, 0))
    if pidfd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return pidfd


def failed_call() -> str:
    """Return the name of the system call that failed last on this thread."""
    return str(lib.pds_failed_call())


class Library:
    """The functions and constants of c_src/pdeathsig.h.

    Those that ``quick`` has are called without cffi: its import costs a start-up half a
    millisecond, and needs a descriptor, which a process may have no more when it forks or execs.
    """

    def __getattr__(self, name: str) -> "Any":
        found = getattr(quick, name, None)
        if found is None:
            from pdeathsig._ffi import lib

            found = getattr(lib, name)
        setattr(self, name, found)  # the next time it is at hand
        return found


def load_cffi() -> None:
    """Load what ``quick`` has not, now: later a process may have no descriptor left."""
    if backend == "compiled":
        from pdeathsig import _ffi  # noqa: F401


def __getattr__(name: str) -> "Any":
    if name != "ffi":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pdeathsig._ffi import ffi

    return ffi


def _load() -> str:
    global lib
    if not sys.platform.startswith("linux"):
        return ""
    wanted = os.environ.get("PDEATHSIG_BACKEND", "")
    if wanted and (sys.flags.ignore_environment or is_secure()):
        wanted = ""  # docs/security.md
    if wanted not in ("", "compiled", "ctypes", "syscall"):
        raise ImportError(f"PDEATHSIG_BACKEND={wanted!r}: not one of compiled, ctypes, syscall")
    if wanted in ("", "compiled") and quick is not None:
        lib = Library()
        return "compiled"
    if wanted == "compiled":
        raise ImportError("PDEATHSIG_BACKEND=compiled: pdeathsig was installed without its extension")
    if not wanted and os.path.exists(os.path.join(os.path.dirname(__file__), "../../build_ffi.py")):
        raise ImportError("this is pdeathsig's source tree, not compiled: `pip install .`, and run from elsewhere")
    from . import fallback

    lib = fallback.Library(direct=wanted == "syscall")
    return wanted or "ctypes"


backend = _load()
