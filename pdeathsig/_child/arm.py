"""Arm and disarm this process."""

from .._base import environ, native
from .._base.checks import SIGKILL, check_ancestors, check_grace, check_pid, check_signal
from . import fork
from .parent import Parent, choose_parent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

# What was armed last with the process's death in mind. Whether it still holds, the extension knows.
armed_parent: "Parent | None" = None
armed_ancestors: "tuple[int, ...]" = ()  # PIDs above the parent


def arm(
    sig: "int | str" = SIGKILL,
    *,
    grace: "float | None" = None,
    parent: "Literal['process', 'thread'] | int" = "process",
    inherit: bool = False,
    ancestors: int = 1,
) -> None:
    """Send ``sig`` to this process when its parent dies.

    Called again, it replaces what was armed. If the parent is already gone, the signal is delivered
    at once, as the kernel would have. Arm after dropping privileges, never before: the kernel
    forgets the setting when credentials change (``status()`` shows it).

    :param sig: a signal, by number or name (``"TERM"``, ``"SIGTERM"``). An inherited SIG_IGN or
        a blocked mask, which would keep it from having an effect, is undone.
    :param grace: seconds between ``sig`` and SIGKILL, which then comes whatever Python is doing.
        None: never.
    :param parent: ``"process"``: the process that started this one; that only a thread of it exits
        does nothing. The child of a multiprocessing fork server is bound to
        ``multiprocessing.parent_process()``.
        ``"thread"``: the kernel's own meaning, the thread that started this process; direct, and
        not to be blocked, ignored or stopped.
        A PID: that process, any process (one small native thread waits on its pidfd).
    :param inherit: children made by ``os.fork`` and multiprocessing's fork arm themselves with the
        same signal and grace, each on its own parent; a daemon (fork, setsid, fork) on that of the
        process in the middle. If such a child execs (os.exec*, os.spawn*, pty.spawn), the program
        that it becomes is bound too, by the signal alone.
    :param ancestors: when any of so many of the nearest ancestors dies, from 1 (the parent) to 32:
        for a program behind a wrapper (uvx, npx, ``sh -c``) that may outlive its own parent. Where
        there are fewer below PID 1, all of them. Each is watched by pidfd from here on; one that
        has died before is not known. Forked children are bound to their parent alone. OSError
        where /proc hides them.

    Raises TypeError or ValueError that names the argument; OSError with the name of the system
    call, and then nothing has changed; NotImplementedError where it is not supported.

    Rests on PR_SET_PDEATHSIG, prctl(2), and for the grace on timer_create(2).
    """
    native.require_linux("arm()")
    if inherit is not True and inherit is not False:
        raise TypeError(f"inherit: True or False, not {type(inherit).__name__}")
    sig, grace = check_signal(sig), check_grace(grace, sig)
    check_ancestors(ancestors)
    if ancestors > 1 and parent != "process":
        raise ValueError(f"ancestors: {ancestors} of them only with parent='process'")
    if parent == "thread":
        if grace is not None:
            raise ValueError("grace: parent='thread' is the kernel's own signal, nothing can follow it")
        _arm_on_thread(sig)
    elif parent == "process":
        _arm_on_process(sig, grace, choose_parent(), ancestors - 1)
    else:
        _arm_on_process(sig, grace, Parent(watch=check_pid(parent)))
    semantics = "thread" if parent == "thread" else "process"
    _pass_on(fork.Inherited(arm, sig, grace, semantics, ancestors) if inherit else None)


def disarm() -> None:
    """Take back what ``arm`` set; also a SIGKILL already on its way after the parent's death.

    Raises OSError with the name of the system call; then nothing has changed.
    """
    native.require_linux("disarm()")
    native.check(native.lib.pds_disarm())
    _pass_on(None)


def is_armed() -> bool:
    """Whether ``arm`` holds, and the parent's death has not been delivered yet."""
    return bool(native.backend) and bool(native.lib.pds_armed())


def _arm_on_thread(sig: int) -> None:
    orphaned = native.check(native.lib.pds_arm_thread(sig))
    if orphaned:
        native.lib.pds_die(sig, environ.death_notice(native.lib.pds_parent(), sig, None))


def _arm_on_process(sig: int, grace: "float | None", parent: Parent, ancestors: int = 0) -> None:
    """``ancestors``: how many above the parent count too."""
    global armed_parent, armed_ancestors
    notices = {parent.watch: environ.death_notice(parent.watch, sig, grace)} if parent.watch else {}
    chain = None
    if ancestors and parent.nearest:
        from .ancestors import Chain

        chain = Chain(parent.nearest, ancestors)
        for distance, pid in enumerate(chain.above, 2):
            notices[pid] = environ.death_notice(pid, sig, grace, distance)
    native.check(
        native.lib.pds_arm(
            sig,
            max(1, round(grace * 1e9)) if grace else 0,
            -1 if parent.signals is None else parent.signals,
            b"" if parent.signals is None else environ.death_notice(parent.signals, sig, grace),
            list(notices),
            len(notices),
            b"\0".join([*notices.values(), b""]),
        )
    )
    armed_parent, armed_ancestors = parent, tuple(chain.above) if chain else ()
    # Only now the pidfds are open: are they of the processes that were meant?
    if parent.watch and parent.is_still_meant is not None and not parent.is_still_meant():
        native.lib.pds_deliver_now(notices[parent.watch])
    gone = chain.gone() if chain else 0
    if gone:
        native.lib.pds_deliver_now(notices.get(gone, environ.death_notice(gone, sig, grace)))


def _pass_on(inherited: "fork.Inherited | None") -> None:
    """From now on children made by fork arm themselves with this; None: they do not."""
    before, fork.inherited = fork.inherited, inherited
    if (before is None) != (inherited is None):
        from . import exec  # costs a start-up its import only where it is needed

        exec.hold_across_exec(inherited is not None)
