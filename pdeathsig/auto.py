"""``import pdeathsig.auto`` at the top of a program: it dies when its parent process dies.

The signal and the grace come from ``PDEATHSIG`` where that is set (then all it starts is armed
too), else SIGKILL. ``PDEATHSIG=0`` or empty: off. ``PDEATHSIG_ANCESTORS`` says how many ancestors
count. What is armed already stays.
"""

import os
import sys

from pdeathsig import _quick

_SPECIAL = ("PDEATHSIG", "PDEATHSIG_ANCESTORS", "PDEATHSIG_QUIET", "PDEATHSIG_BACKEND")


def _arm_at_once() -> bool:
    """Do what pdeathsig.arm() does when nothing is special, without its imports. False: it is."""
    if _quick is None or "multiprocessing.process" in sys.modules or any(name in os.environ for name in _SPECIAL):
        return False
    parent = _quick.pds_parent()
    if parent == 0 or not _quick.pds_parent_may_signal():
        return False
    notice = f"pdeathsig: parent {parent} is gone; SIGKILL to {os.getpid()}\n"
    return bool(_quick.pds_arm(9, 0, parent, notice.encode(), (), 0, b"") >= 0)


if (_quick is None or not _quick.pds_armed()) and not _arm_at_once():
    from ._family import membership

    membership.auto()
