"""Tokens: how the members of a family know each other.

Each armed member exports ``PDEATHSIG_PARENT``: its token, then that of the member it is bound to.
By it a child knows its parent: also when that one died before the child could look, when there is
a shell in between, and when the child was forked away twice. A member that execs finds its own
token first, and its parent's behind it.

A token is PID:START:PIDNS:TIMENS. START is in clock ticks since boot as in /proc/PID/stat
(proc_pid_stat(5), field 22). PIDNS and TIMENS are the inodes of the namespaces in which PID and
START mean something. 0 or left out: not known.
"""

import os

from .._base import procfs

VARIABLE = "PDEATHSIG_PARENT"


class Token:
    """One process. PIDs are used again; a PID with its start time is not."""

    __slots__ = ("pid", "pid_namespace", "start", "time_namespace")

    def __init__(self, pid: int, start: int = 0, pid_namespace: int = 0, time_namespace: int = 0) -> None:
        self.pid, self.start = pid, start
        self.pid_namespace, self.time_namespace = pid_namespace, time_namespace

    def __str__(self) -> str:
        return f"{self.pid}:{self.start}:{self.pid_namespace}:{self.time_namespace}"

    def is_alive(self) -> bool:
        """Whether that process is there and no zombie. One that /proc hides is taken to be."""
        try:
            procfs.require_own_namespace()
            process = procfs.stat(self.pid)
        except OSError:
            return procfs.exists(self.pid)
        comparable = self.start and self.time_namespace in (0, procfs.namespace("time"))
        return process.alive and (process.start == self.start or not comparable)


def own() -> Token:
    """This process's."""
    pid = os.getpid()
    try:
        procfs.require_own_namespace()
        start = procfs.stat(pid).start
    except OSError:
        start = 0
    return Token(pid, start, procfs.namespace("pid"), procfs.namespace("time"))


def from_environment() -> "list[Token]":
    """Those in the environment, nearest first. Raises ValueError where it has others."""
    value = os.environ.get(VARIABLE, "")
    found = []
    for text in value.split(",") if value else ():
        fields = text.split(":")
        if not 2 <= len(fields) <= 4 or not all(field.isascii() and field.isdigit() for field in fields):
            raise ValueError(f"{VARIABLE}={value!r}: not PID:START:PIDNS:TIMENS")
        token = Token(*(int(field[:20]) for field in fields))
        if not 0 < token.pid < 2**31:
            raise ValueError(f"{VARIABLE}={value!r}: {token.pid} is not a PID")
        found.append(token)
    return found
