"""The command line of the guard: ``pdeathsig-run`` (c_src/guard) before a command."""

import _signal
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .._base import procfs
from .._base.checks import SIGKILL, check_grace, check_pid, check_scope, check_signal, signal_name

if TYPE_CHECKING:
    from typing import Literal

    Scope = Literal["child", "group", "tree"]

_PATH = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "pdeathsig-run")


class GuardTerms(NamedTuple):
    """How a guard ends what is below it."""

    sig: int
    grace: float  # seconds from sig to SIGKILL
    scope: str
    linger: bool = False  # what the command leaves behind lives on until the parent's death

    def options(self) -> "list[str]":
        """These terms as options of the guard."""
        name = signal_name(self.sig).removeprefix("SIG") if self.sig < 32 else str(self.sig)
        grace = f"{self.grace:.9f}".rstrip("0").rstrip(".")
        return ["--signal", name, "--grace", grace, "--scope", self.scope, *["--linger"] * self.linger]


def executable() -> str:
    """Return the path of the guard's executable. Raises FileNotFoundError if there is none."""
    if os.access(_PATH, os.X_OK):
        return _PATH
    if os.access(os.path.dirname(__file__), os.R_OK):
        reason = "the guard was not built with this pdeathsig; reinstall it with a C compiler"
    else:
        reason = "the guard is out of reach: this process has another user or root directory than at its start"
    raise FileNotFoundError(2, reason, _PATH)


def guarded(
    argv: "Sequence[Any]",
    sig: "int | str" = _signal.SIGTERM,
    grace: "float | None" = 5,
    scope: "Scope" = "tree",
    parent: "int | Literal['process'] | None" = "process",
    linger: bool = False,
) -> "list[Any]":
    """Return ``argv`` with the guard before it, for code that starts processes by other ways.

    Such as asyncio, anyio, trio, supervisord, a Makefile, another language. What is below the
    command does not outlive the command, the process that starts it, or ``parent``: it gets
    ``sig``, and SIGKILL ``grace`` seconds later.

    :param argv: the program, looked for in PATH as by execvp(3), and its arguments.
    :param sig: a signal, by number or name (``"TERM"``, ``"SIGTERM"``).
    :param grace: seconds; None: SIGKILL follows at once.
    :param scope: ``"tree"``: all that is below, also after setsid(2) and double forks.
        ``"group"``: what is in the process group that the command starts in.
        ``"child"``: the command alone.
    :param parent: the process that the command does not outlive either.
        ``"process"``: this one, without a race with its death; but then argv is good only as long
        as it lives.
        A PID: that process.
        None: none but the direct parent; for what is written down, and started later by others.
    :param linger: what the command leaves behind, such as a server that it started in the
        background, may live until the direct parent or ``parent`` dies.

    Raises TypeError or ValueError that names the argument, ProcessLookupError if there is no
    ``parent``, and FileNotFoundError if the guard was not built.
    """
    if isinstance(argv, (str, bytes)) or not isinstance(argv, Sequence):
        raise TypeError(f"argv: a sequence of program and arguments, not {type(argv).__name__}")
    if not argv:
        raise ValueError("argv: no program")
    options = guard_terms(check_signal(sig), grace, scope, "sig")._replace(linger=bool(linger)).options()
    if parent is not None:
        pid = os.getpid() if parent == "process" else check_pid(parent)
        options += ["--parent", identity(pid)]
    return [executable(), *options, "--", *argv]


def put_guard_before(
    terms: GuardTerms, parent: int, executables: "Sequence[bytes]", argv: "Sequence[Any]"
) -> "tuple[list[bytes], list[bytes]]":
    """Return ``executables`` and ``argv`` with the guard before them.

    Here the guard cannot report a failed exec. So if there is nothing to execute they stay as they
    are, and the caller's own exec fails.

    :param parent: the PID of the process that the guard follows.
    """
    program = next((path for path in executables if os.access(path, os.X_OK) and not os.path.isdir(path)), None)
    if program is None:
        return list(executables), [os.fsencode(argument) for argument in argv]
    options = [*terms.options(), "--parent", identity(parent), "--executable", program, "--"]
    return [os.fsencode(executable())], [os.fsencode(word) for word in ("pdeathsig-run", *options, *argv)]


def guard_terms(sig: int, grace: "float | None", scope: str, sig_name: str) -> GuardTerms:
    """Check a guard's terms. Raises TypeError or ValueError.

    :param sig_name: what the caller calls ``sig``, for messages.
    """
    check_scope(scope)
    if grace is None or (grace == 0 and type(grace) in (int, float)):
        return GuardTerms(sig, 0, scope)
    if sig == SIGKILL:
        raise ValueError(
            f"grace: nothing survives SIGKILL for that long; give {sig_name}=SIGTERM or another signal too"
        )
    return GuardTerms(sig, check_grace(grace, sig) or 0, scope)


def identity(pid: int) -> str:
    """Return PID and start time of a process, as --parent takes them.

    The start time tells it from a later process with the same PID: proc_pid_stat(5). It is 0
    where /proc is not mounted. Raises ProcessLookupError.
    """
    process = procfs.read(pid)
    if process is None and os.path.exists("/proc/self/stat"):
        raise ProcessLookupError(3, f"parent: there is no process {pid}")
    return f"{pid}:{process.start if process is not None else 0}"
