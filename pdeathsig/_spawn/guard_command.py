"""The command line of the guard: the executable ``pdeathsig-run`` (c_src/guard) before a command."""

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
    linger: bool = False

    def options(self) -> "list[str]":
        name = signal_name(self.sig).removeprefix("SIG") if self.sig < 32 else str(self.sig)
        grace = f"{self.grace:.9f}".rstrip("0").rstrip(".")
        return ["--signal", name, "--grace", grace, "--scope", self.scope, *["--linger"] * self.linger]


def executable() -> str:
    """Where it is, or an error that says what to do."""
    if not os.access(_PATH, os.X_OK):
        raise FileNotFoundError(2, "the guard was not built with this pdeathsig; reinstall it with a C compiler", _PATH)
    return _PATH


def guarded(
    argv: "Sequence[Any]",
    sig: int = _signal.SIGTERM,
    grace: "float | None" = 5,
    scope: "Scope" = "tree",
    parent: "int | Literal['process'] | None" = "process",
    linger: bool = False,
) -> "list[Any]":
    """``argv`` with the guard before it, for any spawner: asyncio, anyio, trio, supervisord, a Makefile, another
    language. Nothing below the command outlives the command, the process that starts this, or ``parent``: it gets
    ``sig``, and ``grace`` seconds later SIGKILL.

    :param argv: the program and its arguments; the program is looked for in PATH, as execvp(3) does.
    :param sig: a signal number.
    :param grace: seconds; None: SIGKILL follows at once.
    :param scope: ``"tree"``: all that is below, setsid(2) and double forks or not; ``"group"``: what is in the process
        group that the command starts in; ``"child"``: the command alone.
    :param parent: whose death ends it too. ``"process"``: this one, so that there is no race with our own death; but
        argv is then good in this process's lifetime only. A PID: that one. None: nobody's but the direct parent's; for
        what is written down and started later by others.
    :param linger: what the command leaves behind, a server that it started in the background, may live until those do
        not.

    Raises TypeError or ValueError that names the argument, ProcessLookupError if there is no ``parent``, and
    FileNotFoundError if the guard was not built.
    """
    if isinstance(argv, (str, bytes)) or not isinstance(argv, Sequence):
        raise TypeError(f"argv: a sequence of program and arguments, not {type(argv).__name__}")
    if not argv:
        raise ValueError("argv: no program")
    options = guard_terms(check_signal(sig), grace, scope, "sig")._replace(linger=bool(linger)).options()
    if parent is not None:
        pid = os.getpid() if parent == "process" else check_pid(parent)
        options += ["--parent", _named(pid)]
    return [executable(), *options, "--", *argv]


def in_front(
    terms: GuardTerms, parent: int, executables: "Sequence[bytes]", argv: "Sequence[Any]"
) -> "tuple[list[bytes], list[bytes]]":
    """``executables`` and ``argv`` with the guard before them, for those to whom it cannot report; as they are if there
    is nothing to execute, which is then the caller's error. ``parent``: a PID, that of the process to follow."""
    program = next((path for path in executables if os.access(path, os.X_OK) and not os.path.isdir(path)), None)
    if program is None:
        return list(executables), [os.fsencode(argument) for argument in argv]
    options = [*terms.options(), "--parent", _named(parent), "--executable", program, "--"]
    return [os.fsencode(executable())], [os.fsencode(word) for word in ("pdeathsig-run", *options, *argv)]


def guard_terms(sig: int, grace: "float | None", scope: str, sig_name: str) -> GuardTerms:
    check_scope(scope)
    if grace is None or (grace == 0 and type(grace) in (int, float)):
        return GuardTerms(sig, 0, scope)
    if sig == SIGKILL:
        raise ValueError(
            f"grace: nothing survives SIGKILL for that long; give {sig_name}=SIGTERM or another signal too"
        )
    return GuardTerms(sig, check_grace(grace, sig) or 0, scope)


def this_process() -> str:
    """As --parent takes it."""
    return _named(os.getpid())


def _named(pid: int) -> str:
    return f"{pid}:{_start_time(pid)}"


def _start_time(pid: int) -> int:
    """With the PID, it tells a process from all others (proc_pid_stat(5))."""
    process = procfs.read(pid)
    if process is None and os.path.exists("/proc/self/stat"):
        raise ProcessLookupError(3, f"parent: there is no process {pid}")
    return process.start if process is not None else 0
