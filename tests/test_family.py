"""PDEATHSIG in the environment: every Python with it arms itself, and binds what it starts."""

from __future__ import annotations

import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import Start, needs
from guarding import children, guards_end  # noqa: F401
from harness import Tree, environment, run

STATUS = "import pdeathsig; say('status', pdeathsig.status().signal, pdeathsig.status().grace); "
CHILD = (
    "import pdeathsig; say('child', os.getpid(), bool(pdeathsig.status()), pdeathsig.status().parent, "
    "pdeathsig.status().watching); forever()"
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("KILL", "9 None"),
        ("SIGTERM", "15 None"),
        ("term", "15 None"),
        ("15", "15 None"),
        ("TERM:5", "15 5.0"),
        ("INT:0.25", "2 0.25"),
        ("SIGRTMIN", f"{int(signal.SIGRTMIN)} None"),
        ("0", "None None"),
        ("", "None None"),
    ],
)
def test_value_arms_with_no_code(start: Start, value: str, expected: str) -> None:
    tree = start(STATUS, PDEATHSIG=value)
    assert tree.event("status") == expected
    tree.top.wait(10)
    assert tree.stderr() == ""


@pytest.mark.parametrize(
    "value",
    [
        "FOO",
        "SIG",
        "SIG_IGN",
        "99",
        "-1",
        "TERM:",
        "TERM:x",
        "TERM:0",
        "TERM:-1",
        "TERM:nan",
        "TERM:inf",
        "KILL:5",
        "CHLD",
        "STOP:5",
        ":5",
        " TERM",
        "9.5",
        "TÉRM",
        "32",
    ],
)
@pytest.mark.parametrize("way", ["pth", "auto"])
def test_bad_value_stops_the_program_with_one_line(value: str, way: str) -> None:
    options = ["-S"] if way == "auto" else []
    site = f"import sys; sys.path += {sys.path!r}; import pdeathsig.auto; " if way == "auto" else ""
    ended = run(f"{site}print('still running')", *options, PDEATHSIG=value)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("pdeathsig: PDEATHSIG=")
    assert ended.stderr.count("\n") == 1
    assert value.encode("ascii", "backslashreplace").decode() in ended.stderr or value in ended.stderr


@pytest.mark.parametrize("token", ["nonsense", "1", "1:2:3:4:5", "0:1:2", "-1:2", "1:x", "1:2:3,", "99999999999:1"])
def test_bad_token_stops_the_program_with_one_line(token: str) -> None:
    ended = run("print('still running')", PDEATHSIG="TERM", PDEATHSIG_PARENT=token)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert "PDEATHSIG_PARENT" in ended.stderr


def test_grandchildren_belong_to_the_family(start: Start) -> None:
    tree = start(
        f"python({f'python({CHILD!r}); here({chr(34)}middle{chr(34)}); forever()'!r}); forever()", PDEATHSIG="TERM"
    )
    seen = dict(tree.line().split(" ", 1) for _ in range(2))
    middle = tree.adopt(seen["middle"])
    pid, armed, parent, _ = seen["child"].split()
    child = tree.adopt(pid)
    assert (armed, parent) == ("True", str(middle.pid))
    tree.kill()
    assert middle.dies()
    assert child.dies()
    assert tree.all_gone()


def test_a_child_with_a_parent_dead_before_arming_does_not_start(start: Start) -> None:
    """The grandchild's Python starts after its parent, a member, is gone. Its code must not run."""
    tree = start(
        """
import pdeathsig
if os.fork() == 0:
    double_fork("say('began')", outlive_me=True)
    os._exit(0)
os.wait()
say('waited')
forever()
""",
        PDEATHSIG="TERM",
        PDEATHSIG_QUIET="1",
    )
    tree.event("waited")
    tree.kill()
    assert tree.line() == ""


def test_a_child_behind_a_shell_belongs_to_the_family(start: Start) -> None:
    tree = start(
        f"behind_a_shell({CHILD!r}); forever()",
        PDEATHSIG="TERM",
    )
    pid, armed, parent, watching = tree.event("child").split()
    child = tree.adopt(pid)
    assert (armed, parent) == ("True", "None")
    assert_reaper_below(tree, watching)
    tree.kill()
    assert child.dies()
    assert tree.all_gone()


def test_a_child_behind_a_shell_gets_one_signal(start: Start) -> None:
    """The guard sends it, and the child's own arming does not send it again."""
    code = """
said = []
signal.signal(signal.SIGTERM, lambda *_: (said.append('term'), say('term')))
signal.signal(signal.SIGUSR1, lambda *_: (say('said', *said), os._exit(0)))
here('child')
forever()
"""
    tree = start(f"behind_a_shell({code!r}); forever()", PDEATHSIG="TERM:60")
    child = tree.process("child")
    tree.kill()
    tree.event("term")
    child.kill(signal.SIGUSR1)
    assert tree.event("said") == "term"
    assert child.dies()
    assert tree.all_gone()


def test_a_shell_s_background_job_lives_as_long_as_the_member(start: Start) -> None:
    tree = start(
        f"""
import pdeathsig
subprocess.run(['sh', '-c', '"$0" -c "$1" & read _ <&0', sys.executable, "from actors import *\\n" + {CHILD!r}])
say('shell', 'ended')
forever()
""",
        PDEATHSIG="TERM",
    )
    child = tree.adopt(tree.event("child").split()[0])
    tree.send()
    tree.event("shell")
    assert child.alive()
    tree.kill()
    assert child.dies()


def test_a_child_behind_a_shell_that_has_no_guard_dies_with_the_shell(start: Start) -> None:
    tree = start(f"behind_a_shell({CHILD!r}); forever()", PDEATHSIG="TERM", PDEATHSIG_SCOPE="child")
    pid, _, shell, _ = tree.event("child").split()
    child = tree.adopt(pid)
    tree.adopt(shell).kill()
    assert child.dies()


def assert_reaper_below(tree: Tree, pid: str) -> None:
    """Assert that it is the reaper of a guard, and that the guard is a child of the top process."""
    (monitor,) = [monitor for monitor in children(tree.top.pid) if int(pid) in children(monitor)]
    assert Path(f"/proc/{monitor}/comm").read_text() == Path(f"/proc/{pid}/comm").read_text() == "pdeathsig-run\n"


@pytest.mark.parametrize("scope", ["child", "tree"])
def test_a_double_fork_is_bound_to_the_head_or_its_guard(start: Start, scope: str) -> None:
    tree = start(f"double_fork({CHILD!r}); forever()", PDEATHSIG="TERM", PDEATHSIG_SCOPE=scope)
    pid, armed, parent, watching = tree.event("child").split()
    child = tree.adopt(pid)
    if scope == "child":
        assert (armed, parent, watching) == ("True", "None", str(tree.top.pid))
    else:
        assert (armed, watching) == ("True", "None")
        assert Path(f"/proc/{parent}/comm").read_text() == "pdeathsig-run\n"
    tree.kill()
    assert child.dies()
    assert tree.all_gone()


def test_a_member_that_execs_stays_bound(start: Start) -> None:
    again = (
        "import pdeathsig; say('child', os.getpid(), pdeathsig.status().parent, pdeathsig.status().watching); forever()"
    )
    code = f"os.execv(sys.executable, [sys.executable, '-c', 'from actors import *\\n' + {again!r}])"
    tree = start(
        f"behind_a_shell({code!r}); forever()",
        PDEATHSIG="TERM",
    )
    pid, parent, watching = tree.event("child").split()
    child = tree.adopt(pid)
    assert parent == "None"
    assert_reaper_below(tree, watching)
    tree.kill()
    assert child.dies()
    assert tree.all_gone()


def test_a_recycled_pid_is_not_the_parent() -> None:
    """The process with the token's PID is alive and even the parent, but has another start time."""
    ended = run("print('still running')", PDEATHSIG="TERM", PDEATHSIG_PARENT=f"{os.getpid()}:1")
    assert ended.returncode == -signal.SIGTERM
    assert ended.stdout == ""
    assert f"parent {os.getpid()} is gone" in ended.stderr


def test_a_child_can_be_left_out_of_the_family(start: Start) -> None:
    tree = start(
        "python(\"import pdeathsig; say('armed', pdeathsig.status().armed)\", env={**os.environ, "
        "'PDEATHSIG': '0'}).wait()",
        PDEATHSIG="TERM",
    )
    assert tree.event("armed") == "False"
    tree.top.wait(10)


def test_a_program_may_arm_differently(start: Start) -> None:
    tree = start(
        "import pdeathsig; pdeathsig.arm(signal.SIGINT, grace=3); s = pdeathsig.status(); "
        "say('status', s.signal, s.grace, s.parent)",
        PDEATHSIG="TERM",
    )
    assert tree.event("status") == f"2 3.0 {os.getpid()}"
    tree.top.wait(10)


@pytest.mark.parametrize(
    "module",
    [
        "multiprocessing.resource_tracker",
        "loky.backend.resource_tracker",
        "joblib.externals.loky.backend.resource_tracker",
    ],
)
def test_resource_trackers_are_left_alone(module: str, tmp_path: object) -> None:
    """They outlive their parent to clean up. The test's program has the same command line."""
    package = tmp_path
    for part in module.split(".")[:-1]:
        package = f"{package}/{part}"
        os.makedirs(package, exist_ok=True)
        open(f"{package}/__init__.py", "w").close()
    with open(f"{package}/resource_tracker.py", "w") as file:
        file.write("import pdeathsig\ndef main(*args): print(pdeathsig.status().armed)\n")
    seen = run(f"from {module} import main; main(3, False)", "-Walways", PDEATHSIG="TERM", PYTHONPATH=str(tmp_path))
    assert seen.stdout == "False\n"


def test_shared_memory_of_a_killed_parent_is_unlinked_by_the_real_tracker(start: Start) -> None:
    tree = start(
        """
from multiprocessing import resource_tracker, shared_memory
block = shared_memory.SharedMemory(create=True, size=1)
say('block', block.name)
say('tracker', resource_tracker._resource_tracker._pid)
forever()
""",
        PDEATHSIG="TERM",
    )
    name = tree.event("block")
    tracker = tree.adopt(tree.event("tracker"))
    assert os.path.exists(f"/dev/shm/{name}")
    tree.kill()
    assert tracker.dies()
    assert not os.path.exists(f"/dev/shm/{name}")


def test_works_beside_a_sitecustomize(start: Start, tmp_path: object) -> None:
    with open(f"{tmp_path}/sitecustomize.py", "w") as file:
        file.write("import pdeathsig.auto\n")
    path = f"{tmp_path}:{environment()['PYTHONPATH']}"
    tree = start(STATUS, PDEATHSIG="TERM:5", PYTHONPATH=path)
    assert tree.event("status") == "15 5.0"
    tree.top.wait(10)
    tree = start(STATUS, PYTHONPATH=path)
    assert tree.event("status") == "9 None"
    tree.top.wait(10)
    assert tree.stderr() == ""


def test_the_fork_server_and_its_children_belong(start: Start) -> None:
    tree = start(
        """
import multiprocessing, actors
context = multiprocessing.get_context('forkserver')
context.Process(target=actors.child_of_a_pool).start()
forever()
""",
        PDEATHSIG="TERM",
    )
    child = tree.process("child")
    tree.kill()
    assert child.dies()
    assert tree.all_gone()


def test_arming_refused_stops_the_program(start: Start) -> None:
    tree = start(
        "import seccomp_deny; seccomp_deny.deny('prctl'); os.environ['PDEATHSIG'] = 'TERM'; "
        "p = python('say(1)'); say('code', p.wait())"
    )
    assert tree.event("code") == "2"
    tree.top.wait(10)
    assert tree.stderr().endswith("pdeathsig: PDEATHSIG='TERM': [Errno 1] prctl: Operation not permitted\n")


def test_subinterpreters_find_the_process_armed(start: Start) -> None:
    """``site`` runs in each of them, but the process is armed once, and nothing is printed."""
    needs(any(map(find_spec, ("_interpreters", "_xxsubinterpreters"))), "no subinterpreters in this Python")
    tree = start(
        """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
import pdeathsig
before = str(pdeathsig.status())
inner = interpreters.create()
result = interpreters.run_string(inner, "import sys; assert 'pdeathsig' in sys.modules")
interpreters.destroy(inner)
say(result, str(pdeathsig.status()) == before)
""",
        "-Wignore",
        PDEATHSIG="TERM:5",
    )
    assert tree.line() == "None True"
    tree.top.wait(10)
    assert tree.stderr() == ""


EXEC = {
    "os.fork and os.execvp": "pid = os.fork()\n    if pid == 0: os.execvp('sleep', ['sleep', '1000'])",
    "os.spawnvp": "pid = os.spawnvp(os.P_NOWAIT, 'sleep', ['sleep', '1000'])",
    "pty.fork": "import pty\n    pid, fd = pty.fork()\n    if pid == 0: os.execlp('sleep', 'sleep', '1000')",
}


@pytest.mark.parametrize("how", EXEC)
def test_a_program_that_a_thread_has_forked_and_execed_outlives_the_thread(start: Start, how: str) -> None:
    """The kernel's setting of the forked child survives the exec, but the handler does not."""
    tree = start(
        f"""
def begin():
    {EXEC[how]}
    python("raw_pdeathsig(); here('raw'); forever()", env={{**os.environ, "PDEATHSIG": "0"}})
    say('child', pid)
    wait()
thread = threading.Thread(target=begin); thread.start(); thread.join(); forever()
""",
        PDEATHSIG="KILL",
        PDEATHSIG_SCOPE="child",
    )
    seen = dict(tree.line().split() for _ in range(2))
    child, raw = tree.adopt(seen["child"]), tree.adopt(seen["raw"])
    child.wait_for_command("sleep")
    tree.send("end the thread")
    assert raw.dies()
    assert child.alive()
    child.kill()
    assert child.dies()


@pytest.mark.parametrize("how", EXEC)
def test_a_program_that_the_main_thread_has_forked_and_execed_dies_with_the_process(start: Start, how: str) -> None:
    tree = start(f"if True:\n    {EXEC[how]}\nsay('child', pid); forever()", PDEATHSIG="KILL", PDEATHSIG_SCOPE="child")
    child = tree.process("child")
    child.wait_for_command("sleep")
    tree.kill()
    assert child.dies()


def test_an_exec_that_fails_leaves_the_child_armed(start: Start) -> None:
    tree = start(
        """
import pdeathsig
def begin():
    if os.fork() == 0:
        try: os.execvp('no-such-program', ['x'])
        except FileNotFoundError: pass
        say('child', os.getpid(), bool(pdeathsig.status()), pdeathsig.status().inherit)
        forever()
thread = threading.Thread(target=begin); thread.start(); thread.join(); forever()
""",
        PDEATHSIG="KILL",
    )
    pid, *armed = tree.event("child").split()
    child = tree.adopt(pid)
    assert armed == ["True", "True"]
    tree.kill()
    assert child.dies()


@pytest.mark.parametrize("child", ["import pdeathsig; pdeathsig.arm()", "import pdeathsig.auto"])
@pytest.mark.parametrize("out", ["env.update(PDEATHSIG='0')", "env.update(PDEATHSIG='')"])
def test_a_process_that_left_the_family_ignores_its_head(start: Start, child: str, out: str) -> None:
    """A daemon that left the family outlives the head, and so do the children that it arms."""
    armed_child = child + "; here('armed'); forever()"
    daemon = f"""
here('daemon')
while os.getppid() == int(sys.argv[1]): os.sched_yield()
python({armed_child!r})
forever()
"""
    tree = start(
        f"""
env = dict(os.environ); {out}
subprocess.Popen([sys.executable, '-c', 'from actors import *\\n' + {daemon!r}, str(os.getpid())], env=env)
forever()
""",
        PDEATHSIG="TERM",
    )
    daemon_process = tree.process("daemon")
    tree.kill()
    child_process = tree.process("armed")
    for process in (child_process, daemon_process):
        assert process.alive()
        process.kill()
        assert process.dies()


def test_a_head_without_its_main_thread_is_alive(start: Start) -> None:
    """Its main thread is a zombie, while other threads go on."""
    tree = start(
        """
def others():
    while open(f'/proc/{os.getpid()}/stat').read().rpartition(')')[2].split()[0] != 'Z': os.sched_yield()
    say('child', python("say('lives')").wait())
    os._exit(0)
threading.Thread(target=others).start()
ctypes.CDLL(None).syscall({'x86_64': 60}.get(os.uname().machine, 93), 0)
""",
        PDEATHSIG="KILL",
    )
    assert tree.line() == "lives"
    assert tree.event("child") == "0"


def test_a_time_namespace_is_no_other_start(start: Start, root: None) -> None:
    command = (
        "['unshare', '--time', '--boottime', '100000', '--fork', sys.executable, '-c', 'from actors import *; say(1)']"
    )
    tree = start(f"subprocess.run({command})", PDEATHSIG="KILL")
    assert tree.line() == "1"
    tree.top.wait(10)


def test_parent_of_another_user(start: Start, root: None) -> None:
    """The parent drops its privileges, and may not signal the child that arms itself afterwards."""
    tree = start(
        """
gate, holder = os.pipe()
code = "from actors import *\\nimport pdeathsig; say('child', os.getpid(), pdeathsig.status().watching); forever()"
subprocess.Popen(['sh', '-c', f'read _ <&{gate}; exec "$0" -c "$1"', sys.executable, code], pass_fds=[gate])
os.setresuid(65534, 65534, 65534)
os.write(holder, b"go\\n")
forever()
""",
        PDEATHSIG="KILL",
        PDEATHSIG_SCOPE="child",
    )
    pid, watching = tree.event("child").split()
    child = tree.adopt(pid)
    assert watching == str(tree.top.pid)
    tree.kill()
    assert child.dies()


@pytest.mark.parametrize("broken", ["PDEATHSIG_BACKEND", "import"])
def test_a_broken_installation_stops_the_program(broken: str, tmp_path: object) -> None:
    if broken == "import":
        os.mkdir(f"{tmp_path}/pdeathsig")
        with open(f"{tmp_path}/pdeathsig/__init__.py", "w") as file:
            file.write("raise ImportError('broken')")
        ended = run("print('still running')", PDEATHSIG="TERM", PYTHONPATH=str(tmp_path))
    else:
        ended = run("print('still running')", PDEATHSIG="TERM", PDEATHSIG_BACKEND="magic")
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)


def test_a_fork_child_that_cannot_arm_does_not_run(start: Start) -> None:
    tree = start(
        """
import seccomp_deny
seccomp_deny.deny('prctl')
if os.fork() == 0: say('unprotected')
else: say('status', os.WEXITSTATUS(os.wait()[1]))
""",
        PDEATHSIG="TERM",
    )
    assert tree.event("status") == "2"
    tree.top.wait(10)
    assert "prctl: Operation not permitted" in tree.stderr()


def test_torch_does_not_replace_the_arming(start: Start, tmp_path: Path) -> None:
    """torch's workers bind themselves to the starting thread, by SIGINT, which may be ignored."""
    package = tmp_path / "torch" / "multiprocessing"
    package.mkdir(parents=True)
    (tmp_path / "torch" / "__init__.py").touch()
    package.joinpath("__init__.py").write_text(
        "import ctypes\n_prctl_pr_set_pdeathsig = lambda sig: ctypes.CDLL(None).prctl(1, sig)\n"
    )
    package.joinpath("spawn.py").write_text(
        "from . import _prctl_pr_set_pdeathsig\ndef _wrap(fn):\n    _prctl_pr_set_pdeathsig(2)\n    fn()\n"
    )
    code = """
import multiprocessing
from torch.multiprocessing.spawn import _wrap
def work():
    here('worker')
    try: forever()
    except KeyboardInterrupt: say('interrupted')
worker = multiprocessing.get_context('fork').Process(target=_wrap, args=(work,))
thread = threading.Thread(target=worker.start)
thread.start()
thread.join()
wait()
"""
    tree = start(code, PDEATHSIG="KILL", PYTHONPATH=f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    worker = tree.process("worker")
    assert not worker.dies(within=0.2)
    tree.kill()
    assert worker.dies()
    assert tree.line() == ""  # nor did the worker report "interrupted"
