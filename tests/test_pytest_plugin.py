"""pytest --no-orphans, by an inner pytest with tests that leave processes behind."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import descendants, ends_by_itself
from harness import DEADLINE, TESTS, environment

HEAD = (
    f"import sys; sys.path.append({str(TESTS)!r})"
    + """
from actors import pidfd_open
import multiprocessing, os, pytest, select, signal, subprocess, sys, threading, time
held = []
def sleeper(*command, **options):
    held.append(subprocess.Popen([*command, "sleep", "1000"], **options))
    return held[-1]
def wait_for_end_of(pid, sig=0):
    pidfd = pidfd_open(pid)
    os.kill(pid, sig)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(10000)
    os.close(pidfd)
def end(pid):
    wait_for_end_of(pid, signal.SIGKILL)
"""
)
BLAMED = r"^_+ ERROR at teardown of (\w+\.)?(\w+) _+$"


@pytest.fixture(autouse=True)
def no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """There pytest's summary repeats every failure in full."""
    for name in ("CI", "BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)


def inner(pytester: pytest.Pytester, code: str, *args: str, on: str = "--no-orphans") -> pytest.RunResult:
    """The result of an inner pytest, which must have left no process behind.

    What it orphans would be ours. Resource trackers may be there: they end by themselves.
    """
    pytester.makepyfile(HEAD + code)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *[on] * bool(on), *args)
    assert all(ends_by_itself(pid) for pid in descendants(os.getpid()))
    return result


def blamed(result: pytest.RunResult) -> list[str]:
    """The tests of which pytest says that their teardown failed."""
    return [match[2] for line in result.outlines if (match := re.match(BLAMED, line))]


def has(result: pytest.RunResult, *patterns: str) -> None:
    for pattern in patterns:
        result.stdout.re_match_lines_random([pattern])


def test_a_child_left_behind_is_named_and_killed_and_fails_its_test(pytester: pytest.Pytester) -> None:
    result = inner(
        pytester,
        """
def test_guilty():
    sleeper()
def test_innocent():
    assert subprocess.run(["sh", "-c", "sleep 0 & exit 3"]).returncode == 3
""",
    )
    result.assert_outcomes(passed=2, errors=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert blamed(result) == ["test_guilty"]
    has(
        result,
        "this test left 1 process behind",
        r"  \d+  sleep 1000$",
        r"      child of \d+ \(pytest\)$",
        r"      started in .*::test_guilty \(call\)$",
    )


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(
            "with subprocess.Popen('setsid sh -c \"sleep 1000 >&2 & echo\" &', shell=True, stdout=-1) as p:"
            " p.stdout.readline()",
            id="by a shell",
        ),
        pytest.param(
            "subprocess.run('setsid sh -c \"sleep 1000 & exit\" &', shell=True)",
            id="by a shell, and not there yet when the test ends",
        ),
        pytest.param(
            "subprocess.run([sys.executable, '-c', 'import os; os.fork() and os._exit(0); os.setsid();"
            ' os.fork() and os._exit(0); os.execvp("sleep", ["sleep", "1000"])\'])',
            id="by a Python",
        ),
    ],
)
def test_a_daemon_that_has_left_the_tree(pytester: pytest.Pytester, code: str) -> None:
    result = inner(pytester, f"def test_guilty():\n    {code}\ndef test_innocent(): pass\n")
    result.assert_outcomes(passed=2, errors=1)
    assert blamed(result) == ["test_guilty"]
    has(
        result,
        r"  \d+  sleep 1000$",
        "      orphan: the process that started it has ended",
        r".* started in .*::test_guilty \(call\)$",
    )


def test_a_daemon_forked_by_the_test_itself(pytester: pytest.Pytester) -> None:
    """It execs nothing: its environment in /proc is the one with which pytest was started."""
    result = inner(
        pytester,
        """
def test_guilty():
    middle = os.fork()
    if not middle:
        os.setsid()
        if not os.fork():
            os.environ.clear()
            signal.pause()
        os._exit(0)
    os.waitpid(middle, 0)
def test_innocent(): pass
""",
    )
    result.assert_outcomes(passed=2, errors=1)
    assert blamed(result) == ["test_guilty"]
    has(result, r"  \d+  .*, forked from pytest$", "      orphan: the process that started it has ended")


def test_a_tree_is_named_and_killed_with_its_parents(pytester: pytest.Pytester) -> None:
    result = inner(
        pytester,
        """
def test_guilty():
    shell = sleeper("sh", "-c", "sleep 1000 & echo; env -i sleep 1000", stdout=subprocess.PIPE)
    shell.stdout.readline()
""",
    )
    assert blamed(result) == ["test_guilty"]
    has(result, "this test left 3 processes behind", r"      child of \d+  sh -c sleep 1000")


def test_with_an_environment_of_its_own(pytester: pytest.Pytester) -> None:
    result = inner(
        pytester,
        """
def test_guilty(monkeypatch):
    for name in list(os.environ):
        monkeypatch.delenv(name)
    sleeper("/usr/bin/env", "-i")
def test_innocent(): pass
""",
    )
    assert blamed(result) == ["test_guilty"]


def test_one_that_is_stopped(pytester: pytest.Pytester) -> None:
    result = inner(
        pytester,
        """
def test_guilty():
    sleeper().send_signal(signal.SIGSTOP)
    os.waitpid(held[0].pid, os.WUNTRACED)
""",
    )
    assert blamed(result) == ["test_guilty"]
    has(result, r"  \d+  sleep 1000, stopped$")


def test_one_that_a_thread_has_started(pytester: pytest.Pytester) -> None:
    result = inner(
        pytester,
        """
def test_guilty():
    thread = threading.Thread(target=sleeper)
    thread.start()
    thread.join()
def test_innocent(): pass
""",
    )
    assert blamed(result) == ["test_guilty"]


def test_one_that_is_about_to_end_is_no_leftover(pytester: pytest.Pytester) -> None:
    result = inner(pytester, "def test_it():\n    sleeper().terminate()\n    del held[:]\n")
    result.assert_outcomes(passed=1)


def test_a_zombie_is_no_leftover_and_stays_the_tests(pytester: pytest.Pytester) -> None:
    result = inner(
        pytester,
        """
def test_it():
    sleeper().kill()
    wait_for_end_of(held[0].pid)
def test_later():
    assert held[0].wait() == -9
""",
    )
    result.assert_outcomes(passed=2)


def test_popen_knows_how_the_killed_one_ended(pytester: pytest.Pytester) -> None:
    """If anything else reaped it, its returncode would be 0."""
    result = inner(
        pytester,
        """
def test_guilty():
    sleeper()
    held.append(os.spawnv(os.P_NOWAIT, "/bin/sleep", ["sleep", "1000"]))
def test_later():
    assert held[0].returncode == -9
    with pytest.raises(ChildProcessError):
        os.wait()
""",
    )
    result.assert_outcomes(passed=2, errors=1)


def test_the_tests_own_wait_gets_no_strangers(pytester: pytest.Pytester) -> None:
    """As it would if pytest were a subreaper."""
    result = inner(
        pytester,
        """
def test_it():
    shell = subprocess.run(["sh", "-c", "(sleep 0.01; exit 3) >/dev/null & echo $!"], capture_output=True, text=True)
    orphan = pidfd_open(int(shell.stdout))
    pid = os.spawnv(os.P_NOWAIT, "/bin/true", ["true"])
    assert os.wait() == (pid, 0)
    with pytest.raises(ChildProcessError):
        os.wait()
    os.close(orphan)
""",
    )
    result.assert_outcomes(passed=1)


def test_a_tests_own_failure_stays(pytester: pytest.Pytester) -> None:
    result = inner(
        pytester,
        """
def test_guilty():
    sleeper()
    assert 1 == 2
""",
    )
    result.assert_outcomes(failed=1, errors=1)
    has(result, r"E +assert 1 == 2", "this test left 1 process behind")


def test_left_by_the_teardown_of_a_fixture_which_fails_itself(pytester: pytest.Pytester) -> None:
    result = inner(
        pytester,
        """
@pytest.fixture
def tidy():
    yield
    sleeper()
@pytest.fixture
def broken(tidy):
    yield
    raise ValueError("mine")
def test_guilty(tidy): pass
def test_both(broken): pass
""",
    )
    result.assert_outcomes(passed=2, errors=2)
    assert blamed(result) == ["test_guilty", "test_both"]
    has(result, "E +ValueError: mine", "-+ Captured orphans teardown -+")
    assert result.stdout.str().count("this test left 1 process behind (killed):\n") == 2


def test_a_skipped_test_and_one_with_a_broken_setup(pytester: pytest.Pytester) -> None:
    result = inner(
        pytester,
        """
@pytest.fixture
def broken():
    sleeper()
    raise ValueError("mine")
def test_guilty(broken): pass
def test_skipped():
    sleeper()
    pytest.skip("no")
def test_innocent(): pass
""",
    )
    result.assert_outcomes(passed=1, skipped=1, errors=3)
    assert blamed(result) == ["test_guilty", "test_skipped"]


@pytest.mark.parametrize("setting", ["--no-orphans", "no_orphans = true"])
def test_the_marker_exempts_a_test_and_what_it_leaves(pytester: pytest.Pytester, setting: str) -> None:
    option = setting.startswith("-")
    pytester.makeini(f"[pytest]\n{'' if option else setting}\n")
    result = inner(
        pytester,
        """
@pytest.mark.orphans_allowed
def test_allowed():
    loop = "while read line; do sleep 1000 & echo $!; done"
    sleeper("sh", "-c", loop, "-", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
def test_what_that_starts_later_is_not_mine():
    held[0].stdin.write(b"more\\n")
    held[0].stdin.flush()
    held.append(int(held[0].stdout.readline()))
def test_they_live():
    assert held[0].poll() is None
    end(held[1])
    held[0].communicate()
def test_guilty():
    sleeper()
""",
        "--strict-markers",
        on=setting if option else "",
    )
    result.assert_outcomes(passed=4, errors=1)
    assert blamed(result) == ["test_guilty"]


def test_the_fixture_asks_for_single_tests(pytester: pytest.Pytester) -> None:
    result = inner(
        pytester,
        """
@pytest.fixture
def server():
    sleeper()
    yield
    end(held[-1].pid)
def test_not_asked():
    sleeper()
def test_guilty(no_orphans):
    sleeper()
def test_innocent(server, no_orphans): pass
@pytest.mark.usefixtures("no_orphans")
class TestAll:
    def test_guilty_too(self):
        sleeper()
@pytest.mark.orphans_allowed
def test_allowed(no_orphans):
    sleeper()
def test_asked_too_late(request):
    request.getfixturevalue("no_orphans")
def test_end():
    assert [popen.poll() for popen in held] == [None, -9, -9, -9, None]
    end(held[0].pid), end(held[-1].pid)
""",
        on="",
    )
    result.assert_outcomes(passed=6, failed=1, errors=2)
    assert blamed(result) == ["test_guilty", "test_guilty_too"]
    has(result, "E +Failed: no_orphans: to be an argument or in usefixtures")


def test_what_wider_fixtures_start_lives_as_long_as_they_do(pytester: pytest.Pytester) -> None:
    """A test that first asks for a fixture does not own what the fixture starts.

    When the fixture is finished, its processes are looked for.
    """
    result = inner(
        pytester,
        """
def server(scope, ends, **options):
    @pytest.fixture(scope=scope, **options)
    def start():
        popen = sleeper()
        yield popen
        assert popen.poll() is None
        if ends:
            end(popen.pid)
    return start
forgotten = server("module", ends=False)
tidy = server("session", ends=True)
of_class = server("class", ends=False)
each = server("module", ends=False, params=[1, 2])
class TestIt:
    def test_1(self, forgotten, of_class, request):
        assert request.getfixturevalue("tidy").poll() is None
    def test_last_of_class(self, forgotten, of_class, tidy):
        assert all(popen.poll() is None for popen in (forgotten, of_class, tidy))
def test_3(tidy, forgotten):
    assert all(popen.poll() is None for popen in (forgotten, tidy))
def test_each(each):
    assert each.poll() is None
def test_last(tidy, forgotten): pass
""",
    )
    result.assert_outcomes(passed=6, errors=3)
    has(
        result,
        "the class fixture 'of_class' left 1 process behind",
        "the module fixture 'forgotten' left 1 process behind",
        r"_+ ERROR at teardown of test_each\[2\] _+",
        "the module fixture 'each' left 1 process behind",
    )
    assert result.stdout.str().count("the module fixture 'each' left 1 process behind (killed):\n") == 2
    assert "'tidy' left" not in result.stdout.str()


def test_setup_class_and_setup_module(pytester: pytest.Pytester) -> None:
    result = inner(
        pytester,
        """
import unittest
def setup_module():
    held.append(sleeper())
class TestUnit(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = sleeper()
    @classmethod
    def tearDownClass(cls):
        end(cls.server.pid)
    def test_a(self):
        assert self.server.poll() is None
    def test_b(self):
        assert self.server.poll() is None
def test_last():
    assert held[0].poll() is None
""",
    )
    result.assert_outcomes(passed=3, errors=1)
    assert blamed(result) == ["test_last"]


def test_what_a_wider_fixtures_server_starts_is_its_own(pytester: pytest.Pytester) -> None:
    """In a test, with no environment, and as a daemon with one."""
    result = inner(
        pytester,
        """
@pytest.fixture(scope="module")
def server():
    code = "for line in sys.stdin: print(subprocess.Popen(eval(line), stdout=2).pid, flush=True)"
    command = [sys.executable, "-c", "import subprocess, sys\\n" + code]
    popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    yield popen
    for pid in held:
        end(pid)
    popen.communicate()
@pytest.mark.parametrize("command", [["env", "-i", "sleep", "1000"], ["sleep", "1000"]])
def test_innocent(server, command):
    server.stdin.write(repr(command).encode() + b"\\n")
    server.stdin.flush()
    held.append(int(server.stdout.readline()))
def test_they_live(server):
    assert len(held) == 2 and [os.kill(pid, 0) for pid in held]
""",
    )
    result.assert_outcomes(passed=3)


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_left_open(pytester: pytest.Pytester, method: str, stopped: bool) -> None:
    """It starts new workers in place of killed ones. If one held its lock, exit hangs."""
    result = inner(
        pytester,
        f"""
def test_guilty():
    pool = multiprocessing.get_context({method!r}).Pool(2)
    assert pool.map(abs, [1, -2]) == [1, 2]
    held.append(pool)
    for worker in pool._pool if {stopped} else ():
        os.kill(worker.pid, signal.SIGSTOP)
def test_innocent():
    for child in multiprocessing.active_children():
        child.join(10)  # a fork server's child is heard of later
    assert not multiprocessing.active_children()
""",
    )
    result.assert_outcomes(passed=2, errors=1)
    assert blamed(result) == ["test_guilty"]


def test_executors_and_managers_left_open(pytester: pytest.Pytester) -> None:
    result = inner(
        pytester,
        """
from concurrent.futures import ProcessPoolExecutor
def test_guilty_executor():
    executor = ProcessPoolExecutor(2)
    assert executor.submit(abs, -3).result() == 3
    held.append(executor)
def test_guilty_manager():
    held.append(multiprocessing.Manager())
def test_innocent():
    for child in multiprocessing.active_children():
        child.join(10)  # a fork server's child is heard of later
    assert not multiprocessing.active_children()
""",
    )
    result.assert_outcomes(passed=3, errors=2)
    assert blamed(result) == ["test_guilty_executor", "test_guilty_manager"]


def test_what_is_kept_for_all_is_no_leftover(pytester: pytest.Pytester) -> None:
    """The resource tracker and the fork server live on.

    The children of the fork server do not, though they have the environment of the first test.
    """
    result = inner(
        pytester,
        """
from multiprocessing import forkserver, resource_tracker, shared_memory
context = multiprocessing.get_context("forkserver")
def test_first():
    process = context.Process(target=abs, args=(1,))
    process.start()
    process.join()
    memory = shared_memory.SharedMemory(create=True, size=1)
    memory.close()
    memory.unlink()
    held.extend([forkserver._forkserver._forkserver_pid, resource_tracker._resource_tracker._pid])
def test_guilty():
    context.Process(target=time.sleep, args=(1000,)).start()
def test_they_live():
    assert [os.waitpid(pid, os.WNOHANG) for pid in held] == [(0, 0), (0, 0)]
    forkserver._forkserver._stop(), resource_tracker._resource_tracker._stop()
""",
    )
    result.assert_outcomes(passed=3, errors=1)
    assert blamed(result) == ["test_guilty"]


def test_lokys_reusable_pool_is_no_leftover(pytester: pytest.Pytester) -> None:
    """Every user of it gets the same workers; joblib is one. A test owns any other loky pool."""
    pytest.importorskip("loky")
    result = inner(
        pytester,
        """
import loky
def test_first():
    held.append(loky.get_reusable_executor(max_workers=2))
    assert held[0].submit(abs, -1).result() == 1
def test_second():
    assert loky.get_reusable_executor(max_workers=2) is held[0]
    assert held[0].submit(abs, -1).result() == 1
def test_guilty():
    held.append(loky.ProcessPoolExecutor(1))
    assert held[1].submit(abs, -1).result() == 1
def test_last():
    held[0].shutdown(wait=True)
""",
    )
    result.assert_outcomes(passed=4, errors=1)
    assert blamed(result) == ["test_guilty"]


def test_after_ctrl_c_what_is_left_is_killed(pytester: pytest.Pytester) -> None:
    result = inner(
        pytester,
        """
@pytest.fixture(scope="session")
def forgotten():
    sleeper()
def test_it(forgotten):
    subprocess.run("setsid sh -c 'sleep 1000 & exit' &", shell=True)
    raise KeyboardInterrupt
""",
    )
    assert result.ret == pytest.ExitCode.INTERRUPTED
    has(
        result,
        "=+ orphans =+",
        "this test left 1 process behind",
        "the session fixture 'forgotten' left 1 process behind",
    )


def test_another_session_that_was_forked_beside_us_is_not_ours(pytester: pytest.Pytester) -> None:
    """By a program that runs many: all have the same image."""
    pytester.makepyfile(
        test_it="""
import os
def test_innocent():
    os.write(int(os.environ["ASK"]), b"\\n")
    os.environ["STRANGER"] = os.read(int(os.environ["ANSWER"]), 99).decode()
def test_it_lives():
    assert open(f"/proc/{os.environ['STRANGER']}/stat").read().rpartition(")")[2].split()[0] in "RS"
""",
        runner="""
import os, pytest, signal, sys
(asked, ask), (answer, say) = os.pipe(), os.pipe()
beside = os.fork()
if not beside:
    os.read(asked, 1)
    if not os.fork():
        os.write(say, b"%d" % os.getpid())
        signal.pause()
    signal.pause()
session = os.fork()
if not session:
    os.environ.update(ASK=str(ask), ANSWER=str(answer))
    code = pytest.main(["--no-orphans", "-p", "no:cacheprovider"])
    sys.stdout.flush()
    os._exit(code)
_, status = os.waitpid(session, 0)
for pid in open(f"/proc/{beside}/task/{beside}/children").read().split():
    os.kill(int(pid), signal.SIGKILL)
os.kill(beside, signal.SIGKILL)
os.waitpid(beside, 0)
os._exit(os.waitstatus_to_exitcode(status))
""",
    )
    result = pytester.run(sys.executable, "runner.py")
    result.assert_outcomes(passed=2)
    assert result.ret == 0


@pytest.mark.parametrize("name", ["pdeathsig", "pdeathsig.pytest_plugin"])
@pytest.mark.parametrize("autoload", ["", "1"])
@pytest.mark.parametrize("workers", [0, 1])
def test_on_by_name(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str, autoload: str, workers: int
) -> None:
    xdist: list[str] = []
    if workers:
        pytest.importorskip("xdist")
        xdist = ["-p", "xdist", "-n", str(workers)] if autoload else ["-n", str(workers)]
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", autoload)
    result = inner(pytester, "def test_guilty():\n    sleeper()\n", "-p", name, *xdist, on="")
    result.assert_outcomes(passed=1, errors=1)


def test_a_conftest_may_name_it_too(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("pytest_plugins = ['pdeathsig.pytest_plugin']")
    result = inner(pytester, "def test_guilty(no_orphans):\n    sleeper()\n", on="")
    result.assert_outcomes(passed=1, errors=1)


def test_not_asked_for_it_does_nothing(pytester: pytest.Pytester) -> None:
    result = inner(
        pytester,
        """
import ctypes
def test_it(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin("pdeathsig")
    loaded = {name for name in sys.modules if name.startswith("pdeathsig.")}
    assert loaded <= {"pdeathsig.pytest_plugin", "pdeathsig._quick"}
    assert "PDEATHSIG_TEST" not in os.environ
    setting = ctypes.c_int(-1)
    assert ctypes.CDLL(None).prctl(2, ctypes.byref(setting)) == 0 and setting.value == 0  # PR_GET_PDEATHSIG
def test_guilty():
    sleeper()
    end(held[0].pid)
""",
        on="",
    )
    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("no orphans*")


def test_where_pdeathsig_was_imported_first_pytest_does_not_warn(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it cannot rewrite its assertions."""
    monkeypatch.setenv("PDEATHSIG", "KILL")
    result = inner(pytester, "def test_it(): pass\n", "-W", "error", on="")
    result.assert_outcomes(passed=1)


def test_a_session_inside_a_program_takes_everything_back(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    code = """
import os, pytest, pdeathsig
real = os.posix_spawn
def seen(): return pdeathsig.status().armed, os.posix_spawn is not real, "PDEATHSIG_TEST" in os.environ
class Inside:
    def pytest_runtest_call(self): print("inside", *seen())
assert pytest.main(["-qs", "--no-orphans", "-p", "no:cacheprovider"], plugins=[Inside()]) == 0
print("after", *seen())
"""
    result = pytester.run(sys.executable, "-c", code)
    has(result, ".*inside True True True", "after False False False")


def test_without_the_extension_it_finds_and_kills(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PDEATHSIG_BACKEND", "ctypes")
    result = inner(pytester, "def test_guilty():\n    sleeper()\n")
    result.assert_outcomes(passed=1, errors=1)
    has(result, "no orphans: found and killed, but the session is bound to no process")


def test_on_other_systems_it_says_that_it_does_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(no_orphans): pass")
    code = """
import sys
real, sys.platform = sys.platform, "darwin"
import pdeathsig
pdeathsig.supported()
sys.platform = real
import pytest
sys.exit(pytest.main(["--no-orphans", "-p", "no:cacheprovider"]))
"""
    result = pytester.run(sys.executable, "-c", code)
    result.assert_outcomes(passed=1)
    has(result, "no orphans: not on linux: nothing is checked")


class Fifo:
    """What tests of an inner pytest say; EOF when all that hold it are gone."""

    PROGRAM = """
import os, signal
fifo = os.open(os.environ["FIFO"], os.O_WRONLY)
def hold(number):
    def in_thread():
        held.append(subprocess.Popen(["sleep", "1000"], pass_fds=[fifo]))
    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    process = multiprocessing.get_context("fork").Process(target=say)
    process.start()
    say()
def say():
    os.write(fifo, b"here\\n")
    signal.pause()
@pytest.mark.parametrize("number", range(2))
def test_it(number):
    hold(number)
"""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def read(self) -> bytes:
        """Something, or nothing when all are gone."""
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        assert poll.poll(DEADLINE * 1000), "those that hold it live on"
        return os.read(self._end, 4096)

    def close(self) -> None:
        os.close(self._end)


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Fifo]:
    fifo = Fifo(tmp_path / "fifo")
    yield fifo
    fifo.close()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("killed", ["session", "its parent"])
def test_a_session_dies_with_its_parent_and_so_does_what_it_has_started(
    pytester: pytest.Pytester, fifo: Fifo, workers: int, killed: str
) -> None:
    """The workers of xdist with the controller; the processes of their tests with them."""
    if workers:
        pytest.importorskip("xdist")
    pytester.makepyfile(HEAD + Fifo.PROGRAM)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--no-orphans",
        "-p",
        "no:cacheprovider",
        f"-n{workers}" if workers else "-q",
    ]
    prefix = ["sh", "-c", '"$@" & wait', "-"] if killed == "its parent" else []
    top = subprocess.Popen(
        [*prefix, *command],
        cwd=pytester.path,
        env=environment(FIFO=str(fifo.path)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        said = b""
        while said.count(b"here") < 2 * max(workers, 1):
            said += fifo.read()
        top.kill()
        while fifo.read():
            pass
    finally:
        top.kill()
        top.wait()
