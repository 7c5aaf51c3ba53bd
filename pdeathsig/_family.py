"""The family: every Python that starts with ``PDEATHSIG`` in its environment arms itself, and so does all it starts.

Each armed member exports ``PDEATHSIG_PARENT``: its token, then that of the member it is bound to. By it a child knows
whose child it should be: also when that parent died before the child could look, when there is a shell in between, and
when it was forked away twice. A member that execs finds its own token first, and its parent's behind it.

A token is PID:START:NAMESPACE: START in clock ticks since boot as in /proc/PID/stat (proc_pid_stat(5), field 22),
NAMESPACE the inode of the PID namespace in which the two mean something. 0: not known.
"""

import os

from . import _arm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

VARIABLE = "PDEATHSIG_PARENT"
_LINEAGE_MAX = 64

_exports = False


class Token:
    """Who somebody is: PIDs are used again, a PID with its start time is not."""

    __slots__ = ("namespace", "pid", "start")

    def __init__(self, pid: int, start: int, namespace: int) -> None:
        self.pid, self.start, self.namespace = pid, start, namespace

    def __str__(self) -> str:
        return f"{self.pid}:{self.start}:{self.namespace}"

    def alive(self) -> bool:
        """Whether that process is there and no zombie. One that /proc hides is believed to be."""
        try:
            state, start, _ = _stat(self.pid)
        except OSError:
            return _exists(self.pid)
        return state not in "ZX" and (start == self.start or not self.start)


def bonds(parent: int) -> "tuple[int, int, Callable[[], bool] | None] | None":
    """Whom to die with by the token in the environment, as ``_arm._bonds`` says it; None: no token about somebody else
    in this PID namespace. ``parent`` is the PID of our parent."""
    head = next((token for token in tokens() if token.pid != os.getpid()), None)
    if head is None or (head.namespace and head.namespace != _namespace()):
        return None
    if head.pid == parent and head.alive():
        return parent, 0, None
    if _descends(parent, head.pid):
        return parent, head.pid, head.alive
    return -1, head.pid, head.alive


def join(sig: int, grace: "float | None") -> None:
    """Arm this process and all it starts."""
    global _exports
    _arm.arm(sig, grace=grace, inherit=True)
    _exports = True
    _export()


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
        if not 2 <= len(fields) <= 3 or not all(field.isascii() and field.isdigit() for field in fields):
            raise ValueError(f"{VARIABLE}={value!r}: not PID:START:NAMESPACE")
        numbers = [int(field) for field in fields]
        if not 0 < numbers[0] < 2**31:
            raise ValueError(f"{VARIABLE}={value!r}: {numbers[0]} is not a PID")
        found.append(Token(numbers[0], numbers[1], numbers[2] if len(numbers) == 3 else 0))
    return found


def _export() -> None:
    pid = os.getpid()
    try:
        start = _stat(pid)[1]
    except OSError:
        start = 0
    bound = [token for token in tokens() if token.pid != pid][:1]
    os.environ[VARIABLE] = ",".join(map(str, [Token(pid, start, _namespace()), *bound]))


def _stat(pid: int) -> "tuple[str, int, int]":
    """State, start time and parent of a process: proc_pid_stat(5). OSError: it is gone, or hidden."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return fields[0].decode(), int(fields[19]), int(fields[1])


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _namespace() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def _descends(pid: int, ancestor: int) -> bool:
    """Whether ``ancestor`` is ``pid`` or above it."""
    for _ in range(_LINEAGE_MAX):
        if pid == ancestor:
            return True
        if pid <= 1:
            break
        try:
            pid = _stat(pid)[2]
        except OSError:
            break
    return False
