"""Checks of what callers pass, and the names of signals."""

import _signal  # the builtin one: `import signal` costs 4 ms
import os
import sys

SIGKILL = 9
SCOPES = ("child", "group", "tree")
ANCESTORS_MAX = 32
GRACE_MAX = 10 * 365 * 86400.0  # seconds
_ALIASES = ("SIGCLD", "SIGIOT", "SIGPOLL")
# By default these are ignored, or stop a process: sent one of them, it would live on.
_END_NO_PROCESS = frozenset(
    getattr(_signal, name)
    for name in ("SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGWINCH")
)
_FORMS = "give a name such as 'TERM' or 'SIGTERM', or a number"


def check_signal(sig: object, name: str = "sig") -> int:
    """Return the number of a signal that is given by name, in any case, or by number.

    Raises TypeError or ValueError, which name the argument ``name``, also for a signal that ends no
    process.
    """
    number = _signal_number(sig) if isinstance(sig, str) else sig
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"{name}: a signal, not {type(sig).__name__}; {_FORMS}")
    if number not in _signal.valid_signals():
        raise ValueError(f"{name}: {sig!r} is not a signal that can be sent here; {_FORMS}")
    if number in _END_NO_PROCESS:
        raise ValueError(f"{name}: {sig!r} ends no process; give one that does, such as 'TERM' or 'KILL'")
    return int(number)


def _signal_number(name: str) -> int:
    """0: there is no signal of that name."""
    if name.isascii() and name.isdigit():
        return int(name[:9])
    full = name.upper() if name.upper().startswith("SIG") else f"SIG{name.upper()}"
    unnamed = 16 if full == "SIGSTKFLT" and sys.platform == "linux" else 0  # before Python 3.11
    number = 0 if full.startswith("SIG_") else getattr(_signal, full, unnamed)
    return number if isinstance(number, int) else 0


def check_scope(scope: object) -> None:
    """Raise ValueError unless ``scope`` is one of SCOPES."""
    if scope not in SCOPES:
        raise ValueError(f"scope: {scope!r} is not 'child', 'group' or 'tree'")


def check_grace(grace: object, sig: int) -> "float | None":
    """Return ``grace`` in seconds, or None. Raises TypeError or ValueError."""
    if grace is None:
        return None
    seconds = check_seconds(grace)
    if not seconds:
        raise ValueError("grace: 0 is not a number of seconds above 0")
    if sig == SIGKILL:
        raise ValueError("grace: nothing survives SIGKILL for that long; give sig=SIGTERM or another signal too")
    return seconds


def check_seconds(grace: object) -> float:
    """Return ``grace`` in seconds. Raises TypeError or ValueError."""
    if not isinstance(grace, (int, float)) or isinstance(grace, bool):
        raise TypeError(f"grace: a number of seconds, not {type(grace).__name__}")
    if not 0 <= grace <= GRACE_MAX:
        raise ValueError(f"grace: {grace} is not a number of seconds from 0 to ten years")
    return float(grace)


def check_pid(parent: object) -> int:
    """Return ``parent`` as the PID of another process. Raises TypeError or ValueError."""
    if not isinstance(parent, int) or isinstance(parent, bool):
        if isinstance(parent, str):
            raise ValueError(f"parent: {parent!r} is not 'process', 'thread' or a PID")
        raise TypeError(f"parent: 'process', 'thread' or a PID, not {type(parent).__name__}")
    if not 0 < parent < 2**31:
        raise ValueError(f"parent: {parent} is not a PID")
    if parent == os.getpid():
        raise ValueError(f"parent: {parent} is this process itself")
    return int(parent)


def check_ancestors(ancestors: object) -> None:
    """Raise TypeError or ValueError unless ``ancestors`` is a number from 1 to ANCESTORS_MAX."""
    if not isinstance(ancestors, int) or isinstance(ancestors, bool):
        raise TypeError(f"ancestors: a number of them, not {type(ancestors).__name__}")
    if not 1 <= ancestors <= ANCESTORS_MAX:
        raise ValueError(f"ancestors: {ancestors} is not 1 to {ANCESTORS_MAX}")


def signal_name(sig: int) -> str:
    """Return ``SIGTERM`` for 15, ``SIGRTMIN+3`` for 37."""
    if sig == SIGKILL:
        return "SIGKILL"
    for name, number in vars(_signal).items():
        if number == sig and name.startswith("SIG") and not name.startswith("SIG_") and name not in _ALIASES:
            return str(name)
    if sig == 16:  # Python before 3.11 has no name for it
        return "SIGSTKFLT"
    return f"SIGRTMIN+{sig - _signal.SIGRTMIN}"
