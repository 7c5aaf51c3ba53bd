"""Every system call on our paths made to fail in turn: what comes of it?

``PYTHONPATH=tests python tests/faults/inject.py INJECT [--step N] [--table FILE] [ENTRY...]``, where INJECT is inject.c,
compiled. For each way in (entries.py) the calls that it makes are listed by a run without a fault; then there is a run
for each of them and each error it may return. It must end in a clear error or in correct work; nothing is half done or
leaked, nobody hangs, a second attempt works; and when the process to which all is bound is killed, nothing is left.
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

PATIENCE = 15.0  # seconds for what takes one at most: then it is a hang
GUARD_VICTIMS = {"caller": "pdeathsig-run, caller killed", "command": "pdeathsig-run, command ends"}
GUARD_VICTIMS |= {"outer": "pdeathsig-run, outer killed", "inner": "pdeathsig-run, inner killed"}
NOT_STARTED, BAD_PDEATHSIG = 125, 2
KILLED_BEFORE_ITS_WORD = "ended: -9"  # a guard that cannot say that it has started ends what it has
MOST = 12  # occurrences of one call: a loop turns as often as it happens to
DENIED = 8
libc = ctypes.CDLL(None, use_errno=True)

# They always succeed, or fail only if the program is wrong.
NEVER_FAIL = """getpid gettid getppid getuid geteuid getgid getegid umask exit exit_group rt_sigreturn brk sched_yield
restart_syscall rseq set_robust_list set_tid_address arch_prctl rt_sigprocmask rt_sigaction waitid sigaltstack getrandom clock_gettime"""
# libc's own, which ends the program if the kernel lies to it; and those that do what they say also when they fail.
NOT_TO_BE_DENIED = "futex munmap madvise mprotect mremap close"
SPARED = {*NEVER_FAIL.split(), *NOT_TO_BE_DENIED.split()}
ANY = ["EPERM", "ENOSYS"]  # by a seccomp filter
MORE = {
    "EINTR": "read write openat wait4 waitid poll ppoll recvfrom sendto rt_sigtimedwait clock_nanosleep dup3 connect pidfd_open",
    "EAGAIN": "clone clone3 fork vfork timer_create tgkill rt_sigqueueinfo recvfrom sendto pwritev2",
    "ENOMEM": "clone clone3 fork vfork execve mmap openat pipe2 socket socketpair memfd_create signalfd4 pidfd_open poll ppoll timer_create readlink readlinkat",
    "EMFILE": "openat pipe2 socket socketpair dup dup3 fcntl memfd_create signalfd4 pidfd_open pidfd_getfd epoll_create1",
}
ONLY_MEMORY = {"mmap"}


class Fault(NamedTuple):
    call: str
    nth: int
    error: str


class Outcome(NamedTuple):
    where: str | None  # the process whose call failed; None: none came to it
    error: str | None  # None: it worked all the same
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
    """One process that is faulted, its parent, and who makes its call fail."""

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
        """Start the driver, and say how it has ended."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        driver = os.fork()
        if driver == 0:
            try:
                libc.prctl(0x59616D61, ctypes.c_ulong(-1))  # PR_SET_PTRACER: anybody, where Yama asks
                for old, new in ((report, REPORT), (go, GO), (self.stderr, 2)):
                    os.dup2(old, new)
                high = os.dup2(gate, 102, inheritable=False)
                os.closerange(3, REPORT)
                if self._is_guard:
                    drive_guard(high)
                from faults import entries

                entries.voices = tuple(os.pipe())  # type: ignore[assignment]
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
        """What the driver says next; None: it has ended instead."""
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
        """With which the driver has ended."""
        self._poll(self._status)
        return int(os.read(self._status, 20))

    def go(self) -> None:
        os.write(self._go, b"\n")

    def alone(self) -> str | None:
        """Wait until there are only the driver and its parent."""
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
        """Wait until no child is left, nor anybody else below us."""
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    if time.monotonic() > self._until:
                        return f"survivors: {descendants(os.getpid())}"
                    signal.sigtimedwait([signal.SIGCHLD], 0.05)
            except ChildProcessError:
                return None

    def said_on_stderr(self) -> str:
        return os.pread(self.stderr, 4096, 0).decode(errors="replace")

    def traced(self) -> str:
        """What the tool has said. It goes when it has done its work, or nobody is left to trace."""
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
    """Error, what is wrong, and the descriptors afterwards."""
    line = run.line()
    if line is None:
        return died(run, entry)
    said = json.loads(line)
    error, wrong = said["error"], said["wrong"]
    if error is not None and ENTRIES[entry].again:
        wrong = wrong or (None if entry.startswith("kill_") else run.alone())
        run.go()
        line = run.line()
        if line is None:
            return error, f"the second attempt ends it: {run.said_on_stderr()}", []
        said = json.loads(line)
        wrong = wrong or said["wrong"] or (said["error"] and f"the second attempt: {said['error']}")
    return error, wrong, said["descriptors"]


def died(run: Run, entry: str) -> tuple[str | None, str | None, list[str]]:
    status, words = run.status(), run.said_on_stderr().strip()
    clear = status == BAD_PDEATHSIG and words and entry == "PDEATHSIG"
    return words, None if clear else f"ended with {status}: {words}", []


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
        status, error = run.status(), run.said_on_stderr().strip()
        ours = error.startswith("pdeathsig-run: ") or status != NOT_STARTED
        if not (error and ours) or status not in (NOT_STARTED, 126, 127, 1):
            return error, f"ended with {status}: {error}"
        os.kill(run.parent, signal.SIGKILL)
        return error, run.nothing_left()
    wrong = None
    if victim == "command":
        run.go()
        status = run.status()
        wrong = None if status == 7 else f"ended with {status}: {run.said_on_stderr()}"
    elif victim in ("outer", "inner"):
        with open(f"/proc/{run.driver}/task/{run.driver}/children") as file:
            inner = int(file.read())
        os.kill(run.driver if victim == "outer" else inner, signal.SIGKILL)
        run.status()
        wrong = run.alone()  # while the caller lives, by whose death it would all end too
    os.kill(run.parent, signal.SIGKILL)
    return error, wrong or run.nothing_left()


def outcome(tool: str, entry: str, fault: Fault | None) -> tuple[Outcome, list[str]]:
    """What came of it, and, where there was no fault, the calls that were made."""
    run = Run(tool, entry, fault)
    victims = [victim for victim, name in GUARD_VICTIMS.items() if name == entry]
    error, wrong = None, None
    descriptors: list[str] = []
    words = ""
    try:
        if victims:
            error, wrong = guard_at(run, victims[0])
            words = run.traced()
        else:
            error, wrong, descriptors = at(run, entry)
            words = run.traced()
            wrong = wrong or kill_what_binds(run, entry, error is not None and ENTRIES[entry].unbound)
        if run.tool.wait(10) == DENIED:
            sys.exit(DENIED)
    except TimeoutError:
        wrong = f"hangs; {run.said_on_stderr()} {descendants(os.getpid())}"
    finally:
        run.close()
    where = words.removeprefix("injected ").strip() if words.startswith("injected") else None
    return Outcome(where, error, wrong, descriptors), words.splitlines()


def faults(lines: list[str], only: str) -> Iterator[Fault]:
    """Of these calls, those that a process of that name makes; empty: all."""
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
    """subprocess.Popen that cannot read whether the exec has worked leaves the child."""
    return entry in ("preexec", "install") and fault.call == "read" and found.startswith("left behind")


def as_if_hidden(entry: str, fault: Fault, found: str) -> bool:
    """A file of /proc that cannot be read is one that is not there: kill_tree is no reaper, and does not see him."""
    return entry.startswith("kill_") and fault.call in ("openat", "read", "getdents64") and found.startswith(MISSED)


# Of a way in, a call, what it does when it fails in that process, and by which errors it did that.
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
        if found == KILLED_BEFORE_ITS_WORD:
            what, found = what._replace(error="returncode -9", descriptors=[]), None
        usually = usual.descriptors
        if (entry, fault.call) == ("arm(parent=pid)", "close_range"):
            usually = [*usually, "anon_inode"]  # in a table that is not the keeper's own
        if found is None and what.descriptors and sorted(what.descriptors) != sorted(usually):
            found = f"descriptors {Counter(what.descriptors)}, usually {Counter(usually)}"
        if found is not None:
            wrong += 1
            print(
                f"    {entry}: {fault.call} {fault.nth} {fault.error} in {what.where}: {what.error}: {found}",
                flush=True,
            )
        if what.where is None:
            unreached += 1
            continue
        done += 1
        words = "works" if what.error is None else re.sub(r"\d{3,}", "N", what.error)
        if found is None:
            words = words.replace(os.strerror(getattr(errno, fault.error)), "...")
            words = words.replace(f"[Errno {getattr(errno, fault.error)}]", "[Errno ...]").splitlines()[-1]
            words = re.sub(r"^(PermissionError|BlockingIOError|InterruptedError): ", "OSError: ", words)
            table.setdefault((entry, fault.call, what.where, words), Counter())[fault.error] += 1
    return Total(done, unreached, wrong)


TOP = """# Faults

Each system call on our paths made to fail in turn, by a tracer: for each way in, the calls that it makes are listed by a run
without a fault; then there is a run for each of them (at most {most} occurrences of one call) and each error. Generated by
`make faults`; `tests/faults` is the program, and a share of it is a test.

What is asked of each run: it works all the same, or the error is clear; `status()` tells the truth; a second attempt, without
the fault, works; no child, zombie or descriptor is left over; nobody hangs ({patience} s, and most take 50 ms); and then the
process to which all is bound is killed, and nothing may be left of all that was started.

- `EPERM` and `ENOSYS` are tried on every call, as a seccomp filter can have any return them; `EINTR`, `EAGAIN`, `ENOMEM` and
  `EMFILE` on those that can return them.
- Not made to fail: what always succeeds, or fails only if the program is wrong ({never}); what the C library answers by
  ending the program, or does even if it says that it failed ({denied}); and the calls of the command itself.
- "misses one, as where /proc hides it": `kill_tree()` and `kill_group()` find processes by /proc, and are no reapers. Who is not
  to be read there is not found.
- "returncode -9": a guard that cannot say that it has started ends what it has started.
- CPython's own: where subprocess cannot read whether the exec has worked, it leaves the child running. `pdeathsig.Popen` does not.

| entry point | faults | of which came to nobody | wrong |
|---|---|---|---|
"""


def page(totals: list[tuple[str, Total]], table: Table) -> str:
    """The table, and the totals."""
    top = TOP.format(most=MOST, patience=round(PATIENCE), never=NEVER_FAIL, denied=NOT_TO_BE_DENIED)
    lines = [f"| `{name}` | {total.faults} | {total.unreached} | {total.wrong} |" for name, total in totals]
    faults, unreached, wrong = (sum(total[i] for _, total in totals) for i in range(3))
    lines += [f"| all | {faults} | {unreached} | {wrong} |", ""]
    lines += ["| entry point | call | in | errors, and how often | outcome |", "|---|---|---|---|---|"]
    for (entry, call, where, words), errors in table.items():
        counts = ", ".join(f"{error} {count}" for error, count in errors.items())
        lines.append(f"| `{entry}` | {call} | {where} | {counts} | {words.replace('|', '/')[:160]} |")
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
