"""The ancestors above the parent: which they are, and whether they still are when each is watched.

A process gets another parent in one way only: the one that it has dies. So a process that is found
to be another's parent before its pidfd is opened, and still is after, is the process that the
pidfd is of: the PID was not used again meanwhile. (A start time, in hundredths of a second, would
tell that less well.) Another parent, or none, means that one has died.
"""

import errno

from .._base import procfs


class Chain:
    """``count`` processes above ``nearest``, or fewer. PID 1 is not one: it cannot die first."""

    def __init__(self, nearest: int, count: int) -> None:
        """Raises OSError where /proc hides which process is another's parent."""
        self._nearest = nearest
        self.above: list[int] = []
        pid = nearest
        while len(self.above) < count:
            parent = _parent(pid)
            if parent is None or parent <= 1:  # gone: pds_arm finds that; or outside this PID namespace; or PID 1
                break
            self.above.append(parent)
            pid = parent

    def gone(self) -> int:
        """The PID of one that has died since; 0: none has."""
        child = self._nearest
        for parent in self.above:
            now = _parent(child)
            if now != parent:
                return child if now is None else parent
            child = parent
        return 0


def _parent(pid: int) -> "int | None":
    """None: the process is gone."""
    try:
        procfs.require_own_namespace()
        return procfs.stat(pid).parent
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH) and not procfs.exists(pid):
            return None
        reason = "ancestors: /proc does not tell which process is the parent of"
        raise OSError(error.errno or errno.ENOENT, f"{reason} {pid}: {error.strerror or error}") from None
