"""What ``PDEATHSIG`` in the environment means: ``KILL``, ``SIGTERM``, ``15``, ``TERM:5``; ``0`` or empty: off.

``start()`` runs in every Python that starts with it, from pdeathsig.pth (pdeathsig.start from 3.15 on), and from
``pdeathsig.auto``.
"""

import os
import sys

from pdeathsig import _quick

# By default these are ignored, or stop a process: armed with one, it would live on.
_HARMLESS = ("SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGWINCH")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def start() -> None:
    """Arm this process and its family as ``PDEATHSIG`` says. A value that cannot be followed ends the program."""
    value = os.environ.get("PDEATHSIG", "")
    if value in ("", "0"):
        os.environ.pop("PDEATHSIG_PARENT", None)  # who leaves the family, leaves with all below
        return
    if _must_outlive_its_parent():
        return
    # In a venv, before 3.15, site runs every .pth twice; and it runs in every subinterpreter.
    if _quick is not None and _quick.armed():
        return
    try:
        sig, grace = parse(value)
        from . import _family

        _family.join(sig, grace)
    except (ValueError, OSError, NotImplementedError, ImportError) as error:
        stop(value, error)


def auto() -> None:
    """``import pdeathsig.auto``, in full."""
    from ._arm import arm, is_armed

    if "PDEATHSIG" in os.environ:
        start()
    elif not is_armed():
        arm()


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


def stop(value: str, reason: BaseException) -> "NoReturn":
    """Silently unprotected is the one outcome nobody wants. site catches what is raised and goes on, so: _exit."""
    os.write(2, f"pdeathsig: PDEATHSIG={value!r}: {reason}\n".encode(errors="backslashreplace"))
    os._exit(2)


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


def _must_outlive_its_parent() -> bool:
    """The resource trackers of multiprocessing and loky unlink what a dead parent left in /dev/shm, then go by
    themselves."""
    argv = sys.orig_argv
    if "-c" not in argv[:-1]:
        return False
    code = argv[argv.index("-c") + 1]
    return code.startswith("from ") and ".resource_tracker import main" in code.partition(";")[0]
