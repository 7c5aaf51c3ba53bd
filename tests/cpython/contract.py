"""CPython's own tests of subprocess, asyncio and os.posix_spawn, with and without pdeathsig.

Every test that passes without it must pass with it.

contract.py MODULE popen|install                       run both ways in processes of their own,
compare contract.py run plain|popen|install MODULE [TEST...]   run one way here; print a line for
each test, and
                                                       the counts that prove that pdeathsig was used
"""

# ruff: noqa: N802  (unittest's names)
from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

PR_SET_CHILD_SUBREAPER = 36
LIMIT = 900.0  # seconds; only a test that hangs takes that long
AGAIN = 3
POSIX = "test.test_posix"
WHICH = {POSIX: [f"{POSIX}.TestPosixSpawn", f"{POSIX}.TestPosixSpawnP"]}  # of other modules, all tests


class _Outcomes(unittest.TextTestResult):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.outcomes: dict[str, str] = {}

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        self.outcomes.setdefault(test.id(), "passed")

    def _note(self, test: unittest.TestCase, outcome: str) -> None:
        name = getattr(test, "test_case", test).id()  # a subTest counts for its test
        if self.outcomes.get(name) != "failed":
            self.outcomes[name] = outcome

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addFailure(test, err)
        self._note(test, "failed")

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        super().addError(test, err)
        self._note(test, "failed")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        self._note(test, "skipped")

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addExpectedFailure(test, err)
        self._note(test, "skipped")

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._note(test, "failed")


class _Proof:
    """How many programs the tests started, by Python's audit events, and how many were bound."""

    def __init__(self) -> None:
        self.spawns = self.bound = 0
        sys.addaudithook(self._audit)

    def _audit(self, event: str, _: object) -> None:
        self.spawns += event in ("subprocess.Popen", "os.posix_spawn")

    def watch(self) -> None:
        from pdeathsig._spawn import fork_exec, os_functions  # to count what nothing tells outside

        fork_exec.Start.run = self._counted(fork_exec.Start.run)  # type: ignore[method-assign]
        os_functions.start = self._counted(os_functions.start)

    def _counted(self, spawn: Callable[..., int]) -> Callable[..., int]:
        def counted(*args: Any, **options: Any) -> int:
            pid = spawn(*args, **options)
            self.bound += 1
            return pid

        return counted


def _take_from_os() -> None:
    """Give test_posix the functions of ``os``; it uses those of the module ``posix``."""
    from test import test_posix  # type: ignore[import-not-found]

    for case, name in ((test_posix.TestPosixSpawn, "posix_spawn"), (test_posix.TestPosixSpawnP, "posix_spawnp")):
        case.spawn_func = staticmethod(getattr(os, name))


def run(how: str, module: str, *tests: str) -> None:
    proof = _Proof()
    if how != "plain":
        import pdeathsig

        proof.watch()
        if how == "popen":
            subprocess.Popen = pdeathsig.Popen  # type: ignore[assignment, misc]
        else:
            pdeathsig.install()
            if module == POSIX:
                _take_from_os()
    suite = unittest.defaultTestLoader.loadTestsFromNames(tests or WHICH.get(module, [module]))
    result = unittest.TextTestRunner(resultclass=_Outcomes, verbosity=2).run(suite)
    assert isinstance(result, _Outcomes)
    print()
    for name, outcome in sorted(result.outcomes.items()):
        print(outcome, name)
    print("bound", proof.bound, proof.spawns)


class _Run:
    """A run of the tests in one way, in a process and a directory of its own."""

    def __init__(self, how: str, module: str, tests: Sequence[str]) -> None:
        self.how = how
        self.outcomes: dict[str, str] = {}
        self.bound = self.spawns = 0
        self._directory = tempfile.TemporaryDirectory()
        self._stdout, self._stderr = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, __file__, "run", how, module, *tests],
            cwd=self._directory.name,
            env={**os.environ, "TMPDIR": self._directory.name},
            stdin=subprocess.DEVNULL,
            stdout=self._stdout,
            stderr=self._stderr,
        )

    def wait(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(LIMIT)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()

    def read(self) -> None:
        """Read the results. A run that crashed or hung has none."""
        self._directory.cleanup()
        if status := self._process.returncode:
            sys.exit(f"{self.words()[-5000:]}\n{self.how}: did not come to its end, exit status {status}")
        for line in _text(self._stdout).splitlines():
            word, _, rest = line.partition(" ")
            if word in ("passed", "failed", "skipped"):
                self.outcomes[rest] = word
            elif word == "bound":
                self.bound, self.spawns = map(int, rest.split())

    def passed(self) -> set[str]:
        return {name for name, outcome in self.outcomes.items() if outcome == "passed"}

    def words(self) -> str:
        return _text(self._stderr)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _end_what_is_left() -> None:
    """End the orphans of the tests: this process, a subreaper, is their parent now."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while pids := children.read_text().split():
        for pid in map(int, pids):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _run(hows: Sequence[str], module: str, tests: Sequence[str] = ()) -> list[_Run]:
    """Run all of these ways at the same time, because the tests mostly sleep."""
    runs: list[_Run] = []
    try:
        for how in hows:
            runs.append(_Run(how, module, tests))
        for each in runs:
            each.wait()
    finally:
        for each in runs:
            each.end()
        _end_what_is_left()
    for each in runs:
        each.read()
    return runs


def main(module: str, how: str) -> int:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    plain, ours = _run(["plain", how], module)
    lost = sorted(plain.passed() - ours.passed())
    skipped = sum(outcome == "skipped" for outcome in ours.outcomes.values())
    print(
        f"Python {sys.version.split()[0]} {module} with {how}: {len(ours.outcomes)} run, {skipped} skipped; "
        f"{len(plain.passed())} pass without us, {len(plain.passed()) - len(lost)} of them with us; "
        f"{ours.spawns} spawns, {ours.bound} children bound",
        flush=True,
    )
    # Some of the starts fail on purpose, before there is a child.
    if not plain.passed() or ours.bound < max(1, 0.9 * ours.spawns):
        print("   that proves nothing")
        return 1
    for name in sorted(name for name, outcome in plain.outcomes.items() if outcome == "failed"):
        print("   fails without us:", name)
    return _judge(module, how, lost)


def _judge(module: str, how: str, lost: list[str]) -> bool:
    """Run these tests again, alone. A test may be flaky without pdeathsig, but not only with it."""
    verdicts: dict[str, str] = {}
    for _ in range(AGAIN):
        tests = [name for name in lost if name not in verdicts]
        if not tests:
            break
        [plain], [ours] = _run(["plain"], module, tests), _run([how], module, tests)
        verdicts.update((name, "flaky without us") for name in tests if name not in plain.passed())
        if again := plain.passed() - ours.passed():
            print(ours.words())
            verdicts.update((name, "lost") for name in again)
    for name in lost:
        print(f"   {verdicts.get(name, 'lost at first, not again')}:", name)
    return "lost" in verdicts.values()


if __name__ == "__main__":
    if sys.argv[1] == "run":
        run(*sys.argv[2:])
    else:
        sys.exit(main(*sys.argv[1:]))
