"""What may be ended: a PID, or a process object of another library."""

from typing import Any, Protocol


class HasPid(Protocol):
    """A process object: of subprocess, asyncio, multiprocessing or psutil."""

    @property
    def pid(self) -> "int | None": ...


class Target:
    """One adapter for all of them.

    Once an object says that its process has ended, its PID may be another's.
    """

    def __init__(self, target: "HasPid | int") -> None:
        """Raises TypeError or ValueError that names the argument."""
        self._object: Any = None if isinstance(target, int) else target
        pid = target if isinstance(target, int) else getattr(target, "pid", target)
        if not isinstance(pid, int) or isinstance(pid, bool):
            if pid is None and target is not None:
                raise ValueError(f"target: {target!r} has no PID (yet)")
            raise TypeError(f"target: a process object or a PID, not {type(target).__name__}")
        names = ("poll", "returncode", "exitcode", "is_running")
        if self._object is not None and not any(hasattr(target, name) for name in names):
            raise TypeError(f"target: {type(target).__name__} does not say whether it has ended")
        if not 1 < pid < 2**31:
            raise ValueError(f"target: {pid} is not the PID of a process that may be ended")
        self.pid = int(pid)
        guard_pid = getattr(target, "guard_pid", None)
        # All that the target has started is below its guard, if it has one, which is our child.
        self.top_pid = guard_pid if isinstance(guard_pid, int) else self.pid

    @property
    def is_pid(self) -> bool:
        """A mere PID: nothing tells that its process has ended."""
        return self._object is None

    @property
    def is_popen(self) -> bool:
        """Reaped by poll(), which leaves the end in ``returncode``."""
        return hasattr(self._object, "poll")

    def has_ended(self) -> bool:
        """Whether its PID may be another's by now. Popen's poll() reaps it."""
        process = self._object
        if process is None:
            return False
        if self.is_popen:
            return process.poll() is not None
        if hasattr(process, "returncode"):  # asyncio
            return process.returncode is not None
        if hasattr(process, "exitcode"):  # multiprocessing
            return process.exitcode is not None
        return not process.is_running()  # psutil

    def is_reaped(self) -> bool:
        """The same, but without asking a Popen, which would reap it."""
        return self._object.returncode is not None if self.is_popen else self.has_ended()

    def reap(self) -> None:
        """Take note of the end, where that is the caller's business."""
        if self.is_popen:
            self._object.poll()
