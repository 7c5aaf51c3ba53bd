"""Checks of what callers pass, and the names of signals."""

import _signal  # the builtin one: `import signal` costs 4 ms
import os

SIGKILL = 9
SCOPES = ("child", "group", "tree")
ANCESTORS_MAX = 32
GRACE_MAX = 10 * 365 * 86400.0  # seconds
_ALIASES = ("SIGCLD", "SIGIOT", "SIGPOLL")


def check_signal(sig: object, name: str = "sig") -> int:
    """Return ``sig`` as a plain signal number. Raises TypeError or ValueError naming ``name``."""
    if not isinstance(sig, int) or isinstance(sig, bool):
        raise TypeError(f"{name}: a signal number, not {type(sig).__name__}")
    if sig not in _signal.valid_signals():
        raise ValueError(f"{name}: {int(sig)} is not a signal number that can be sent here")
    return int(sig)


def check_scope(scope: object) -> None:
    """Raise ValueError unless ``scope`` is one of SCOPES."""
    if scope not in SCOPES:
        raise ValueError(f"scope: {scope!r} is not 'child', 'group' or 'tree'")


def check_grace(grace: object, sig: int) -> "float | None":
    """Return ``grace`` in seconds, or None. Raises TypeError or ValueError."""
    if grace is None:
        return None
    if not isinstance(grace, (int, float)) or isinstance(grace, bool):
        raise TypeError(f"grace: seconds or None, not {type(grace).__name__}")
    if not 0 < grace <= GRACE_MAX:
        raise ValueError(f"grace: {grace} is not a number of seconds above 0 (and at most ten years)")
    if sig == SIGKILL:
        raise ValueError("grace: nothing survives SIGKILL for that long; give sig=SIGTERM or another signal too")
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
    return f"SIGRTMIN+{sig - _signal.SIGRTMIN}"
