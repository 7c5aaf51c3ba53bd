"""The family: every Python that starts with ``PDEATHSIG`` in its environment arms itself, and so does all it starts.

Each armed member exports ``PDEATHSIG_PARENT``: its token, then that of the member it is bound to. By it a child knows
whose child it should be: also when that parent died before the child could look, when there is a shell in between, and
when it was forked away twice. A member that execs finds its own token first, and its parent's behind it.

A token is PID:START:PIDNS:TIMENS: START in clock ticks since boot as in /proc/PID/stat (proc_pid_stat(5), field 22),
PIDNS and TIMENS the inodes of the namespaces in which PID and START mean something. 0 or left out: not known.
"""

import os
import sys

from . import _arm, _core, _environ, _seam

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

VARIABLE = "PDEATHSIG_PARENT"
_LINEAGE_MAX = 64

_exports = False
# How what this process starts is bound: signal, grace, scope. None: it is no member.
terms: "tuple[int, float | None, str] | None" = None


class Token:
    """Who somebody is: PIDs are used again, a PID with its start time is not."""

    __slots__ = ("pid", "pid_namespace", "start", "time_namespace")

    def __init__(self, pid: int, start: int = 0, pid_namespace: int = 0, time_namespace: int = 0) -> None:
        self.pid, self.start = pid, start
        self.pid_namespace, self.time_namespace = pid_namespace, time_namespace

    def __str__(self) -> str:
        return f"{self.pid}:{self.start}:{self.pid_namespace}:{self.time_namespace}"

    def alive(self) -> bool:
        """Whether that process is there and no zombie. One that /proc hides is believed to be."""
        try:
            stat = _stat(self.pid)
        except OSError:
            return _exists(self.pid)
        # A main thread that has ended is a zombie, while others go on.
        dead = stat.state in "ZX" and stat.threads < 2
        comparable = self.start and self.time_namespace in (0, _namespace("time"))
        return not dead and (stat.start == self.start or not comparable)


def bonds(parent: int) -> "tuple[int, int, Callable[[], bool] | None] | None":
    """Whom to die with by the token in the environment, as ``_arm._bonds`` says it; None: no token about somebody else
    in this PID namespace. ``parent`` is the PID of our parent. Not the head itself if a guard of its is above."""
    head = next((token for token in tokens() if token.pid != os.getpid()), None)
    if head is None or (head.pid_namespace and head.pid_namespace != _namespace("pid")):
        return None
    if head.pid == parent and head.alive():
        return parent, 0 if _core.lib.pds_parent_may_signal() else parent, None
    guard = _guard_of(parent, head) if head.alive() else None
    if guard is not None and guard.pid != parent:
        return -1, guard.pid, guard.alive
    if guard is not None:
        return parent, 0 if _core.lib.pds_parent_may_signal() else parent, None
    if _descends(parent, head.pid):
        # A program between us and the head may end and leave us behind; the head's guard is there for us.
        return parent if _environ.scope() != "tree" else -1, head.pid, head.alive
    return -1, head.pid, head.alive


def join(sig: int, grace: "float | None", scope: str, ancestors: int = 1) -> None:
    """Arm this process and all it starts."""
    global _exports, terms
    _arm.arm(sig, grace=grace, inherit=True, ancestors=ancestors)
    _exports, terms = True, (sig, grace, scope)
    _export()
    _seam.put()


def guards() -> bool:
    """Whether this process is a member that gives guards to programs that do not arm themselves."""
    return terms is not None and terms[1:] != (None, "child")


def exports() -> bool:
    """Whether this process is a member, and says so to its children."""
    return _exports


def export_again() -> None:
    """In a child that fork made of a member: it is one too."""
    if _exports:
        _export()


def tokens() -> "list[Token]":
    """What the environment says, nearest first. ValueError when that is no list of tokens."""
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


def _export() -> None:
    pid = os.getpid()
    try:
        start = _stat(pid).start
    except OSError:
        start = 0
    daemon = sys.modules.get("pdeathsig._daemon")
    not_ours = (pid, daemon.in_the_middle()) if daemon else (pid,)
    bound = [token for token in tokens() if token.pid not in not_ours][:1]
    os.environ[VARIABLE] = ",".join(map(str, [Token(pid, start, _namespace("pid"), _namespace("time")), *bound]))


class _stat:  # noqa: N801 - used as a function
    """Some of proc_pid_stat(5). OSError: the process is gone, or hidden, or this is another PID namespace's /proc."""

    __slots__ = ("parent", "start", "state", "threads")

    def __init__(self, pid: int) -> None:
        if os.readlink("/proc/self") != str(os.getpid()):
            raise OSError("another PID namespace's /proc")
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        self.state, self.parent = fields[0].decode(), int(fields[1])
        self.threads, self.start = int(fields[17]), int(fields[19])


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _namespace(kind: str) -> int:
    try:
        return os.stat(f"/proc/self/ns/{kind}").st_ino
    except OSError:
        return 0


def _guard_of(pid: int, head: Token) -> "Token | None":
    """The guard above ``pid`` that ends all below it when ``head`` dies. Who is bound to that one hears of it once."""
    follows = f"\0--parent\0{head.pid}:{head.start}\0".encode()
    for _ in range(_LINEAGE_MAX):
        if pid <= 1 or pid == head.pid:
            break
        try:
            stat = _stat(pid)
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                options = file.read().partition(b"\0--\0")[0] + b"\0"
        except OSError:
            break
        if options.startswith(b"pdeathsig-run\0") and follows in options and b"\0--scope\0tree\0" in options:
            return Token(pid, stat.start)
        pid = stat.parent
    return None


def _descends(pid: int, ancestor: int) -> bool:
    """Whether ``ancestor`` is ``pid`` or above it."""
    for _ in range(_LINEAGE_MAX):
        if pid == ancestor:
            return True
        if pid <= 1:
            break
        try:
            pid = _stat(pid).parent
        except OSError:
            break
    return False
