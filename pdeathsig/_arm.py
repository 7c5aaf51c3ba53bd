"""Arm and disarm this process."""

import _signal  # the builtin one: `import signal` costs 4 ms
import os
import sys

import pdeathsig

from . import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal

SIGKILL = 9
_ALIASES = ("SIGCLD", "SIGIOT", "SIGPOLL")
ANCESTORS_MAX = 32
SCOPES = ("child", "group", "tree")
_GRACE_MAX = 10 * 365 * 86400.0

# What children made by fork do: arguments for arm(), or None.
_inherited: "tuple[int, float | None, str] | None" = None
# PIDs last watched by pidfd; whether they still are, the extension knows.
watched = 0
ancestors_watched: "tuple[int, ...]" = ()  # above the parent
# Whether the family's token in the environment told who our parent is.
by_environment = False


def arm(
    sig: int = SIGKILL,
    *,
    grace: "float | None" = None,
    parent: "Literal['process', 'thread'] | int" = "process",
    inherit: bool = False,
    ancestors: int = 1,
) -> None:
    """Send ``sig`` to this process when its parent dies.

    Called again, it replaces what was armed. If the parent is already gone, the signal is delivered at once, as the
    kernel would have. Arm after dropping privileges, never before: the kernel forgets the setting when credentials
    change (``status()`` shows it).

    :param sig: a signal number. What would swallow it, an inherited SIG_IGN or a blocked mask, is undone.
    :param grace: seconds between ``sig`` and SIGKILL, which then comes whatever Python is doing. None: never.
    :param parent: ``"process"``: whoever started this process, as a process; that a mere thread of it exits does
        nothing. The child of a multiprocessing fork server is bound to ``multiprocessing.parent_process()``.
        ``"thread"``: the kernel's own meaning, the thread that started it; direct, and not to be blocked, ignored or
        stopped. A PID: that process, whoever it is (one small native thread waits on its pidfd).
    :param inherit: children made by ``os.fork`` and multiprocessing's fork arm themselves with the same signal and
        grace, each on its own parent; a daemon (fork, setsid, fork) on that of the process in the middle. If such a
        child execs (os.exec*, os.spawn*, pty.spawn), the program that it becomes is bound too, by the signal alone.
    :param ancestors: when any of so many of the nearest ancestors dies, from 1 (the parent) to 32: for a program behind
        a wrapper (uvx, npx, ``sh -c``) that may outlive its own parent. Where there are fewer below PID 1, all of them.
        Each is watched by pidfd from here on; one that has died before is not known. Forked children are bound to their
        parent alone. OSError where /proc hides who they are.

    Raises TypeError or ValueError that names the argument; OSError with the name of the system call, and then nothing
    has changed; NotImplementedError where it is not supported.

    Rests on PR_SET_PDEATHSIG, prctl(2), and for the grace on timer_create(2).
    """
    if parent == "thread" and sig == 9 and ancestors == 1 and grace is None and inherit is False and _inherited is None:
        if _arm_thread_kill():  # the short way, for benchmarks/arm.py
            return
    _core.require_linux("arm()")
    if inherit is not True and inherit is not False:
        raise TypeError(f"inherit: True or False, not {type(inherit).__name__}")
    sig, grace = check_signal(sig), check_grace(grace, sig)
    check_ancestors(ancestors)
    if ancestors > 1 and parent != "process":
        raise ValueError(f"ancestors: {ancestors} of them only with parent='process'")
    if parent == "thread":
        if grace is not None:
            raise ValueError("grace: parent='thread' is the kernel's own signal, nothing can follow it")
        orphaned = _core.check(_core.lib.pds_arm_thread(sig))
        if orphaned:
            _core.lib.pds_die(sig, notice(_core.lib.pds_parent(), sig, None))
    elif parent == "process":
        _bind(sig, grace, *_bonds(), ancestors - 1)
    else:
        _bind(sig, grace, -1, check_pid(parent), None)
    _pass_on((sig, grace, "thread" if parent == "thread" else "process") if inherit else None)


def disarm() -> None:
    """Take back what ``arm`` set; also a SIGKILL already on its way after the parent's death.

    Raises OSError with the name of the system call; then nothing has changed.
    """
    _core.require_linux("disarm()")
    _core.check(_core.lib.pds_disarm())
    _pass_on(None)


def is_armed() -> bool:
    """Whether ``arm`` holds, and the parent's death has not been delivered yet."""
    return bool(_core.backend) and bool(_core.lib.pds_armed())


def inherited() -> "tuple[int, float | None, str] | None":
    """What children made by fork arm themselves with: signal, grace, and "process" or "thread"; None: they do not."""
    return _inherited


def check_signal(sig: object) -> int:
    """``sig`` as a plain signal number, or TypeError or ValueError."""
    if not isinstance(sig, int) or isinstance(sig, bool):
        raise TypeError(f"sig: a signal number, not {type(sig).__name__}")
    if sig not in _signal.valid_signals():
        raise ValueError(f"sig: {int(sig)} is not a signal number that can be sent here")
    return int(sig)


def check_scope(scope: object) -> None:
    """ValueError if it is none."""
    if scope not in SCOPES:
        raise ValueError(f"scope: {scope!r} is not 'child', 'group' or 'tree'")


def check_grace(grace: object, sig: int) -> "float | None":
    """``grace`` in seconds, or TypeError or ValueError."""
    if grace is None:
        return None
    if not isinstance(grace, (int, float)) or isinstance(grace, bool):
        raise TypeError(f"grace: seconds or None, not {type(grace).__name__}")
    if not 0 < grace <= _GRACE_MAX:
        raise ValueError(f"grace: {grace} is not a number of seconds above 0 (and at most ten years)")
    if sig == SIGKILL:
        raise ValueError("grace: nothing survives SIGKILL for that long; give sig=SIGTERM or another signal too")
    return float(grace)


def check_pid(parent: object) -> int:
    """``parent`` as the PID of another process, or TypeError or ValueError."""
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
    """TypeError or ValueError if that is no number of them."""
    if not isinstance(ancestors, int) or isinstance(ancestors, bool):
        raise TypeError(f"ancestors: a number of them, not {type(ancestors).__name__}")
    if not 1 <= ancestors <= ANCESTORS_MAX:
        raise ValueError(f"ancestors: {ancestors} is not 1 to {ANCESTORS_MAX}")


def signal_name(sig: int) -> str:
    """``SIGTERM`` for 15, ``SIGRTMIN+3`` for 37."""
    if sig == SIGKILL:
        return "SIGKILL"
    for name, number in vars(_signal).items():
        if number == sig and name.startswith("SIG") and not name.startswith("SIG_") and name not in _ALIASES:
            return str(name)
    return f"SIGRTMIN+{sig - _signal.SIGRTMIN}"


def notice(parent: int, sig: int, grace: "float | None", above: int = 0) -> bytes:
    """The line for stderr before this process dies by our doing; empty where PDEATHSIG_QUIET is set. ``above``: the
    PID's place among our ancestors, where that is not the parent's, 1."""
    if os.environ.get("PDEATHSIG_QUIET", "0") not in ("", "0") and not _distrusted():
        return b""
    who = f"parent {parent}" if parent else "the parent outside this PID namespace"
    who = f"ancestor {parent} (number {above})" if above else who
    then = f", SIGKILL in {grace:g} s" if grace else ""
    return f"pdeathsig: {who} is gone; {signal_name(sig)} to {os.getpid()}{then}\n".encode()


def _bind(
    sig: int,
    grace: "float | None",
    parent: int,
    watch: int,
    still: "Callable[[], bool] | None",
    above: int = 0,
) -> None:
    """``above``: how many ancestors above the nearest, which is ``parent`` or else ``watch``."""
    global watched, ancestors_watched
    grace_ns = max(1, round(grace * 1e9)) if grace else 0
    watches = {watch: notice(watch, sig, grace)} if watch else {}
    chain = None
    if above and (parent > 0 or watch):
        from . import _ancestors

        chain = _ancestors.Chain(parent if parent > 0 else watch, above)
        watches.update((pid, notice(pid, sig, grace, place)) for place, pid in enumerate(chain.above, 2))
    lines = b"\0".join([*watches.values(), b""])
    result = _core.lib.pds_arm(sig, grace_ns, parent, notice(parent, sig, grace), list(watches), len(watches), lines)
    _core.check(result)
    watched, ancestors_watched = watch, tuple(chain.above) if chain else ()
    if still is not None and not still():
        _core.lib.pds_fire(watches[watch])
    gone = chain.gone() if chain else 0
    if gone:
        _core.lib.pds_fire(watches.get(gone, notice(gone, sig, grace)))


def _distrusted() -> bool:
    """Asked only where a variable of ours is set: it costs an import."""
    from . import _environ

    return bool(_environ.distrusted())


def _bonds() -> "tuple[int, int, Callable[[], bool] | None]":
    """Whom to die with: the parent, by parent-death signal (-1: nobody); a process to watch by pidfd (0: none); and,
    asked once its pidfd is open, whether that still is the process meant."""
    global by_environment
    by_environment = False
    parent: int = _core.lib.pds_parent()
    creator = _multiprocessing_creator(parent)
    if creator is not None:
        return creator
    daemon = sys.modules.get("pdeathsig._daemon")
    if daemon is not None and daemon.bound_to:
        return -1, daemon.bound_to, None
    in_family = os.environ.get("PDEATHSIG", "0") not in ("", "0") and "PDEATHSIG_PARENT" in os.environ
    if in_family and not _core.lib.pds_parent_source() and not _distrusted():
        from . import _family

        place = _family.bonds(parent)
        if place is not None:
            by_environment = True
            return place
    return parent, 0 if _core.lib.pds_parent_may_signal() else parent, None


def _multiprocessing_creator(parent: int) -> "tuple[int, int, Callable[[], bool]] | None":
    """Under a fork server the kernel's parent is the server, which lives as long as its children; the process that
    asked for us is multiprocessing.parent_process(), and holds the other end of its sentinel."""
    process = sys.modules.get("multiprocessing.process")
    parent_process = getattr(process, "parent_process", None)
    creator: Any = parent_process() if parent_process else None
    if creator is None or creator is _core.forkers_creator() or creator.pid == parent:
        return None
    import select

    sentinel = select.poll()
    sentinel.register(creator.sentinel)
    return -1, creator.pid, lambda: not sentinel.poll(0)


def _pass_on(what: "tuple[int, float | None, str] | None") -> None:
    global _inherited
    before, _inherited = _inherited, what
    if (before is None) != (what is None):
        from . import _daemon, _exec  # noqa: F401

        _exec.follow(what is not None)


def _after_fork_in_child() -> None:
    """inherit=True."""
    daemon: Any = sys.modules.get("pdeathsig._daemon")
    if daemon is not None:
        daemon.after_fork_in_child()
    if _inherited is None:
        return
    caller = sys._getframe().f_back
    if caller is not None and caller.f_globals.get("__name__") in ("subprocess", "pdeathsig._fork_exec"):
        return  # about to exec (preexec_fn): our handler would be gone, and the news then kill
    family = sys.modules.get("pdeathsig._family")
    try:
        try:
            _arm_as_inherited()
        except OSError:
            if daemon is None or not daemon.bound_to:
                raise
            daemon.bound_to = 0  # where pidfd_open(2) is missing or denied: to who forked us
            _arm_as_inherited()
    except OSError as error:
        if family is None or not family.exports():
            raise  # Python prints it, and the child goes on
        from . import _environ

        _environ.stop(os.environ.get("PDEATHSIG", ""), error)
    if family is not None:
        family.export_again()


def _arm_as_inherited() -> None:
    if _inherited is not None:
        sig, grace, parent = _inherited
        arm(sig, grace=grace, parent="thread" if parent == "thread" else "process", inherit=True)


def _long_way() -> bool:
    return False


_arm_thread_kill: "Callable[[], bool]" = pdeathsig._quick.arm_thread_kill if _core.backend == "compiled" else _long_way
os.register_at_fork(after_in_child=_after_fork_in_child)
