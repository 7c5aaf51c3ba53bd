"""Make every system call of each entry point fail in turn, and check what follows.

``PYTHONPATH=tests python tests/faults/inject.py INJECT [--step N] [--table FILE] [ENTRY...]``,
where INJECT is inject.c, compiled.

For each entry point (entries.py), a run without a fault lists the system calls. Then each call
fails with each error that it may return, in a run of its own. The run must end in a clear error or
in correct work. Nothing is half done or leaked, nothing hangs, and a second attempt works. When the
process to which all is bound is killed, nothing is left.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from actors import pidfd_open
from conftest import PR_SET_CHILD_SUBREAPER, descendants, end, reap
from faults.entries import ENTRIES, GO, MISSED, REPORT, drive, drive_guard

PATIENCE = 15.0  # seconds; a run takes one at most, so one that takes longer hangs
GUARD_VICTIMS = {"caller": "pdeathsig-run, caller killed", "command": "pdeathsig-run, command ends"}
GUARD_VICTIMS |= {"monitor": "pdeathsig-run, monitor killed", "reaper": "pdeathsig-run, reaper killed"}
NOT_STARTED, BAD_PDEATHSIG = 125, 2
KILLED_BEFORE_READY = "ended: -9"  # a guard that cannot report its start ends what it started
MOST = 12  # occurrences of one call; a loop may repeat a call any number of times
DENIED = 8
libc = ctypes.CDLL(None, use_errno=True)

# These always succeed, or fail only if the program is wrong.
NEVER_FAIL = """getpid gettid getppid getuid geteuid getgid getegid umask exit exit_group rt_sigreturn brk sched_yield
restart_syscall rseq set_robust_list set_tid_address arch_prctl rt_sigprocmask rt_sigaction waitid sigaltstack getrandom
clock_gettime"""
# libc ends the program if one of these fails. close(2) closes the descriptor even if it reports an
# error.
NOT_TO_BE_DENIED = "futex munmap madvise mprotect mremap close"
SPARED = {*NEVER_FAIL.split(), *NOT_TO_BE_DENIED.split()}
ANY = ["EPERM", "ENOSYS"]  # a seccomp filter can make any call return these
MORE = {
    "EINTR": "read write openat wait4 waitid poll ppoll recvfrom sendto rt_sigtimedwait clock_nanosleep dup3 connect"
    " pidfd_open",
    "EAGAIN": "clone clone3 fork vfork timer_create tgkill rt_sigqueueinfo recvfrom sendto pwritev2",
    "ENOMEM": "clone clone3 fork vfork execve mmap openat pipe2 socket socketpair memfd_create signalfd4 pidfd_open"
    " poll ppoll timer_create readlink readlinkat",
    "EMFILE": "openat pipe2 socket socketpair dup dup3 fcntl memfd_create signalfd4 pidfd_open pidfd_getfd"
    " epoll_create1",
}
ONLY_MEMORY = {"mmap"}


class Fault(NamedTuple):
    call: str
    nth: int
    error: str


class Outcome(NamedTuple):
    where: str | None  # the name of the process that made the failing call; None: no process made it
    error: str | None  # None: it worked in spite of the fault
    wrong: str | None
    descriptors: list[str]


def call_numbers() -> dict[str, int]:
    macros = subprocess.check_output(
        ["cc", "-E", "-dM", "-include", "sys/syscall.h", "-x", "c", "/dev/null"], text=True
    )
    return {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", macros)}


NUMBERS = call_numbers()
NAMES = {number: name for name, number in NUMBERS.items()}


def errors_of(call: str) -> list[str]:
    if call in SPARED:
        return []
    return [*([] if call in ONLY_MEMORY else ANY), *(error for error, calls in MORE.items() if call in calls.split())]


class Run:
    """One run: the driver, its parent, and the tool that makes one of the driver's calls fail."""

    def __init__(self, tool: str, entry: str, fault: Fault | None) -> None:
        self._until = time.monotonic() + PATIENCE
        self._is_guard = entry in GUARD_VICTIMS.values()
        self._seen = b""
        gate, opener = os.pipe()
        self._report, report = os.pipe()
        go, self._go = os.pipe()
        self._status, status = os.pipe()
        self.stderr, self._said = os.memfd_create("stderr"), os.memfd_create("said")
        pids, pid = os.pipe()
        self.parent = os.fork()
        if self.parent == 0:
            self._be_parent(entry, gate, report, go, status, pid)
        for fd in (gate, report, go, status, pid):
            os.close(fd)
        self.driver = int(os.read(pids, 20))
        os.close(pids)
        self._pidfd = pidfd_open(self.driver)
        arguments = [str(self.driver), str(opener)]
        if fault is not None:
            arguments += [str(NUMBERS[fault.call]), str(fault.nth), str(getattr(errno, fault.error))]
        self.tool = subprocess.Popen([tool, *arguments], pass_fds=[opener], stdout=self._said)
        os.close(opener)

    def _be_parent(self, entry: str, gate: int, report: int, go: int, status: int, pid: int) -> None:
        """Start the driver, and report its exit status."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        driver = os.fork()
        if driver == 0:
            try:
                libc.prctl(0x59616D61, ctypes.c_ulong(-1))  # PR_SET_PTRACER_ANY, which Yama demands
                for old, new in ((report, REPORT), (go, GO), (self.stderr, 2)):
                    os.dup2(old, new)
                high = os.dup2(gate, 102, inheritable=False)
                os.closerange(3, REPORT)
                if self._is_guard:
                    drive_guard(high)
                from faults import entries

                entries.output = tuple(os.pipe())  # type: ignore[assignment]
                drive(entry, high)
            finally:
                sys.excepthook(*sys.exc_info())
                os._exit(99)
        os.write(pid, str(driver).encode())
        for fd in (gate, report, go, pid):
            os.close(fd)
        os.closerange(3, min(status, self.stderr)) if min(status, self.stderr) > 3 else None
        code = os.waitstatus_to_exitcode(os.waitpid(driver, 0)[1])
        os.write(status, str(code).encode())
        while True:
            signal.pause()

    def line(self) -> bytes | None:
        """The driver's next report; None: the driver ended instead."""
        while b"\n" not in self._seen:
            ready = self._poll(self._report, self._pidfd)
            if self._report in ready:
                got = os.read(self._report, 65536)
                self._seen += got
                if got:
                    continue
            return None
        line, _, self._seen = self._seen.partition(b"\n")
        return line

    def status(self) -> int:
        """The exit status of the driver."""
        self._poll(self._status)
        return int(os.read(self._status, 20))

    def go(self) -> None:
        os.write(self._go, b"\n")

    def alone(self) -> str | None:
        """Wait until only the driver and its parent are left."""
        while True:
            reap()
            others = {pid: command for pid, command in descendants(os.getpid()).items() if command}
            known = (self.parent, self.driver, self.tool.pid)
            left = {pid: command for pid, command in others.items() if pid not in known}
            if not left:
                return None
            if time.monotonic() > self._until:
                return f"left behind: {left}"
            time.sleep(0.002)

    def nothing_left(self) -> str | None:
        """Wait until this process, a subreaper, has no child left."""
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    if time.monotonic() > self._until:
                        return f"survivors: {descendants(os.getpid())}"
                    signal.sigtimedwait([signal.SIGCHLD], 0.05)
            except ChildProcessError:
                return None

    def error_output(self) -> str:
        return os.pread(self.stderr, 4096, 0).decode(errors="replace")

    def traced(self) -> str:
        """The tool's output. The tool ends after its fault, or when no process is left to trace."""
        if self.tool.poll() is None and not self._is_guard:
            self._poll(os_pidfd := pidfd_open(self.tool.pid))
            os.close(os_pidfd)
        return os.pread(self._said, 1 << 24, 0).decode()

    def _poll(self, *fds: int) -> list[int]:
        poll = select.poll()
        for fd in fds:
            poll.register(fd, select.POLLIN)
        ready = poll.poll(max(0.0, self._until - time.monotonic()) * 1000)
        if not ready:
            raise TimeoutError
        return [fd for fd, _ in ready]

    def close(self) -> None:
        for pid in (self.parent, self.driver, *descendants(os.getpid())):
            if pid != self.tool.pid:
                end(pid)
        self.tool.kill()
        self.tool.wait()
        for fd in (self._report, self._go, self._status, self.stderr, self._said, self._pidfd):
            os.close(fd)
        reap()


def at(run: Run, entry: str) -> tuple[str | None, str | None, list[str]]:
    """Return the error, what is wrong, and the descriptors afterwards."""
    line = run.line()
    if line is None:
        return died(run, entry)
    report = json.loads(line)
    error, wrong = report["error"], report["wrong"]
    if error is not None and ENTRIES[entry].again:
        wrong = wrong or (None if entry.startswith("kill_") else run.alone())
        run.go()
        line = run.line()
        if line is None:
            return error, f"the second attempt ends it: {run.error_output()}", []
        report = json.loads(line)
        wrong = wrong or report["wrong"] or (report["error"] and f"the second attempt: {report['error']}")
    return error, wrong, report["descriptors"]


def died(run: Run, entry: str) -> tuple[str | None, str | None, list[str]]:
    status, message = run.status(), run.error_output().strip()
    clear = status == BAD_PDEATHSIG and message and entry == "PDEATHSIG"
    return message, None if clear else f"ended with {status}: {message}", []


def kill_what_binds(run: Run, entry: str, unbound: bool) -> str | None:
    bound_to_the_parent = entry.startswith("arm") or entry in ("auto", "PDEATHSIG")
    for pid in (run.parent,) if bound_to_the_parent and not unbound else (run.driver, run.parent):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return run.nothing_left()


def guard_at(run: Run, victim: str) -> tuple[str | None, str | None]:
    line = run.line()
    error = None
    if line is None:
        status, error = run.status(), run.error_output().strip()
        ours = error.startswith("pdeathsig-run: ") or status != NOT_STARTED
        if not (error and ours) or status not in (NOT_STARTED, 126, 127, 1):
            return error, f"ended with {status}: {error}"
        os.kill(run.parent, signal.SIGKILL)
        return error, run.nothing_left()
    wrong = None
    if victim == "command":
        run.go()
        status = run.status()
        wrong = None if status == 7 else f"ended with {status}: {run.error_output()}"
    elif victim in ("monitor", "reaper"):
        with open(f"/proc/{run.driver}/task/{run.driver}/children") as file:
            reaper = int(file.read())
        os.kill(run.driver if victim == "monitor" else reaper, signal.SIGKILL)
        run.status()
        wrong = run.alone()  # before the caller dies, because its death would end all too
    os.kill(run.parent, signal.SIGKILL)
    return error, wrong or run.nothing_left()


def outcome(tool: str, entry: str, fault: Fault | None) -> tuple[Outcome, list[str]]:
    """Return what followed from the fault; and without a fault, the calls that were made."""
    run = Run(tool, entry, fault)
    victims = [victim for victim, name in GUARD_VICTIMS.items() if name == entry]
    error, wrong = None, None
    descriptors: list[str] = []
    output = ""
    try:
        if victims:
            error, wrong = guard_at(run, victims[0])
            output = run.traced()
        else:
            error, wrong, descriptors = at(run, entry)
            output = run.traced()
            wrong = wrong or kill_what_binds(run, entry, error is not None and ENTRIES[entry].unbound)
        if run.tool.wait(10) == DENIED:
            sys.exit(DENIED)
    except TimeoutError:
        wrong = f"hangs; {run.error_output()} {descendants(os.getpid())}"
    finally:
        run.close()
    where = output.removeprefix("injected ").strip() if output.startswith("injected") else None
    return Outcome(where, error, wrong, descriptors), output.splitlines()


def faults(lines: list[str], only: str) -> Iterator[Fault]:
    """The faults to try for these calls; with ``only``, for the calls of that process alone."""
    counted: Counter[str] = Counter()
    for line in lines:
        number, _, name = line.partition(" ")
        call = NAMES.get(int(number), "")
        counted[call] += 1
        if only and name != only:
            continue
        for error in errors_of(call) if counted[call] <= MOST else ():
            yield Fault(call, counted[call], error)


def is_cpythons(entry: str, fault: Fault, found: str) -> bool:
    """subprocess.Popen leaves the child running if it cannot read whether the exec worked."""
    return entry in ("preexec", "install") and fault.call == "read" and found.startswith("left behind")


def as_if_hidden(entry: str, fault: Fault, found: str) -> bool:
    """kill_tree finds processes by /proc alone, so it misses one that cannot be read there."""
    return entry.startswith("kill_") and fault.call in ("openat", "read", "getdents64") and found.startswith(MISSED)


# For an entry point, a call, the process that made it and the outcome: how often each error led
# there.
Table = dict[tuple[str, str, str, str], Counter[str]]


class Total(NamedTuple):
    faults: int
    unreached: int
    wrong: int


def sweep(tool: str, entry: str, step: int, table: Table) -> Total:
    usual, lines = outcome(tool, entry, None)
    if usual.wrong or usual.error:
        print(f"{entry}: without a fault: {usual}")
        return Total(0, 0, 1)
    done = unreached = wrong = 0
    for fault in islice(faults(lines, "pdeathsig-run" if entry in GUARD_VICTIMS.values() else ""), 0, None, step):
        what, _ = outcome(tool, entry, fault)
        found = what.wrong
        if found is not None and is_cpythons(entry, fault, found):
            what, found = what._replace(error=f"{what.error} (CPython's own)"), None
        if found is not None and as_if_hidden(entry, fault, found):
            what, found = what._replace(error="misses one, as where /proc hides it"), None
        if found == KILLED_BEFORE_READY:
            what, found = what._replace(error="returncode -9", descriptors=[]), None
        usually = usual.descriptors
        if (entry, fault.call) == ("arm(parent=pid)", "close_range"):
            usually = [*usually, "anon_inode"]  # the watcher thread shares the process's descriptor table
        if found is None and what.descriptors and sorted(what.descriptors) != sorted(usually):
            found = f"descriptors {Counter(what.descriptors)}, usually {Counter(usually)}"
        if found is not None:
            wrong += 1
            failed = f"{fault.call} {fault.nth} {fault.error} in {what.where}"
            print(f"    {entry}: {failed}: {what.error}: {found}", flush=True)
        if what.where is None:
            unreached += 1
            continue
        done += 1
        result = "works" if what.error is None else re.sub(r"\d{3,}", "N", what.error)
        if found is None:
            result = result.replace(os.strerror(getattr(errno, fault.error)), "...")
            result = result.replace(f"[Errno {getattr(errno, fault.error)}]", "[Errno ...]").splitlines()[-1]
            result = re.sub(r"^(PermissionError|BlockingIOError|InterruptedError): ", "OSError: ", result)
            table.setdefault((entry, fault.call, what.where, result), Counter())[fault.error] += 1
    return Total(done, unreached, wrong)


TOP = """# Faults

A tracer makes each system call of each entry point fail in turn. A run without a fault lists the calls. Then
each of them (at most {most} occurrences of one call) fails with each error, in a run of its own. `make faults`
generated this page; `tests/faults` is the program, and a share of it is a test.

Each run must do this:

- It works in spite of the fault, or the error is clear.
- `status()` tells the truth.
- A second attempt, without the fault, works.
- No child, zombie or descriptor is left over.
- Nothing hangs. The limit is {patience} s; most runs take 50 ms.
- Then the process to which all is bound is killed, and nothing that was started may be left.

The errors:

- `EPERM` and `ENOSYS` are tried on every call, because a seccomp filter can make any call return them. `EINTR`,
  `EAGAIN`, `ENOMEM` and `EMFILE` are tried on those that can return them.
- Calls that always succeed, or fail only if the program is wrong, are not made to fail ({never}).
- Calls are not made to fail if the C library would then end the program, or if they take effect even when they
  report an error ({denied}). Neither are the calls of the command itself.

The outcomes:

- "misses one, as where /proc hides it": `kill_tree()` and `kill_group()` find processes by /proc, and are no
  reapers. They do not find a process that cannot be read there.
- "returncode -9": a guard that cannot report its start ends what it started.
- "CPython's own": if subprocess cannot read whether the exec worked, it leaves the child running.
  `pdeathsig.Popen` does not.

| entry point | faults | of which no process reached | wrong |
|---|---|---|---|
"""


def page(totals: list[tuple[str, Total]], table: Table) -> str:
    """The page for docs/: the totals, then each outcome."""
    top = TOP.format(most=MOST, patience=round(PATIENCE), never=NEVER_FAIL, denied=NOT_TO_BE_DENIED)
    lines = [f"| `{name}` | {total.faults} | {total.unreached} | {total.wrong} |" for name, total in totals]
    faults, unreached, wrong = (sum(total[i] for _, total in totals) for i in range(3))
    lines += [f"| all | {faults} | {unreached} | {wrong} |", ""]
    lines += ["| entry point | call | in | errors, and how often | outcome |", "|---|---|---|---|---|"]
    for (entry, call, where, result), errors in table.items():
        counts = ", ".join(f"{error} {count}" for error, count in errors.items())
        lines.append(f"| `{entry}` | {call} | {where} | {counts} | {result.replace('|', '/')[:160]} |")
    return top + "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tool")
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--table")
    parser.add_argument("--one", nargs=3, metavar=("CALL", "N", "ERROR"))
    parser.add_argument("entries", nargs="*")
    options = parser.parse_intermixed_args()
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    os.environ["PDEATHSIG_QUIET"] = "1"
    if options.one:
        call, nth, error = options.one
        print(outcome(options.tool, options.entries[0], Fault(call, int(nth), error))[0])
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    totals: list[tuple[str, Total]] = []
    table: Table = {}
    for entry in options.entries or [*ENTRIES, *GUARD_VICTIMS.values()]:
        begun = time.monotonic()
        total = sweep(options.tool, entry, options.step, table)
        took = time.monotonic() - begun
        print(
            f"{entry:32} {total.faults:5} faults {total.unreached:4} unreached {total.wrong:4} wrong {took:6.1f} s",
            flush=True,
        )
        totals.append((entry, total))
        if options.table:
            with open(options.table, "w") as file:
                print(page(totals, table), file=file)
    sys.exit(any(total.wrong for _, total in totals))


if __name__ == "__main__":
    main()
