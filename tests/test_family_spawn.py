"""A member of the family binds every program that it starts, in any way and from any thread."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from conftest import Start, uses
from guarding import guards_end  # noqa: F401
from harness import Process, Tree, run

# Three processes that print their names and stay. One is in a session of its own, one is
# double-forked.
AWAY = (
    "setsid sh -c 'echo session $$; exec sleep 1000' & "
    "(setsid sh -c 'echo double $$; exec sleep 1000' &); echo child $$; wait"
)
SERVER = "setsid sh -c 'echo server $$; exec sleep 1000' & echo shell $$"
# How a program is started; `p` then has its PID.
WAYS = {
    "subprocess": "p = subprocess.Popen(command)",
    "shell": "p = subprocess.Popen(command[2], shell=True)",
    "run": "run = threading.Thread(target=subprocess.run, args=(command,)); run.start(); p = run",
    "posix_spawn by subprocess": "p = subprocess.Popen(['/bin/sh', *command[1:]], close_fds=False)",
    "new session": "p = subprocess.Popen(command, start_new_session=True)",
    "preexec_fn": "p = subprocess.Popen(command, preexec_fn=lambda: None)",
    "preexec_fn that arms": "p = subprocess.Popen(command, preexec_fn=raw_pdeathsig)",
    "asyncio": """
import asyncio
loop = asyncio.new_event_loop()
p = loop.run_until_complete(asyncio.create_subprocess_exec(*command))
""",
    "os.posix_spawn": "p = os.posix_spawn('/bin/sh', command, os.environ)",
    "os.posix_spawnp": "p = os.posix_spawnp('sh', command, os.environ)",
    "os.spawnvp": "p = os.spawnvp(os.P_NOWAIT, 'sh', command)",
    "os.system": "run = threading.Thread(target=os.system, args=(command[2],)); run.start(); p = run",
    "os.system by keyword": "p = threading.Thread(target=lambda: os.system(command=command[2])); p.start()",
    "os.fork, os.execvp": "p = os.fork()\nif p == 0: os.execvp('sh', command)",
    "pty.fork": (
        "import pty\np, terminal = pty.fork()\nif p == 0: os.dup2(1, 2), os.dup2(channel, 1), os.execvp('sh', command)"
    ),
}
EVERY_WAY = [pytest.param(way, marks=uses(way)) if way.startswith("os.posix_spawn") else way for way in WAYS]


def spawning(way: str, command: str, thread: bool, then: str = "") -> str:
    """The code of a process that starts that shell command.

    :param thread: start it on a thread, which ends on request.
    :param then: the code that follows.
    """
    body = "\n".join(f"    {line}" for line in f"{WAYS[way]}\nkeep.append(locals())".strip().splitlines())
    return f"""
import warnings
warnings.simplefilter('ignore')
command = ['sh', '-c', {command!r}]
keep = []
channel = os.dup(1)
def spawn():
{body}
def begin():
    spawn()
    python("raw_pdeathsig(); here('raw'); forever()", env={{**os.environ, 'PDEATHSIG': '0'}})
    wait()
if {thread}:
    thread = threading.Thread(target=begin); thread.start(); thread.join()
else:
    spawn()
{then}
forever()
"""


def processes(tree: Tree, *names: str) -> dict[str, Process]:
    found = {}
    for _ in names:
        name, pid = tree.line().split()
        found[name] = tree.adopt(pid)
    assert set(found) == set(names)
    return found


@pytest.mark.parametrize("way", EVERY_WAY)
def test_all_that_a_foreign_program_starts_dies_with_the_member(start: Start, way: str) -> None:
    tree = start(spawning(way, AWAY, thread=False), PDEATHSIG="KILL")
    found = processes(tree, "session", "double", "child")
    tree.kill()
    for process in found.values():
        assert process.dies()
    assert tree.all_gone()


@pytest.mark.parametrize("way", EVERY_WAY)
def test_a_program_started_on_a_thread_outlives_the_thread_and_not_the_process(start: Start, way: str) -> None:
    if way == "asyncio" and sys.version_info < (3, 12):
        pytest.skip("asyncio's own child watcher")
    tree = start(spawning(way, AWAY, thread=True), PDEATHSIG="KILL")
    found = processes(tree, "session", "double", "child", "raw")
    tree.send("end the thread")
    assert found.pop("raw").dies()
    for process in found.values():
        assert process.alive()
    tree.kill()
    for process in found.values():
        assert process.dies()
    assert tree.all_gone()


@pytest.mark.parametrize("way", ["subprocess", "shell", "preexec_fn", "posix_spawn by subprocess"])
def test_a_shell_s_background_server_lives_as_long_as_the_member(start: Start, way: str) -> None:
    then = "import select; pid = keep[0]['p'].pid\nselect.select([pidfd_open(pid)], [], []); say('ended', pid)"
    tree = start(spawning(way, SERVER, thread=False, then=then), PDEATHSIG="KILL")
    seen = dict(tree.line().split() for _ in range(3))
    server = tree.adopt(seen["server"])
    assert server.alive()
    tree.kill()
    assert server.dies()
    assert tree.all_gone()


def test_foreign_programs_get_the_signal_and_the_grace(start: Start) -> None:
    foreign = (
        "from actors import *\nsignal.signal(signal.SIGTERM, lambda *_: (say('term'), os._exit(0)))\n"
        "here('child'); forever()"
    )
    deaf = "from actors import *\nsignal.signal(signal.SIGTERM, lambda *_: say('deaf'))\nhere('child'); forever()"
    for code, value, said in ((foreign, "TERM:60", "term"), (foreign, "TERM", "term"), (deaf, "TERM:0.1", "deaf")):
        tree = start(
            f"subprocess.Popen([sys.executable, '-S', '-c', {code!r}]); forever()",
            PDEATHSIG=value,
            PDEATHSIG_QUIET="1",
        )
        child = tree.process("child")
        tree.kill()
        tree.event(said)
        assert child.dies()
        assert tree.all_gone()


PARENT = "from actors import *; say('child', os.getpid(), os.getppid()); forever()"


def test_a_python_in_the_family_is_a_direct_child_and_binds_its_own(start: Start) -> None:
    tree = start(f"p = python({PARENT!r}); say('popen', p.pid); forever()", PDEATHSIG="TERM")
    seen = dict(tree.line().split(" ", 1) for _ in range(2))
    pid, parent = seen["child"].split()
    child = tree.adopt(pid)
    assert (pid, parent) == (seen["popen"], str(tree.top.pid))
    tree.kill()
    assert child.dies()


@pytest.mark.parametrize(
    "how",
    [
        "[sys.executable, '-I', '-c', code]",
        "[sys.executable, '-uS', '-c', code]",
        "[sys.executable, '-W', 'ignore', '-Es', '-c', code]",
        "['python-of-another-name', '-c', code], executable=sys.executable",
        "[sys.executable, '-c', code], env={}",
        "[os.path.realpath(sys.executable), '-c', code], env={**os.environ, 'PYTHONHOME': sys.base_prefix}",
        "['sh', '-c', 'exec \"$0\" \"$@\"', sys.executable, '-c', code]",
    ],
)
def test_a_python_that_may_not_arm_itself_has_a_guard(start: Start, how: str) -> None:
    code = "import os, signal; os.write(1, b'child %d %d\\n' % (os.getpid(), os.getppid())); signal.pause()"
    tree = start(f"code = {code!r}\nsubprocess.Popen({how}); forever()", PDEATHSIG="KILL")
    pid, parent = tree.event("child").split()
    child = tree.adopt(pid)
    assert Path(f"/proc/{parent}/comm").read_text() == "pdeathsig-run\n"
    tree.kill()
    assert child.dies()
    assert tree.all_gone()


@pytest.mark.parametrize(
    "how",
    [
        "[sys.executable, '-u', '-c', code]",
        "[sys.executable, '-X', 'utf8', '-Wignore', '-c', code]",
        "['python3', '-c', code], env={**os.environ, 'PATH': os.path.dirname(sys.executable)}",
    ],
)
def test_options_do_not_keep_a_python_from_arming_itself(start: Start, how: str) -> None:
    tree = start(f"code = {PARENT!r}\nsubprocess.Popen({how}); forever()", PDEATHSIG="KILL")
    pid, parent = tree.event("child").split()
    child = tree.adopt(pid)
    assert parent == str(tree.top.pid)
    tree.kill()
    assert child.dies()


@pytest.mark.parametrize(
    "how",
    [
        "subprocess.Popen(command, env={**os.environ, 'PDEATHSIG': '0'})",
        "subprocess.Popen(command, env={**os.environ, 'PDEATHSIG': ''})",
        "pdeathsig.Popen(command, pdeathsig=None)",
        "os.environ.update(PDEATHSIG='0'); subprocess.Popen(command)",
    ],
)
def test_a_program_started_without_binding_lives_on(start: Start, how: str) -> None:
    tree = start(f"import pdeathsig; command = ['sh', '-c', {AWAY!r}]; {how}; forever()", PDEATHSIG="KILL")
    found = processes(tree, "session", "double", "child")
    tree.kill()
    for process in found.values():
        assert process.alive()


@pytest.mark.parametrize(
    ("scope", "living"),
    [("child", {"session", "double"}), ("group", {"session", "double"}), ("tree", set()), ("", set())],
)
@pytest.mark.parametrize("value", ["KILL", "TERM", "TERM:9"])
def test_scope(start: Start, scope: str, living: set[str], value: str) -> None:
    tree = start(
        spawning("subprocess", AWAY, thread=False), PDEATHSIG=value, PDEATHSIG_SCOPE=scope, PDEATHSIG_QUIET="1"
    )
    found = processes(tree, "session", "double", "child")
    tree.kill()
    for name in found.keys() - living:
        assert found[name].dies()
    for name in living:
        assert found[name].alive()


@pytest.mark.parametrize("scope", ["all", "Tree", "tree ", "0"])
def test_a_bad_scope_stops_the_program_with_one_line(scope: str) -> None:
    ended = run("print('still running')", PDEATHSIG="TERM", PDEATHSIG_SCOPE=scope)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert f"PDEATHSIG_SCOPE={scope!r}" in ended.stderr


def test_start_up_imports_nothing_that_spawns(start: Start) -> None:
    tree = start("wait()")  # which has subprocess imported, hence a new Python
    tree.send()
    ended = run(
        "import sys; print(*sorted({'subprocess', 'signal', 'socket', 'threading', 'multiprocessing', 'ctypes',"
        " 'pdeathsig._spawn.install', 'pdeathsig._family.programs', 'pdeathsig._spawn.fork_exec', "
        "'pdeathsig._spawn.guard'} & set(sys.modules)))",
        PDEATHSIG="TERM",
    )
    assert ended.stdout == "\n"


def test_a_program_that_imported_subprocess_before_joining_is_patched(start: Start) -> None:
    tree = start(
        f"os.environ['PDEATHSIG'] = 'KILL'; import pdeathsig.auto; subprocess.Popen(['sh', '-c', {AWAY!r}]); forever()"
    )
    found = processes(tree, "session", "double", "child")
    tree.kill()
    for process in found.values():
        assert process.dies()


def test_the_subprocess_module_looks_unchanged() -> None:
    code = "import subprocess, sys; print(subprocess.__spec__, subprocess.__loader__, sep='\\n')"
    plain, member = (run(code, PDEATHSIG=value).stdout.replace("0x", "").splitlines() for value in ("0", "KILL"))
    assert [line.split(" at ")[0].split("object")[0] for line in member] == [
        line.split(" at ")[0].split("object")[0] for line in plain
    ]


def test_errors_are_subprocess_s_own(start: Start) -> None:
    code = """
import gc, os, resource, subprocess, sys
def fails(*args, **options):
    try: subprocess.Popen(*args, **options)
    except OSError as error: print(type(error).__name__, error.errno, error.filename)
def descriptors():  # but for the library that libffi keeps open: PyPy has it by ctypes, when first it is needed
    return [one for one in os.listdir('/proc/self/fd') if 'libffi' not in os.path.realpath('/proc/self/fd/' + one)]
before = descriptors()
fails(['no-such-program'])
fails(['/etc/passwd'])
fails(['sleep', '1'], cwd='/no/such/directory')
fails(['sleep', 'x' * 3000000])
import socket
now = len(os.listdir('/proc/self/fd'))
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
for limit in range(3, now + 6):
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    fails(['sleep', '0'])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
gc.collect()  # PyPy finalizes a Popen without a wait at any time
print(descriptors() == before)
try: os.waitpid(-1, 0)
except ChildProcessError: print('no child')
"""
    plain, member = (run(code, PDEATHSIG=value, PYTHONWARNINGS="ignore") for value in ("0", "KILL"))
    assert member.stderr == plain.stderr == ""
    expected = [line for line in plain.stdout.splitlines() if not line.startswith("OSError 24")]
    got = [line for line in member.stdout.splitlines() if not line.startswith("OSError 24")]
    assert [line for line in got if line != "no child"] == [line for line in expected if line != "no child"]
    assert "OSError 24 None" in member.stdout


def test_an_exec_of_a_member_ends_nothing(start: Start) -> None:
    tree = start(
        spawning("subprocess", AWAY, thread=False, then="wait(); os.execlp('sleep', 'sleep', '1000')"), PDEATHSIG="KILL"
    )
    found = processes(tree, "session", "double", "child")
    tree.send()
    tree.adopt(str(tree.top.pid)).wait_for_command("sleep")
    for process in found.values():
        assert process.alive()
    tree.kill()
    for process in found.values():
        assert process.dies()


def test_closing_unknown_descriptors_ends_nothing(start: Start) -> None:
    then = "os.closerange(3, 1000); say('closed')"
    tree = start(spawning("subprocess", AWAY, thread=False, then=f"wait(); {then}"), PDEATHSIG="KILL")
    found = processes(tree, "session", "double", "child")
    tree.send()
    tree.event("closed")
    for process in found.values():
        assert process.alive()
    tree.kill()
    for process in found.values():
        assert process.dies()


def test_what_a_forked_member_starts_is_its_own(start: Start) -> None:
    tree = start(
        f"""
pid = os.fork()
if pid == 0:
    subprocess.Popen(['sh', '-c', {AWAY!r}])
    forever()
wait()
os.kill(pid, signal.SIGKILL)
say('killed')
forever()
""",
        PDEATHSIG="KILL",
    )
    found = processes(tree, "session", "double", "child")
    tree.send()
    tree.event("killed")
    for process in found.values():
        assert process.dies()
    tree.kill()


def test_guards_below_guards(start: Start) -> None:
    """The head starts a shell, that a member, and that another shell.

    With the head all end, with the member only what is below it.
    """
    middle = f"from actors import *\nhere('middle'); subprocess.run(['sh', '-c', {AWAY!r}])"
    code = (
        f"subprocess.Popen(['sh', '-c', '\"$0\" -c \"$1\"; echo shell $$; "
        f"read _', sys.executable, {middle!r}]); forever()"
    )
    tree = start(code, PDEATHSIG="KILL")
    found = processes(tree, "middle", "session", "double", "child")
    found["middle"].kill()
    shell = tree.process("shell")
    for process in found.values():
        assert process.dies()
    assert shell.alive()
    tree.kill()
    assert shell.dies()
    tree = start(code, PDEATHSIG="KILL")
    found = processes(tree, "middle", "session", "double", "child")
    tree.kill()
    for process in found.values():
        assert process.dies()
    assert tree.all_gone()


def test_stopped_programs_die_too(start: Start) -> None:
    tree = start(spawning("subprocess", AWAY, thread=False), PDEATHSIG="KILL")
    found = processes(tree, "session", "double", "child")
    for process in found.values():
        process.kill(signal.SIGSTOP)
        process.wait_for_state("T")
    tree.kill()
    for process in found.values():
        assert process.dies()


def test_a_signal_to_the_child_reaches_the_program(start: Start) -> None:
    tree = start(
        """
p = subprocess.Popen(['sh', '-c', "trap 'echo usr1; exit 7' USR1; echo child $$; while :; do sleep 0.01; done"])
wait()
p.send_signal(signal.SIGUSR1)
say('returncode', p.wait())
wait()
""",
        PDEATHSIG="KILL",
    )
    child = tree.process("child")
    tree.send()
    tree.event("usr1")
    tree.event("returncode")
    assert child.dies()
    tree.send()


@pytest.mark.timeout(60)
def test_a_member_killed_while_threads_start_programs_leaves_none(start: Start) -> None:
    """Each time at a different moment. The end of the inherited pipe shows that none is left."""
    for _ in range(3):
        tree = start(
            f"""
def spawn():
    while True:
        p = subprocess.Popen(['sh', '-c', {AWAY!r}], stderr=subprocess.DEVNULL)
        subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])
for _ in range(2): threading.Thread(target=spawn, daemon=True).start()
forever()
""",
            PDEATHSIG="KILL",
            PDEATHSIG_QUIET="1",
        )
        for _ in range(4):
            tree.line()
        tree.kill()
        assert tree.all_gone()
