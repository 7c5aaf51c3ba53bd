"""The time from the parent's death to the child's: what pdeathsig adds to the kernel's own SIGKILL.

In every trial a parent starts a child, which arms itself and waits. The children differ only in the
arming. This program kills the parent, and reads the clock when the pidfds report each death.

Parent and child wait on a pipe that this program holds, and it reaps orphans, so nothing stays
behind.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._installed import Wheel, environment
from benchmarks._side_by_side import (
    alternate,
    arguments,
    goal,
    heading,
    machine,
    median_and_interval,
    spread,
    table,
)

PR_SET_CHILD_SUBREAPER = 36
DEADLINE = 10.0  # seconds until a death counts as missing
ENOUGH = 0.9  # the share of trials that must tell the two deaths apart

RAW = "PR_SET_PDEATHSIG, SIGKILL by ctypes"
NOTICE = "pdeathsig.arm()"
QUIET = "pdeathsig.arm(), PDEATHSIG_QUIET=1"
THREAD = 'pdeathsig.arm(parent="thread")'
PIDFD = "pdeathsig.arm(parent=PID), PDEATHSIG_QUIET=1"
ARMING = {
    RAW: "libc.prctl(1, 9)",
    NOTICE: "pdeathsig.arm()",
    QUIET: "pdeathsig.arm()",
    THREAD: "pdeathsig.arm(parent='thread')",
    PIDFD: "pdeathsig.arm(parent=os.getppid())",
}
PARENT = "import os, sys; os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ); os.read(0, 1)"
CHILD = """
import ctypes, os, pdeathsig
pdeathsig.arm
libc = ctypes.CDLL("libc.so.6")
{arming}
os.write(1, b"%d" % os.getpid())
os.read(0, 1)
"""

# Microseconds until the child is gone: since the kill, and since the parent's end. None: both
# deaths came before this program looked.
Times = tuple[float, float | None]


class Trial:
    """A parent, and its armed child."""

    def __init__(self, python: Path, arming: str, env: dict[str, str], directory: Path) -> None:
        self._arming = arming
        self._parent = subprocess.Popen(
            [python, "-S", "-c", PARENT, python, "-c", CHILD.format(arming=arming)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=directory,
        )
        self._pidfds: dict[int, int] = {}
        try:
            self._child = self._wait_until_armed()
            self._pidfds = {os.pidfd_open(pid): pid for pid in (self._parent.pid, self._child)}
        except BaseException:
            self.close()
            raise

    def _wait_until_armed(self) -> int:
        """Wait until the child is armed, and return its PID."""
        assert self._parent.stdout is not None
        word = os.read(self._parent.stdout.fileno(), 4096)
        if not word.isdigit():
            self._parent.kill()
            raise SystemExit(f"{self._arming}: the child says {word + self._parent.stdout.read()!r}")
        return int(word)

    def run(self) -> tuple[Times, bytes]:
        """Kill the parent. Return the times, and the output on stderr."""
        for pid in self._pidfds.values():
            wait_until_asleep(pid)
        gone: dict[int, int] = {}
        poll = select.poll()
        for fd in self._pidfds:
            poll.register(fd, select.POLLIN)
        start = time.perf_counter_ns()
        self._parent.kill()
        while len(gone) < 2:
            ready = poll.poll(DEADLINE * 1000)
            now = time.perf_counter_ns()
            if not ready:
                raise SystemExit(f"{self._arming}: the child lives on")
            for fd, _ in ready:
                gone[self._pidfds[fd]] = now
                poll.unregister(fd)
        self._parent.wait()
        _, status = os.waitpid(self._child, 0)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            raise SystemExit(f"{self._arming}: the child ended with {os.waitstatus_to_exitcode(status)}")
        assert self._parent.stdout is not None
        said = self._parent.stdout.read()
        parent_gone, child_gone = gone[self._parent.pid], gone[self._child]
        since_death = (child_gone - parent_gone) / 1e3 if child_gone != parent_gone else None
        return ((child_gone - start) / 1e3, since_death), said

    def close(self) -> None:
        """Close the input of the processes that are left, which ends them."""
        assert self._parent.stdin is not None and self._parent.stdout is not None
        self._parent.stdin.close()
        self._parent.stdout.close()
        self._parent.wait()
        for fd in self._pidfds:
            os.close(fd)


def wait_until_asleep(pid: int) -> None:
    """Wait until the process sleeps in its last read."""
    until = time.monotonic() + DEADLINE
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        if time.monotonic() > until:
            raise SystemExit(f"process {pid} does not come to rest")
        time.sleep(0.0002)  # not sched_yield: a real-time process yields to no ordinary one


def trials(python: Path, name: str, directory: Path) -> Callable[[], Times]:
    """A function that makes one trial of this variant."""
    env = environment(**({"PDEATHSIG_QUIET": "1"} if "QUIET" in name else {}))

    def trial() -> Times:
        pair = Trial(python, ARMING[name], env, directory)
        try:
            times, said = pair.run()
        finally:
            pair.close()
        if (b"pdeathsig: parent" in said) is not (name == NOTICE):
            raise SystemExit(f"{name}: on stderr: {said!r}")
        return times

    return trial


def look_promptly() -> bool:
    """Become a real-time process, so that other work does not delay the looks at the pidfds.

    Children do not inherit that. Return whether this user may do it.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except PermissionError:
        return False
    return True


def become_subreaper() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def reap_the_rest() -> None:
    """Reap what a failed trial left. Its input is closed, so it ends."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def report(samples: dict[str, list[Times]]) -> None:
    since_kill = {name: [kill for kill, _ in trials] for name, trials in samples.items()}
    since_death = {name: [death for _, death in trials if death is not None] for name, trials in samples.items()}
    seen = {name: len(times) / len(samples[name]) for name, times in since_death.items()}
    rows = []
    for name, trials in samples.items():
        row = [name, *cells(since_kill, name), "", "", "", "", f"{1 - seen[name]:.0%}"]
        if min(seen[name], seen[RAW]) > ENOUGH:
            row[4:7] = cells(since_death, name)
            more = [death - raw for (_, death), (_, raw) in zip(trials, samples[RAW], strict=True) if death and raw]
            row[7] = median_and_interval(more, 0) if name != RAW and more else ""
        rows.append(row)
    kill, death = "µs since the kill", "µs since the parent is gone"
    table(["child", kill, "IQR", "to raw", death, "IQR", "to raw", "more, µs [95 %]", "looked late"], rows)
    print()
    times, when = since_death, "since the parent is gone"
    if min(seen.values()) <= ENOUGH:
        times, when = since_kill, "since the kill"
    for name in samples:
        if name != RAW:
            goal(f"{name} to raw, {when}", to_raw(times, name), 1.2, "x")


def cells(times: dict[str, list[float]], name: str) -> list[str]:
    return [f"{statistics.median(times[name]):.0f}", f"{spread(times[name]):.0f}", f"{to_raw(times, name):.2f}"]


def to_raw(times: dict[str, list[float]], name: str) -> float:
    return statistics.median(times[name]) / statistics.median(times[RAW])


def main() -> None:
    options = arguments(__doc__)
    rounds = 20 if options.quick else 300
    with tempfile.TemporaryDirectory(prefix="pdeathsig-bench-") as directory:
        python = Wheel(Path(directory), options.wheel).python()
        print(machine(python))
        become_subreaper()
        if not look_promptly():
            print("not allowed to run before all others: the clock may be read late at the parent's death")
        empty = Path(directory) / "empty"
        empty.mkdir()
        try:
            samples = alternate({name: trials(python, name, empty) for name in ARMING}, rounds)
        finally:
            reap_the_rest()
    heading(f"From the parent's death to the child's; medians of {rounds} trials each")
    report(samples)


if __name__ == "__main__":
    main()
