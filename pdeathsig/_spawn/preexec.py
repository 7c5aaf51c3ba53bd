"""For code that must use ``subprocess``: ``Popen(..., preexec_fn=pdeathsig.preexec())``."""

import threading
import warnings
from collections.abc import Callable
from typing import Any

from .._base import native
from .._base.checks import SIGKILL, check_signal
from .._base.environ import death_notice


class preexec:  # noqa: N801 - used as a function
    """A ``preexec_fn`` that binds the child to this process: it gets ``sig`` when the thread that starts it exits.
    ``pdeathsig.Popen`` does that better: at full speed, and from any thread.

    Made on the main thread and used there, that is the death of the process. Whose child it is, is known from the fork
    itself, so one callable serves every process it is inherited by. subprocess calls it after ``user=``, ``group=`` and
    ``extra_groups=``, which would undo the setting.

    :param sig: a signal number; the child's ignoring or blocking it is undone.
    :param then: another ``preexec_fn``, called first: it may change credentials.

    Warns with RuntimeWarning on a thread other than the main one: the kernel's setting follows the thread that
    starts the child, which would be killed when that thread ends. There, use ``pdeathsig.Popen``.

    Raises TypeError or ValueError that names the argument. In the child, a refused prctl(2) is an OSError, which
    subprocess reports as SubprocessError.
    """

    __slots__ = ("_arm", "sig", "then")

    def __init__(self, sig: int = SIGKILL, then: "Callable[[], Any] | None" = None) -> None:
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
        """Runs in the child, between fork and exec."""
        if self.then is not None:
            self.then()
        if native.check(self._arm(self.sig)):
            native.lib.pds_die(self.sig, death_notice(native.lib.pds_parent(), self.sig, None))

    def __repr__(self) -> str:
        then = f", then={self.then!r}" if self.then is not None else ""
        return f"pdeathsig.preexec({self.sig}{then})"
