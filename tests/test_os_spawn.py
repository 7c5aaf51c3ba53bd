"""After install(), os.posix_spawn, os.posix_spawnp, os.spawn*, os.system and os.popen bind.

In all else they behave like the functions of ``os``.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import Start
from harness import run

import pdeathsig

# Since 3.12 os.fork() warns in a process with several threads. pdeathsig's native thread is one.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

if sys.implementation.name == "pypy":
    pytest.skip("PyPy has no posix_spawn", allow_module_level=True)

CPYTHON = {name: getattr(os, name) for name in ("posix_spawn", "posix_spawnp", "system")}
OPEN, CLOSE, DUP2 = os.POSIX_SPAWN_OPEN, os.POSIX_SPAWN_CLOSE, os.POSIX_SPAWN_DUP2
NAMES = ("posix_spawn", "posix_spawnp")

STARTS = {
    "posix_spawn": "pid = os.posix_spawn('/bin/sleep', ['sleep', '1000'], os.environ)",
    "posix_spawnp": "pid = os.posix_spawnp('sleep', ['sleep', '1000'], os.environ)",
    "posix_spawn, with actions": "pid = os.posix_spawn('/bin/sleep', ['sleep', '1000'], {},"
    " setsid=True, setsigmask=[15],"
    " file_actions=[(os.POSIX_SPAWN_OPEN, 0, '/dev/null', 0, 0), (os.POSIX_SPAWN_DUP2, 1, 250)])",
    "spawnv": "pid = os.spawnv(os.P_NOWAIT, '/bin/sleep', ['sleep', '1000'])",
    "spawnlp": "pid = os.spawnlp(os.P_NOWAIT, 'sleep', 'sleep', '1000')",
    "spawnvpe": "pid = os.spawnvpe(os.P_NOWAIT, 'sleep', ['sleep', '1000'], {'PATH': '/nowhere:/bin:/usr/bin'})",
    "popen": "pdeathsig.install(scope='child'); file = os.popen('exec sleep 1000'); pid = file._proc.pid",
}


@pytest.fixture
def installed() -> Iterator[None]:
    pdeathsig.install()
    yield
    pdeathsig.uninstall()


def both(do: Callable[[], Any]) -> tuple[Any, Any]:
    """Do it without install(), then with it, and return both results."""
    seen = []
    for install in (False, True):
        if install:
            pdeathsig.install()
        try:
            seen.append(do())
        finally:
            pdeathsig.uninstall()
    return seen[0], seen[1]


def raised(function: Callable[..., Any], *args: Any, **options: Any) -> tuple[Any, ...]:
    try:
        function(*args, **options)
    except BaseException as error:
        return type(error), getattr(error, "errno", None), getattr(error, "filename", None)
    return (None,)


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("how", STARTS)
@pytest.mark.parametrize("thread", [False, True], ids=["main", "thread"])
def test_bound_to_the_process_and_not_to_the_thread(start: Start, how: str, thread: bool) -> None:
    tree = start(f"""
import pdeathsig
pdeathsig.install()
keep = []
def begin():
    {STARTS[how]}
    keep.append(locals())
    say('child', pid)
worker = threading.Thread(target=begin)
if {thread}: worker.start(); worker.join()
else: begin()
say('started')
wait()
say('alive', os.waitpid(keep[0]['pid'], os.WNOHANG)[0])
forever()
""")
    child = tree.process("child")
    child.wait_for_command("sleep")
    tree.event("started")
    tree.send()
    assert tree.event("alive") == "0"
    tree.kill()
    assert child.dies()
    assert tree.all_gone()


@pytest.mark.parametrize("thread", [False, True], ids=["main", "thread"])
def test_the_shell_of_system_dies_with_its_parent(start: Start, thread: bool) -> None:
    tree = start(f"""
import pdeathsig
pdeathsig.install()
run = lambda: os.system("echo child $$; exec sleep 1000")
if {thread}: threading.Thread(target=run).start(); forever()
run()
""")
    child = tree.process("child")
    tree.kill()
    assert child.dies()
    assert tree.all_gone()


def test_the_signal_can_be_chosen(start: Start) -> None:
    """It is neither ignored nor blocked, even if the program inherits or asks for that."""
    tree = start("""
import pdeathsig
pdeathsig.install(signal.SIGTERM)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
code = '''from actors import *
signal.signal(signal.SIGTERM, lambda *_: (say("term"), os._exit(0)))
here("child"); forever()'''
os.posix_spawn(sys.executable, [sys.executable, '-c', code], os.environ, setsigmask=[signal.SIGTERM])
forever()
""")
    child = tree.process("child")
    tree.kill()
    tree.event("term")
    assert child.dies()


@pytest.mark.usefixtures("nothing_left")
def test_what_is_replaced_is_put_back() -> None:
    before = vars(os).copy()
    pdeathsig.install()
    assert os.posix_spawn is not before["posix_spawn"]
    taken = os.posix_spawn
    pdeathsig.uninstall()
    assert vars(os) == before
    assert ended(taken("/bin/true", ["true"], {})) == 0


BAD: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "path": ((3, ["x"], {}), {}),
    "path, NUL": (("/bin\0", ["x"], {}), {}),
    "argv": (("/bin/true", "true", {}), {}),
    "argv, generator": (("/bin/true", iter(["x"]), {}), {}),
    "argv, empty": (("/bin/true", [], {}), {}),
    "argv, first empty": (("/bin/true", [""], {}), {}),
    "argv, number": (("/bin/true", ["x", 1], {}), {}),
    "argv, NUL": (("/bin/true", ["x", "a\0"], {}), {}),
    "env": (("/bin/true", ["x"], 3), {}),
    "env, list": (("/bin/true", ["x"], []), {}),
    "env, =": (("/bin/true", ["x"], {"a=b": "c"}), {}),
    "env, empty name": (("/bin/true", ["x"], {"": "c"}), {}),
    "env, number": (("/bin/true", ["x"], {"a": 1}), {}),
    "env, NUL": (("/bin/true", ["x"], {"a": "\0"}), {}),
    "missing": (("/bin/true", ["x"]), {}),
    "unknown": (("/bin/true", ["x"], {}), {"unknown": 1}),
    "setpgroup": (("/bin/true", ["x"], {}), {"setpgroup": "x"}),
    "setpgroup, large": (("/bin/true", ["x"], {}), {"setpgroup": 2**70}),
    "setpgroup, no such group": (("/bin/true", ["x"], {}), {"setpgroup": 2**30}),
    "setsigmask": (("/bin/true", ["x"], {}), {"setsigmask": 3}),
    "setsigmask, 0": (("/bin/true", ["x"], {}), {"setsigmask": [0]}),
    "setsigmask, 65": (("/bin/true", ["x"], {}), {"setsigmask": [65]}),
    "setsigdef": (("/bin/true", ["x"], {}), {"setsigdef": ["INT"]}),
    "scheduler": (("/bin/true", ["x"], {}), {"scheduler": 3}),
    "scheduler, short": (("/bin/true", ["x"], {}), {"scheduler": (1,)}),
    "scheduler, number": (("/bin/true", ["x"], {}), {"scheduler": (None, 1)}),
    "scheduler, policy": (("/bin/true", ["x"], {}), {"scheduler": (77, os.sched_param(1))}),
    "scheduler, priority": (("/bin/true", ["x"], {}), {"scheduler": (os.SCHED_RR, os.sched_param(1000))}),
    "scheduler, priority alone": (("/bin/true", ["x"], {}), {"scheduler": (None, os.sched_param(7))}),
    "actions": (("/bin/true", ["x"], {}), {"file_actions": 3}),
    "actions, list": (("/bin/true", ["x"], {}), {"file_actions": [[CLOSE, 0]]}),
    "actions, empty": (("/bin/true", ["x"], {}), {"file_actions": [()]}),
    "actions, unknown": (("/bin/true", ["x"], {}), {"file_actions": [(99,)]}),
    "actions, no number": (("/bin/true", ["x"], {}), {"file_actions": [("x",)]}),
    "close, short": (("/bin/true", ["x"], {}), {"file_actions": [(CLOSE,)]}),
    "close, negative": (("/bin/true", ["x"], {}), {"file_actions": [(CLOSE, -1)]}),
    "close, large": (("/bin/true", ["x"], {}), {"file_actions": [(CLOSE, 2**40)]}),
    "close, out of range": (("/bin/true", ["x"], {}), {"file_actions": [(CLOSE, 2**31 - 1)]}),
    "open, short": (("/bin/true", ["x"], {}), {"file_actions": [(OPEN, 0, "x", 0)]}),
    "open, path": (("/bin/true", ["x"], {}), {"file_actions": [(OPEN, 0, 3, 0, 0)]}),
    "open, nowhere": (("/bin/true", ["x"], {}), {"file_actions": [(OPEN, 0, "/nowhere", 0, 0)]}),
    "dup2, short": (("/bin/true", ["x"], {}), {"file_actions": [(DUP2, 0)]}),
    "dup2, not open": (("/bin/true", ["x"], {}), {"file_actions": [(DUP2, 900, 1)]}),
    "dup2, not open, onto itself": (("/bin/true", ["x"], {}), {"file_actions": [(DUP2, 900, 900)]}),
    "nowhere": (("/nowhere/x", ["x"], {}), {}),
    "nowhere, bytes": ((b"nowhere", ["x"], {}), {}),
    "nowhere, Path": ((Path("/nowhere"), ["x"], {}), {}),
    "empty": (("", ["x"], {}), {}),
    "directory": (("/etc", ["x"], {}), {}),
    "not executable": (("/etc/hostname", ["x"], {}), {}),
    "not a directory": (("/etc/hostname/x", ["x"], {}), {}),
    "name too long": (("x" * 300, ["x"], {}), {}),
    "too large": (("/bin/true", ["x", "y" * 2**20], {}), {}),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", NAMES)
def test_errors_are_cpythons(name: str, bad: str) -> None:
    args, options = BAD[bad]
    theirs, ours = both(lambda: raised(getattr(os, name), *args, **options))
    assert ours == theirs
    assert theirs != (None,)


@pytest.mark.usefixtures("installed", "nothing_left")
def test_an_argument_that_is_used_up_by_the_refusal_starts_nothing() -> None:
    """CPython's function is called for its error, but would accept the iterator, now empty."""
    with pytest.raises(ValueError):
        os.posix_spawn("/bin/sleep", ["sleep", "1000"], {}, setsigmask=iter([signal.SIGUSR1, 99]))


@pytest.mark.parametrize("error", ["EACCES", "ENOEXEC", "ELOOP"])
def test_posix_spawnp_looks_in_path_as_libc_does(error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first candidate exists but cannot be executed; the second one can."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    shutil.copy("/bin/true", second / "program")
    if error == "ELOOP":
        (first / "program").symlink_to("program")
    else:
        (first / "program").write_text("nothing")
        (first / "program").chmod(0o755 if error == "ENOEXEC" else 0o644)
    outcomes = []
    for directories in ([first, second], [first], ["/etc/hostname", "/nowhere", second], [first, "/nowhere"]):
        monkeypatch.setenv("PATH", ":".join(map(str, directories)))
        outcomes.append(both(lambda: raised(lambda: ended(os.posix_spawnp("program", ["x"], {})))))
    assert [ours for _, ours in outcomes] == [theirs for theirs, _ in outcomes]
    monkeypatch.setenv("PATH", ":/nowhere")
    monkeypatch.chdir(second)
    assert both(lambda: ended(os.posix_spawnp("program", ["x"], {}))) == (0, 0)
    monkeypatch.delenv("PATH")
    assert both(lambda: ended(os.posix_spawnp("true", ["x"], {}))) == (0, 0)


LOOK = """
import os, signal, sys
own = os.getpid()
status = open('/proc/self/status').read().splitlines()
libc = 3 << 31  # its own two signals, which glibc's posix_spawn leaves ignored
print([int(line[8:], 16) & ~libc for line in status if line[:6] in ('SigBlk', 'SigIgn')],
    os.getpgid(0) == own, os.getsid(0) == own)
print(os.sched_getscheduler(0), os.sched_getparam(0), os.sched_getaffinity(0), os.nice(0), os.getuid(), os.geteuid())
for fd in (*range(3), 17, 18, 19, 300):
    try: print(fd, os.readlink(f'/proc/self/fd/{fd}') if fd > 1 else os.fstat(fd).st_mode)
    except OSError: print(fd, 'closed')
print(sorted(os.environ.items()), sys.argv, os.getcwd(), os.umask(0))
"""

OPTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "setpgroup": {"setpgroup": 0},
    **({"neither": {"setpgroup": None, "scheduler": None}} if sys.version_info >= (3, 14) else {}),
    "setsid": {"setsid": True},
    "resetids": {"resetids": True},
    "setsigmask": {"setsigmask": [signal.SIGUSR1, signal.SIGRTMIN]},
    "setsigmask, empty": {"setsigmask": []},
    "setsigmask, set": {"setsigmask": {signal.SIGUSR1}},
    "setsigdef": {"setsigdef": [signal.SIGUSR2, signal.SIGPIPE, signal.SIGINT]},
    "scheduler": {"scheduler": (os.SCHED_OTHER, os.sched_param(0))},
    "scheduler, parameters": {"scheduler": (None, os.sched_param(0))},
    "open": {"file_actions": [(OPEN, 217, "/dev/zero", os.O_RDONLY, 0), (OPEN, 300, b"/dev/null", os.O_RDWR, 0)]},
    "open, close-on-exec": {"file_actions": [(OPEN, 217, "/dev/zero", os.O_RDONLY | os.O_CLOEXEC, 0)]},
    "close": {"file_actions": [(CLOSE, 0), (CLOSE, 0), (CLOSE, 219)]},
    "dup2": {"file_actions": [(DUP2, 218, 217), (DUP2, 218, 218), (DUP2, 217, 0), (CLOSE, 217)]},
    "in order": {"file_actions": ((OPEN, 217, "/dev/full", 1, 0), (DUP2, 217, 219), (OPEN, 217, "/dev/null", 0, 0))},
    "none": {"file_actions": None},
}
if hasattr(os, "POSIX_SPAWN_CLOSEFROM"):
    OPTIONS["closefrom"] = {"file_actions": [(OPEN, 300, "/dev/null", 0, 0), (os.POSIX_SPAWN_CLOSEFROM, 218)]}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("thread", [False, True], ids=["main", "thread"])
def test_a_program_starts_in_the_same_state_as_without_pdeathsig(options: str, thread: bool) -> None:
    """Its mask, ignored signals, group and descriptors, by posix_spawn and by os.spawnve."""
    command = [sys.executable, "-S", "-c", LOOK, "an argument"]

    def look() -> list[str]:
        results: list[str] = []

        def begin(start: Callable[..., int]) -> None:
            reader, writer = os.pipe()
            os.dup2(writer, 1)
            os.close(writer)
            pid = start()
            os.dup2(out, 1)
            with open(reader) as file:
                results.append(file.read())
            assert ended(pid) == 0

        def all_ways() -> None:
            begin(lambda: os.posix_spawn(sys.executable, command, {"A": "ä"}, **OPTIONS[options]))
            begin(lambda: os.posix_spawn(sys.executable.encode(), tuple(command), os.environ, **OPTIONS[options]))
            if options == "nothing":
                begin(lambda: os.spawnve(os.P_NOWAIT, sys.executable, command, {"A": "ä"}))
                begin(lambda: os.spawnv(os.P_NOWAIT, sys.executable, command))

        worker = threading.Thread(target=all_ways)
        worker.start() if thread else all_ways()
        if thread:
            worker.join()
        assert len(results) >= 2
        return results

    out = os.dup(1)
    extra = [os.open("/dev/null", os.O_RDONLY)]
    try:
        os.dup2(extra[0], 218, inheritable=False)
        os.dup2(extra[0], 219, inheritable=True)
        extra += [218, 219]
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
        theirs, ours = both(look)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)
        for fd in {out, *extra}:
            os.close(fd)
    assert ours == theirs


def test_audit_events_are_cpythons() -> None:
    code = """
import os, sys
events = []
sys.addaudithook(lambda name, args: events.append((name, args)) if name.startswith('os.') else None)
def look():
    del events[:]
    os.waitpid(os.posix_spawn('/bin/true', ['true'], {'A': 'b'}), 0)
    os.waitpid(os.posix_spawnp('true', ['true'], {}), 0)
    os.system('true')
    return [event for event in events if event[0] in ('os.posix_spawn', 'os.system')]
theirs = look()
import pdeathsig
pdeathsig.install()
assert look() == theirs and len(theirs) == 3, (look(), theirs)
"""
    ended = run(code)
    assert ended.returncode == 0, ended.stderr


SHELL: dict[str, Any] = {
    "success": "true",
    "status": "exit 7",
    "signal": "kill -9 $$",
    "a signal of a child": "sh -c 'kill -15 $$'; exit $?",
    "not found": "no-such-program 2>/dev/null",
    "syntax": "( 2>/dev/null",
    "empty": "",
    "bytes": b"exit 3",
    "ignored signals": "test $(awk '/SigIgn/ {print substr($2, 15)}' /proc/self/status) = 00; exit $?",
}


@pytest.mark.parametrize("command", SHELL)
@pytest.mark.parametrize("thread", [False, True], ids=["main", "thread"])
def test_system_returns_what_cpythons_does(command: str, thread: bool) -> None:
    def run() -> int:
        seen = []
        worker = threading.Thread(target=lambda: seen.append(os.system(SHELL[command])))
        worker.start() if thread else worker.run()
        if thread:
            worker.join()
        return seen[0]

    theirs, ours = both(run)
    assert ours == theirs


@pytest.mark.parametrize("bad", [3, None, "a\0b"])
def test_system_refuses_what_cpythons_does(bad: Any) -> None:
    theirs, ours = both(lambda: raised(os.system, bad))
    assert ours == theirs != (None,)


def test_system_with_an_ignored_sigchld() -> None:
    """Then the status is lost: system(3)."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert both(lambda: os.system("exit 3")) == (-1, -1)
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.mark.parametrize("install", [False, True])
def test_an_interrupt_is_for_the_shell_alone(start: Start, install: bool) -> None:
    """Ctrl-C reaches both. The waiting process ignores it, and has its handler back afterwards."""
    tree = start(f"""
import pdeathsig
if {install}: pdeathsig.install()
signal.signal(signal.SIGINT, lambda *_: say('interrupted'))
signal.signal(signal.SIGCHLD, lambda *_: None)
os.kill(os.getpid(), signal.SIGINT)
python = os.getpid()
say('status', os.system(f"echo shell $$ >&1; kill -INT {{python}}; kill -QUIT {{python}}; kill -INT $$"))
os.kill(os.getpid(), signal.SIGINT)
""")
    tree.event("interrupted")
    tree.event("shell")
    assert tree.event("status") == "2"
    tree.event("interrupted")
    tree.top.wait(10)


def test_system_on_two_threads_at_once_gives_the_handlers_back_once(start: Start) -> None:
    tree = start("""
import pdeathsig
pdeathsig.install()
def ignored():
    line = next(line for line in open('/proc/self/status') if line.startswith('SigIgn'))
    return int(line.split()[1], 16) >> (signal.SIGINT - 1) & 1
gates = [os.pipe(), os.pipe()]
for reader, _ in gates: os.set_inheritable(reader, True)
threads = [threading.Thread(target=os.system, args=(f"echo up; read _ <&{reader}",)) for reader, _ in gates]
for thread in threads: thread.start()
wait()
os.write(gates[0][1], b"\\n"); threads[0].join()
say('still', ignored())
child = os.fork()
if child == 0: os._exit(ignored())
say('in a forked child', os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os.write(gates[1][1], b"\\n"); threads[1].join()
say('ignored', ignored())
""")
    assert [tree.line(), tree.line()] == ["up", "up"]
    tree.send()
    assert tree.line() == "still 1"
    assert tree.line() == "in a forked child 0"
    assert tree.line() == "ignored 0"
    tree.top.wait(10)


def test_a_command_that_begins_with_a_dash(capfd: pytest.CaptureFixture[str]) -> None:
    pdeathsig.install()
    try:
        assert os.system("-c; exit 4") == 4 << 8
    finally:
        pdeathsig.uninstall()
    assert "-c" in capfd.readouterr().err


SPAWNED = {
    "status": ("/bin/sh", ["sh", "-c", "exit 3"]),
    "signal": ("/bin/sh", ["sh", "-c", "kill -9 $$"]),
    "nowhere": ("/nowhere", ["x"]),
    "a number": ("/bin/true", ["x", 3]),
    "a file that is a number": (3, ["x"]),
    "NUL": ("/bin/true", ["x", "\0"]),
}


@pytest.mark.parametrize("case", SPAWNED)
def test_spawnv_returns_what_cpythons_does(case: str) -> None:
    def call(name: str, *environment: dict[str, str]) -> Any:
        return raised_or(getattr(os, name), os.P_WAIT, *SPAWNED[case], *environment)

    for name in ("spawnv", "spawnvp"):
        theirs, ours = both(partial(call, name))
        assert ours == theirs
    for name in ("spawnve", "spawnvpe"):
        theirs, ours = both(partial(call, name, {"A": "b"}))
        assert ours == theirs


def raised_or(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("args", [(os.P_WAIT, "x", "y"), (os.P_WAIT, "x", []), (os.P_WAIT, "x", [""])])
def test_spawnv_refuses_what_cpythons_does(args: Any) -> None:
    theirs, ours = both(lambda: raised(os.spawnv, *args))
    assert ours == theirs != (None,)


def test_posix_spawn_needs_no_free_descriptor(start: Start) -> None:
    tree = start("""
import pdeathsig, resource
pdeathsig.install()
os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
try:
    while True: os.dup(0)
except OSError: pass
def begin():
    pid = os.posix_spawn('/bin/sleep', ['sleep', '1000'], {},
        file_actions=[(os.POSIX_SPAWN_OPEN, 0, '/dev/null', 0, 0)])
    say('child', pid)
begin()
thread = threading.Thread(target=begin); thread.start(); thread.join()
forever()
""")
    children = [tree.process("child"), tree.process("child")]
    for child in children:
        child.wait_for_command("sleep")
    tree.kill()
    assert all(child.dies() for child in children)


@pytest.mark.usefixtures("root", "installed")
def test_no_process_left_is_cpythons_error() -> None:
    """The clone fails with EAGAIN."""
    code = """
import errno, os, pdeathsig, resource
pdeathsig.install()
os.setresuid(12345, 12345, 12345)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
try: os.posix_spawn('/bin/true', ['true'], {})
except OSError as error: print(error.errno == errno.EAGAIN, error.filename)
print(os.system('true'))
"""
    assert run(code).stdout == "True /bin/true\n32512\n"


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("thread", [False, True], ids=["main", "thread"])
def test_a_child_with_another_effective_user_is_bound(start: Start, reset: bool, thread: bool) -> None:
    """Its exec clears the kernel's setting, so a lifeline binds the child, whatever the file
    actions do.

    With resetids the child runs as the real user.
    """
    tree = start(f"""
import pdeathsig
pdeathsig.install()
os.setresuid(65534, 12345, 12345)
dumpable = libc.prctl(3)
def begin():
    actions = [(os.POSIX_SPAWN_DUP2, 1, fd) for fd in range(195, 210)]
    pid = os.posix_spawn('/bin/sh', ['sh', '-p', '-c', 'id -ru; id -u; echo child $$; exec sleep 1000'],
        os.environ, resetids={reset}, file_actions=actions)
thread = threading.Thread(target=begin)
thread.start() if {thread} else begin()
wait()
say('dumpable', libc.prctl(3) == dumpable)
forever()
""")
    assert tree.line() == "65534"
    assert tree.line() == ("65534" if reset else "12345")
    child = tree.process("child")
    tree.send()
    assert tree.event("dumpable") == "True"
    tree.kill()
    assert child.dies()


def test_a_refused_binding_is_an_error_and_leaves_no_child(start: Start) -> None:
    tree = start("""
import pdeathsig, seccomp_deny
pdeathsig.install()
os.system('true')
seccomp_deny.deny('prctl')
for start in (lambda: os.posix_spawn('/bin/true', ['true'], {}), lambda: os.system('true'),
    lambda: os.spawnv(0, '/bin/true', ['true'])):
    try: say('started', start())
    except OSError as error: say(error)
try: os.waitpid(-1, 0)
except ChildProcessError: say('no child')
""")
    for _ in range(3):
        assert tree.line() == "[Errno 1] prctl: Operation not permitted"
    assert tree.line() == "no child"
    tree.top.wait(10)


@pytest.mark.usefixtures("installed")
def test_resource_trackers_are_left_alone() -> None:
    code = "from multiprocessing.resource_tracker import main;main(3)"
    # A private function: replacements of os's functions may pass it what is no command line.
    assert pdeathsig._base.environ.is_resource_tracker([sys.executable, "-c", code])
    assert not pdeathsig._base.environ.is_resource_tracker(3)
    assert not pdeathsig._base.environ.is_resource_tracker([3])
