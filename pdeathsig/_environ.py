"""What ``PDEATHSIG`` in the environment means: ``KILL``, ``SIGTERM``, ``15``, ``TERM:5``; ``0`` or empty: off. With
it, or with ``pdeathsig.auto``, ``PDEATHSIG_ANCESTORS``: a number of ancestors; empty: 1, the parent. And
``PDEATHSIG_SCOPE``: how far a member binds programs that do not arm themselves.

``start()`` runs in every Python that starts with it, from pdeathsig.pth (pdeathsig.start from 3.15 on). Where the
environment may be that of somebody with fewer rights, none of our variables is followed: docs/security.md.
"""

import os
import sys

from pdeathsig import _quick

# By default these are ignored, or stop a process: armed with one, it would live on.
_HARMLESS = ("SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGWINCH")

ANCESTORS = "PDEATHSIG_ANCESTORS"
AT_SECURE = 23  # getauxval(3)

# Whether this Python starts with start(): another run of it does so too.
by_site = False
# Why PDEATHSIG, though set, has not been followed.
ignored = ""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def start() -> None:
    """What site calls, in every subinterpreter too: but a process starts once, in its main interpreter."""
    global by_site
    if _quick is None or _quick.in_main_interpreter():
        by_site = True
        follow()


def follow() -> None:
    """Arm this process and its family as ``PDEATHSIG`` says. A value that cannot be followed ends the program."""
    global ignored
    ignored = distrusted() if os.environ.get("PDEATHSIG", "") not in ("", "0") else ""
    if ignored:
        _forget_if_secure()
        return
    value = os.environ.get("PDEATHSIG", "")
    if value in ("", "0"):
        os.environ.pop("PDEATHSIG_PARENT", None)  # who leaves the family, leaves with all below
        return
    if must_outlive_its_parent(sys.orig_argv):
        return
    # In a venv, before 3.15, site runs every .pth twice.
    if _quick is not None and _quick.armed():
        return
    try:
        sig, grace = parse(value)
        from . import _family

        _family.join(sig, grace, scope(), ancestors())
    except (ValueError, OSError, NotImplementedError, ImportError) as error:
        stop(value, error)


def auto() -> None:
    """``import pdeathsig.auto``, in full."""
    from ._arm import arm, is_armed

    if "PDEATHSIG" in os.environ and not distrusted():
        follow()
    elif not is_armed():
        try:
            arm(ancestors=ancestors())
        except (ValueError, OSError, NotImplementedError) as error:
            if os.environ.get(ANCESTORS, "") == "":
                raise
            stop(None, error)


def distrusted() -> str:
    """Why the environment is not to be believed, in words: the program says so itself (-E, -I), or the kernel does,
    where a set-user-ID program or one with file capabilities starts (AT_SECURE). Empty: it is to be."""
    if sys.flags.ignore_environment:
        return "this Python was started with -E or -I"
    return "this program has more rights than who started it (AT_SECURE)" if _secure() else ""


def _secure() -> bool:
    if _quick is not None:
        return bool(_quick.secure())
    import ctypes

    return bool(ctypes.CDLL(None).getauxval(ctypes.c_ulong(AT_SECURE)))


def _forget_if_secure() -> None:
    """As ld.so(8) does with its own variables: what this program starts may have its rights, and no AT_SECURE."""
    if _secure():
        for name in [name for name in os.environ if name.startswith("PDEATHSIG")]:
            del os.environ[name]


def parse(value: str) -> "tuple[int, float | None]":
    """Signal number and grace in seconds. ValueError says what is wrong with ``value``."""
    from ._arm import check_grace, check_signal, signal_name

    name, colon, seconds = value.partition(":")
    sig = check_signal(_number(name))
    if signal_name(sig) in _HARMLESS:
        raise ValueError(f"sig: {name!r} ends no process")
    try:
        grace = float(seconds) if colon else None
    except ValueError:
        raise ValueError(f"grace: {seconds!r} is not a number of seconds") from None
    return sig, check_grace(grace, sig)


def scope() -> str:
    """What ``PDEATHSIG_SCOPE`` says. ValueError says what is wrong with it."""
    from ._arm import SCOPES

    value = os.environ.get("PDEATHSIG_SCOPE", "") or "tree"
    if value not in SCOPES:
        raise ValueError(f"PDEATHSIG_SCOPE={value!r} is not child, group or tree")
    return value


def ancestors() -> int:
    """What ``PDEATHSIG_ANCESTORS`` says. ValueError says what is wrong with it."""
    value = os.environ.get(ANCESTORS, "")
    if value == "" or distrusted():
        return 1
    from ._arm import ANCESTORS_MAX

    number = int(value) if value.isascii() and value.isdigit() and len(value) < 5 else 0
    if not 1 <= number <= ANCESTORS_MAX:
        raise ValueError(f"{ANCESTORS}={value!r}: not a number from 1 to {ANCESTORS_MAX}")
    return number


def stop(value: "str | None", reason: BaseException) -> "NoReturn":
    """Silently unprotected is the one outcome nobody wants. site catches what is raised and goes on, so: _exit.
    ``value``: of PDEATHSIG, where that is at fault."""
    what = f"PDEATHSIG={value!r}: {reason}" if value is not None else str(reason)
    os.write(2, f"pdeathsig: {what}\n".encode(errors="backslashreplace"))
    os._exit(2)


def must_outlive_its_parent(argv: "list[str]") -> bool:
    """The resource trackers of multiprocessing and loky, and torch_shm_manager, unlink what a dead parent left in
    /dev/shm, then go by themselves."""
    if argv and argv[0].rpartition("/")[2] == "torch_shm_manager":
        return True
    if "-c" not in argv[:-1]:
        return False
    code = argv[argv.index("-c") + 1]
    return code.startswith("from ") and ".resource_tracker import main" in code.partition(";")[0]


def _number(name: str) -> int:
    if name.isascii() and name.isdigit():
        return int(name)
    import _signal

    full = name.upper()
    full = full if full.startswith("SIG") else f"SIG{full}"
    number = getattr(_signal, full, None)
    if not isinstance(number, int) or full.startswith("SIG_"):
        raise ValueError(f"sig: {name!r} is not a signal's name or number")
    return number
