"""Binding a child by ``preexec_fn``, which CPython calls in the child between fork and exec."""

import _thread
import os
import signal
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._base import native
from .._base.checks import SIGKILL, check_signal
from .._base.environ import death_notice

if TYPE_CHECKING:
    from .binding import Binding


class preexec:  # noqa: N801 - used as a function
    """Make a ``preexec_fn`` for ``subprocess`` that binds the child to this process.

    The child gets ``sig`` when the thread that starts it exits. Made and used on the main thread,
    that is the death of the process. ``pdeathsig.Popen`` binds better: at full speed, and from any
    thread.

    Which process the parent is, is known from the fork itself. So processes that inherit the
    callable by fork may use it too. subprocess calls it after ``user=``, ``group=`` and
    ``extra_groups=``, which would undo the setting.

    :param sig: a signal, by number or name (``"TERM"``, ``"SIGTERM"``). If the
        child would ignore or block it, that is undone.
    :param then: another ``preexec_fn``, called first: it may change credentials.

    Warns with RuntimeWarning on a thread other than the main one. The kernel's setting follows the
    thread that starts the child: the child would be killed when that thread ends. There, use
    ``pdeathsig.Popen``.

    Raises TypeError or ValueError that names the argument. In the child, a refused prctl(2) is an
    OSError, which subprocess reports as SubprocessError.

    Rests on prctl(2), PR_SET_PDEATHSIG.
    """

    __slots__ = ("_arm", "sig", "then")

    def __init__(self, sig: "int | str" = SIGKILL, then: "Callable[[], Any] | None" = None) -> None:
        native.require_linux("preexec()")
        self.sig = check_signal(sig)
        if then is not None and not callable(then):
            raise TypeError(f"then: a callable, not {type(then).__name__}")
        self.then = then
        self._arm = native.lib.pds_preexec
        if threading.current_thread() is not threading.main_thread():
            warnings.warn(
                "pdeathsig.preexec() on a thread other than the main one: children that this thread starts are killed "
                "when it ends; use pdeathsig.Popen, which binds them to the process",
                RuntimeWarning,
                stacklevel=2,
            )

    def __call__(self) -> None:
        """Bind the child; called there, between fork and exec."""
        if self.then is not None:
            self.then()
        if native.check(self._arm(self.sig)):
            native.lib.pds_die(self.sig, death_notice(native.lib.pds_parent(), self.sig, None))

    def __repr__(self) -> str:
        then = f", then={self.then!r}" if self.then is not None else ""
        return f"pdeathsig.preexec({self.sig}{then})"


class BindInChild:
    """The ``preexec_fn`` of a bound start for which CPython's ``fork_exec`` makes the child.

    :param lifeline: descriptor of the lifeline that the child holds; -1: none.
    :param then: the caller's own ``preexec_fn``.
    :param process_group: for setpgid(2): before Python 3.11, fork_exec does not set it. -1: none.
    """

    def __init__(
        self, binding: "Binding", lifeline: int, then: "Callable[[], Any] | None", process_group: int = -1
    ) -> None:
        self._binding, self._lifeline, self._then, self._process_group = binding, lifeline, then, process_group
        self._by_main_thread = on_main_thread()

    def __call__(self) -> None:
        if self._process_group >= 0:
            os.setpgid(0, self._process_group)
        if self._then is not None:
            self._bind()  # the caller's function may take long
            self._then()  # it may change credentials, which undoes the binding, or arm by itself
        self._bind()

    def _bind(self) -> None:
        sig = self._binding.sig
        # PR_SET_PDEATHSIG follows the thread that forked. Not the main thread: clear it, also one
        # that the caller's function has set.
        parent_is_gone = bool(native.check(native.lib.pds_preexec(sig if self._by_main_thread else 0)))
        if not self._by_main_thread and sig not in (SIGKILL, signal.SIGSTOP):
            signal.signal(sig, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [sig])
        if self._lifeline >= 0:
            held = native.lib.pds_lifeline_hold(self._lifeline, sig, self._binding.group)
            parent_is_gone |= bool(native.check(held))
        if parent_is_gone:
            native.lib.pds_die(sig, death_notice(native.lib.pds_parent(), sig, None))


def on_main_thread() -> bool:
    """Whether this is the thread that the process began with. For threading it may be another."""
    return _thread.get_native_id() == os.getpid()
