"""A mark in the environment: by it a daemon is recognised that has left the tree of processes."""

import os

from .._base import procfs

VARIABLE = "PDEATHSIG_TEST"


class Mark:
    """A word in the variable: "PID:START:NUMBER", of the pytest process and of an owner.

    A pytest inside another one adds its word to that of the outer one.
    """

    def __init__(self, pid: int, start: int) -> None:
        self._before = os.environ.get(VARIABLE)
        self._prefix = f"{pid}:{start}:"

    def set(self, number: int) -> None:
        """Mark what is started from now on."""
        word = f"{self._prefix}{number}"
        os.environ[VARIABLE] = f"{self._before} {word}" if self._before else word

    def remove(self) -> None:
        if self._before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = self._before

    def read(self, pid: int) -> "int | None":
        """Return the number in the mark of that process; None if it has no mark of ours."""
        for word in procfs.variable(pid, VARIABLE).split():
            number = word[len(self._prefix) :]
            if word.startswith(self._prefix) and number.isdigit():
                return int(number)
        return None
