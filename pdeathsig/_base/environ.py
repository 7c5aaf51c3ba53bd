"""What our variables in the environment mean.

``PDEATHSIG``: ``KILL``, ``SIGTERM``, ``15``, ``TERM:5``; ``0``, ``off``, ``no``, ``false`` or
empty: off.
``PDEATHSIG_ANCESTORS``: a number of ancestors; empty: 1, the parent.
``PDEATHSIG_SCOPE``: how far a member binds programs that do not arm themselves.
``PDEATHSIG_QUIET``: no line on stderr before a death.

Where the environment may come from a process with fewer rights, all of them are ignored:
docs/security.md.
"""

import os
import sys

from . import native
from .checks import ANCESTORS_MAX, SCOPES, check_grace, check_signal, signal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

ANCESTORS = "PDEATHSIG_ANCESTORS"
_OFF = ("", "0", "off", "no", "false")
_ON = ("1", "on", "yes", "true")  # which signal, they do not say; and 1 would be SIGHUP

# State of this process: why PDEATHSIG, though set, is not followed; empty: it is, or is not set.
ignored_because = ""


def untrusted_reason() -> str:
    """Why the environment is not to be believed, in words; empty: it is.

    Python says so itself (-E, -I), or the kernel does where a set-user-ID program or one with file
    capabilities starts (AT_SECURE).
    """
    if sys.flags.ignore_environment:
        return "this Python was started with -E or -I"
    return "this program has more rights than the process that started it (AT_SECURE)" if native.is_secure() else ""


def parse(value: str) -> "tuple[int, float | None]":
    """Signal number and grace in seconds of a ``PDEATHSIG``. Raises ValueError."""
    name, colon, seconds = value.partition(":")
    if name.lower() in _ON:
        raise ValueError("it does not say which signal; write KILL, TERM, TERM:5 (seconds to SIGKILL), or 0 for off")
    sig = check_signal(name)
    try:
        grace = float(seconds) if colon else None
    except ValueError:
        raise ValueError(f"grace: {seconds!r} is not a number of seconds") from None
    return sig, check_grace(grace, sig)


def is_off(value: "str | None") -> bool:
    """Whether a variable of ours says so: unset, empty, ``0``, ``off``, ``no``, ``false``."""
    return value is None or value.lower() in _OFF


def scope() -> str:
    """What ``PDEATHSIG_SCOPE`` says. Raises ValueError."""
    value = os.environ.get("PDEATHSIG_SCOPE", "") or "tree"
    if value not in SCOPES:
        raise ValueError(f"PDEATHSIG_SCOPE={value!r} is not child, group or tree")
    return value


def ancestors() -> int:
    """What ``PDEATHSIG_ANCESTORS`` says. Raises ValueError."""
    value = os.environ.get(ANCESTORS, "")
    if value == "" or untrusted_reason():
        return 1
    number = int(value) if value.isascii() and value.isdigit() and len(value) < 5 else 0
    if not 1 <= number <= ANCESTORS_MAX:
        raise ValueError(f"{ANCESTORS}={value!r}: not a number from 1 to {ANCESTORS_MAX}")
    return number


def death_notice(parent: int, sig: int, grace: "float | None", distance: int = 1) -> bytes:
    """The line for stderr before this process dies by our doing; empty if PDEATHSIG_QUIET is set.

    :param parent: PID of the process that is gone; 0: the parent, outside this PID namespace.
    :param distance: which ancestor that is; 1: the parent.
    """
    if not is_off(os.environ.get("PDEATHSIG_QUIET")) and not untrusted_reason():
        return b""
    gone = f"parent {parent}" if parent else "the parent outside this PID namespace"
    gone = f"ancestor {parent} (number {distance})" if distance > 1 else gone
    then = f", SIGKILL in {grace:g} s" if grace else ""
    return f"pdeathsig: {gone} is gone; {signal_name(sig)} to {os.getpid()}{then}\n".encode()


def exit_with_error(value: "str | None", reason: BaseException) -> "NoReturn":
    """End this process with status 2 and one line on stderr.

    The program must not run unprotected, and site catches what is raised and goes on: hence _exit.

    :param value: of ``PDEATHSIG``, where that is at fault.
    """
    what = f"PDEATHSIG={value!r}: {reason}" if value is not None else str(reason)
    os.write(2, f"pdeathsig: {what}\n".encode(errors="backslashreplace"))
    os._exit(2)


def is_resource_tracker(argv: "Any") -> bool:
    """Whether that is the command line of a process that must outlive its parent.

    The resource trackers of multiprocessing and loky, and torch_shm_manager, unlink what a dead
    parent left in /dev/shm, then exit by themselves. What is no command line at all is not one.
    """
    try:
        arguments = [os.fsdecode(argument) for argument in argv]
    except TypeError:
        return False
    if arguments and arguments[0].rpartition("/")[2] == "torch_shm_manager":
        return True
    if "-c" not in arguments[:-1]:
        return False
    code = arguments[arguments.index("-c") + 1]
    return code.startswith("from ") and ".resource_tracker import main" in code.partition(";")[0]
