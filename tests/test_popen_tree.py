"""scope="tree" and grace=: the guard behind Popen, run, asyncio, and guarded() for the others."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Start, descendants, uses
from harness import TESTS, Process, Tree, environment, run

import pdeathsig

# One child left the group and the session, and one lost its parent. Both hold the pipe.
ESCAPE = "setsid sh -c 'echo up; exec sleep 1000' & (setsid sh -c 'echo up; exec sleep 1000' &) ; "


@pytest.fixture(params=[{}, {"preexec_fn": lambda: None}], ids=["", "preexec_fn"])
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    options: dict[str, Any] = request.param
    return options


def up(p: subprocess.Popen[bytes], times: int) -> None:
    assert p.stdout is not None
    for _ in range(times):
        assert p.stdout.readline() == b"up\n"


def test_kill_ends_all_and_communicate_returns(way: dict[str, Any]) -> None:
    """After `bash -c "watch ..."`, subprocess's kill() leaves watch behind, and communicate()
    hangs.

    Here it is tail(1), because newer versions of watch(1) read from a terminal.
    """
    p = pdeathsig.Popen(
        ["bash", "-c", ESCAPE + "tail -f /dev/null; :"],
        stdout=subprocess.PIPE,
        scope="tree",
        **way,
    )
    up(p, 2)
    p.kill()
    p.communicate()
    assert p.returncode == -signal.SIGKILL
    assert not descendants(os.getpid())


def test_communicate_returns_when_the_command_is_done(way: dict[str, Any]) -> None:
    done = pdeathsig.run(ESCAPE + "echo done; exit 7", shell=True, stdout=subprocess.PIPE, scope="tree", **way)
    assert done.returncode == 7
    assert b"done\n" in done.stdout


def test_a_timeout_ends_all() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        pdeathsig.run(ESCAPE + "sleep 1000", shell=True, stdout=subprocess.PIPE, scope="tree", timeout=0.2)
    assert not descendants(os.getpid())


@pytest.mark.parametrize("sig", ["KILL", "TERM", "SEGV"])
def test_nothing_outlives_the_parent(start: Start, sig: str) -> None:
    tree = start(f"""
import pdeathsig
pdeathsig.Popen({ESCAPE + "echo up; exec sleep 1000"!r}, shell=True, scope='tree')
forever()
""")
    for _ in range(3):
        tree.event("up")
    tree.kill(getattr(signal, f"SIG{sig}"))
    assert tree.all_gone()


def test_it_follows_the_process_not_the_thread(start: Start) -> None:
    tree = start("""
import pdeathsig
children = []
for options in {}, {'preexec_fn': lambda: None}:
    start = lambda: children.append(pdeathsig.Popen(['sleep', '1000'], scope='tree', **options))
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    say('child', children[-1].pid)
forever()
""")
    children = [tree.process("child"), tree.process("child")]
    done = pdeathsig.run(["true"], scope="tree", check=True)  # takes as long as the signal would have taken
    assert done.returncode == 0
    assert all(child.alive() for child in children)
    tree.kill()
    assert all(child.dies() for child in children)
    assert tree.all_gone()


@pytest.mark.parametrize("scope", ["child", "group", "tree"])
def test_grace_for_a_foreign_program(start: Start, scope: str) -> None:
    """The program gets SIGTERM, time to end in order, then SIGKILL."""
    tree = start(f"""
import pdeathsig
pdeathsig.Popen(['sh', '-c', 'trap "echo last word; exit" TERM; echo up; while :; do sleep 0.01; done'],
    grace=10, scope={scope!r})
pdeathsig.Popen(['sh', '-c', 'trap "" TERM; echo up; exec sleep 1000'], grace=0.1, scope={scope!r})
forever()
""")
    tree.event("up")
    tree.event("up")
    tree.kill()
    assert tree.line() == "last word"
    assert tree.all_gone()


def test_another_signal_comes_first(start: Start) -> None:
    tree = start("""
import pdeathsig
pdeathsig.Popen(['sh', '-c', 'trap "echo hup; exit" HUP; echo up; while :; do sleep 0.01; done'],
    pdeathsig=signal.SIGHUP, scope='tree')
forever()
""")
    tree.event("up")
    tree.kill()
    tree.event("hup")
    assert tree.all_gone()


def test_scope_group_spares_a_process_that_left_the_group() -> None:
    gate, opener = os.pipe()
    script = f"""
setsid sh -c 'echo up; read _; echo spared' <&{gate} &
sh -c 'echo up; exec sleep 1000' &
read _
"""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "pass_fds": [gate]}
    p = pdeathsig.Popen(["bash", "-c", script], scope="group", grace=1, start_new_session=True, **pipes)
    os.close(gate)
    assert p.stdin is not None and p.stdout is not None
    up(p, 2)
    p.stdin.close()
    p.wait()
    os.close(opener)
    assert p.stdout.read() == b"spared\n"
    p.stdout.close()


@pytest.mark.parametrize("code", [0, 1, 127, 255])
def test_exit_codes_are_the_commands(code: int) -> None:
    assert pdeathsig.call(["sh", "-c", f"exit {code}"], scope="tree") == code


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGRTMIN])
def test_deaths_are_the_commands(sig: signal.Signals) -> None:
    assert pdeathsig.call(["sh", "-c", f"kill -{int(sig)} $$"], scope="tree") == -sig


def test_signals_reach_the_command() -> None:
    script = (
        "import os, signal\nfor s in (15, 10, 34): signal.signal(s, lambda s, _: os.write(1, "
        "b'%d\\n' % s))\nos.write(1, b'up\\n')\nwhile True: signal.pause()"
    )
    p = pdeathsig.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, scope="tree")
    assert p.stdout is not None
    up(p, 1)
    assert Path(f"/proc/{p.pid}/cmdline").read_bytes().startswith(os.fsencode(sys.executable))
    assert p.command_pid == p.pid != p.guard_pid
    p.terminate()
    assert p.stdout.readline() == b"15\n"
    for sig in (signal.SIGUSR1, 34):
        p.send_signal(sig)
        assert p.stdout.readline() == b"%d\n" % sig
    p.kill()
    assert p.wait() == -signal.SIGKILL
    p.send_signal(signal.SIGTERM)  # nothing happens any more, as in subprocess
    p.stdout.close()


def test_stop_and_continue_reach_the_command() -> None:
    p = pdeathsig.Popen(["sleep", "1000"], scope="tree")
    command = Process(p.pid)
    assert p.guard_pid is not None
    for _ in range(3):
        p.send_signal(signal.SIGSTOP)
        assert os.waitpid(p.guard_pid, os.WUNTRACED)[1] >> 8 == signal.SIGSTOP
        assert command.state() == "T"
        p.send_signal(signal.SIGCONT)
        command.wait_for_state("S")
    p.send_signal(signal.SIGSTOP)
    os.waitpid(p.guard_pid, os.WUNTRACED)
    p.kill()
    assert p.wait(10) == -signal.SIGKILL
    assert command.dies()
    command.close()


def test_kill_works_on_a_stopped_guard() -> None:
    p = pdeathsig.Popen(["sleep", "1000"], scope="tree")
    command = Process(p.pid)
    assert p.guard_pid is not None
    os.kill(p.guard_pid, signal.SIGSTOP)
    os.waitpid(p.guard_pid, os.WUNTRACED)
    p.kill()
    assert p.wait(10) == -signal.SIGKILL
    assert command.dies()
    command.close()


@pytest.mark.parametrize("args", [["/nonexistent"], ["nonexistent"], ["/etc"], [__file__]])
@pytest.mark.parametrize(
    "options", [{}, {"executable": "/nonexistent/too"}, {"env": {"PATH": "/etc:/usr/bin"}}, {"cwd": "/nonexistent"}]
)
def test_errors_are_subprocess_s(args: list[str], options: dict[str, Any], way: dict[str, Any]) -> None:
    def failure(popen: Any, **more: Any) -> tuple[Any, ...]:
        with pytest.raises(OSError) as error:
            popen(args, **options, **way, **more)
        return type(error.value), error.value.errno, error.value.filename, str(error.value)

    assert failure(pdeathsig.Popen, scope="tree") == failure(subprocess.Popen)


def test_too_many_descriptors_is_an_error_and_nothing_is_left() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(fd) for fd in os.listdir("/proc/self/fd"))
    for room in range(12):
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + room, hard))
        try:
            assert pdeathsig.call(["true"], scope="tree") == 0
        except OSError as error:
            assert error.errno == errno.EMFILE
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not descendants(os.getpid())


def test_the_command_inherits_the_same_as_without_a_guard() -> None:
    script = """
import os, signal, sys
fds = sorted((fd, os.readlink(f'/proc/self/fd/{fd}')) for fd in map(int, os.listdir('/proc/self/fd'))
    if os.path.exists(f'/proc/self/fd/{fd}'))
status = [line for line in open('/proc/self/status')
    if line.startswith(('SigB', 'SigI', 'SigC', 'SigP', 'Shd', 'Umask', 'Uid', 'Gid', 'Cap', 'NoNewPrivs', 'Cpus_a'))]
print(fds, status, os.getcwd(), sorted(os.environ.items()), sys.argv, os.getpriority(0, 0), file=sys.stderr)
"""

    def inherited(**more: Any) -> bytes:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        reader, writer = os.pipe()
        extra = fcntl.fcntl(reader, fcntl.F_DUPFD, 100)
        try:
            done = pdeathsig.run(
                [sys.executable, "-c", script, "x"], pass_fds=[extra], cwd="/usr", umask=0o27,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True, **more,
            )  # fmt: skip
            return bytes(done.stderr)
        finally:
            for fd in (reader, writer, extra):
                os.close(fd)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
            signal.signal(signal.SIGHUP, before)

    def without_pipe(said: bytes) -> bytes:
        return re.sub(rb"pipe:\[\d+\]", b"pipe", said)

    plain = without_pipe(inherited())
    assert b"Traceback" not in plain
    assert without_pipe(inherited(scope="tree")) == plain
    assert without_pipe(inherited(grace=1)) == plain
    assert without_pipe(inherited(scope="tree", preexec_fn=lambda: None)) == plain


def test_end_of_file_comes_when_the_command_closes_its_end() -> None:
    pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    p = pdeathsig.Popen("exec >&- 2>&-; read _", shell=True, scope="tree", **pipes)
    assert p.stdout is not None and p.stderr is not None
    assert p.stdout.read() == p.stderr.read() == b""
    assert p.poll() is None
    p.communicate(b"\n")
    assert p.returncode == 0


def test_sigpipe_comes_when_the_command_has_gone() -> None:
    p = pdeathsig.Popen(
        "exec <&-; echo up; exec sleep 1000", shell=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, scope="tree"
    )
    up(p, 1)
    assert p.stdin is not None and p.stdout is not None
    with pytest.raises(BrokenPipeError):
        os.write(p.stdin.fileno(), b"x")
    p.kill()
    p.stdin.close()
    p.stdout.close()
    p.wait()


def test_a_killed_guard_leaves_nothing(start: Start) -> None:
    for victim in ("p.guard_pid", "int(open(f'/proc/{p.guard_pid}/task/{p.guard_pid}/children').read())", "p.pid"):
        tree = start(f"""
import pdeathsig
p = pdeathsig.Popen({ESCAPE + "echo up; exec sleep 1000"!r}, shell=True, scope='tree')
wait()
os.kill({victim}, signal.SIGKILL)
say('returncode', p.wait())
os.close(1)
forever()
""")
        for _ in range(3):
            tree.event("up")
        tree.send()
        assert tree.event("returncode") == "-9"
        assert tree.all_gone()


@pytest.mark.usefixtures("root")
def test_a_guard_for_another_user_runs_as_that_user(tmp_path: Path) -> None:
    """That user need not have access to the path of the guard's executable."""
    package = Path(pdeathsig.__file__).parent
    hidden = tmp_path / "hidden"
    hidden.mkdir(0o700)
    subprocess.run(["cp", "-r", package, hidden], check=True)
    code = """
import pdeathsig
p = pdeathsig.Popen("cat /proc/$PPID/status; ls /proc/self/fd", shell=True, scope="tree", user=12345,
    stdout=-1, umask=0)
print(p.communicate()[0].decode())
"""
    said = run(code, PYTHONPATH=str(hidden)).stdout
    assert "Name:\tpdeathsig-run\n" in said
    assert "Uid:\t12345\t12345\t12345\t12345\n" in said
    assert said.endswith("\n0\n1\n2\n3\n\n")


@pytest.mark.parametrize(
    ("options", "error", "argument"),
    [
        ({"scope": "forest"}, ValueError, "scope"),
        ({"scope": "tree", "pdeathsig": None}, ValueError, "scope"),
        ({"grace": 1, "pdeathsig": None}, ValueError, "grace"),
        ({"grace": 1, "pdeathsig": signal.SIGKILL}, ValueError, "grace"),
        ({"grace": -1}, ValueError, "grace"),
        ({"grace": float("nan")}, ValueError, "grace"),
        ({"grace": "1"}, TypeError, "grace"),
        ({"grace": True}, TypeError, "grace"),
        ({"scope": "tree", "pdeathsig": 99}, ValueError, "pdeathsig"),
        ({"scope": "tree", "pdeathsig": "TERMINATE"}, ValueError, "pdeathsig"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], error: type[Exception], argument: str) -> None:
    with pytest.raises(error, match=f"^{argument}: "):
        pdeathsig.Popen(["true"], **options)


def test_a_guard_that_was_not_built_is_a_clear_error(tmp_path: Path) -> None:
    package = Path(pdeathsig.__file__).parent
    shutil.copytree(package, tmp_path / "pdeathsig", ignore=shutil.ignore_patterns("pdeathsig-run"))
    code = """
import pdeathsig
for call in (lambda: pdeathsig.Popen(["true"], scope="tree"), lambda: pdeathsig.guarded(["true"])):
    try: call()
    except FileNotFoundError as error: print(error)
"""
    said = run(code, PYTHONPATH=str(tmp_path)).stdout.splitlines()
    assert ["guard was not built" in line for line in said] == [True, True]


def test_asyncio_has_it_too() -> None:
    async def main() -> None:
        p = await pdeathsig.create_subprocess_shell(ESCAPE + "echo up; exec sleep 1000", stdout=-1, scope="tree")
        assert p.stdout is not None
        for _ in range(3):
            assert await p.stdout.readline() == b"up\n"
        assert p.command_pid == p.pid != p.guard_pid
        p.kill()
        assert (await p.communicate())[0] == b""
        assert p.returncode == -signal.SIGKILL
        p = await pdeathsig.create_subprocess_exec("sleep", "1000", grace=1)
        p.terminate()
        assert await p.wait() == -signal.SIGTERM
        with pytest.raises(FileNotFoundError):
            await pdeathsig.create_subprocess_exec("/nonexistent", scope="tree")

    asyncio.run(main())


GUARDED = """
import pdeathsig
argv = pdeathsig.guarded(['sh', '-c', %r], grace=2)
""" % (ESCAPE + "echo up; exec sleep 1000")


@pytest.mark.parametrize(
    "spawn",
    [
        "subprocess.Popen(argv)",
        pytest.param("os.posix_spawn(argv[0], argv, os.environ)", marks=uses("os.posix_spawn")),
        "os.spawnv(os.P_NOWAIT, argv[0], argv)",
        "threading.Thread(target=subprocess.Popen, args=(argv,)).start()",
        "import asyncio; asyncio.run(asyncio.create_subprocess_exec(*argv))",
        "subprocess.Popen(['sh', '-c', '\"$@\"; :', 'sh', *argv])",
        "subprocess.Popen(argv, start_new_session=True)",
    ],
)
def test_a_guarded_argv_is_for_any_spawner(start: Start, spawn: str) -> None:
    tree = start(GUARDED + spawn + "\nforever()")
    for _ in range(3):
        tree.event("up")
    tree.kill()
    assert tree.all_gone()


def test_guarded_by_a_process_that_has_gone_starts_nothing() -> None:
    argv = run("import pdeathsig; print(*pdeathsig.guarded(['echo', 'started']), sep='\\n')").stdout.split("\n")[:-1]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (125, "")
    assert "--parent: that process: No such process" in done.stderr
    without = argv[: argv.index("--parent")] + argv[argv.index("--") :]
    assert subprocess.run(without, capture_output=True, text=True, check=True).stdout == "started\n"


def test_guarded_says_what_it_will_do() -> None:
    argv = pdeathsig.guarded(["ffmpeg", "-i"], signal.SIGINT, 0.25, "group", parent=None)
    assert os.access(argv[0], os.X_OK)
    assert argv[1:] == ["--signal", "INT", "--grace", "0.25", "--scope", "group", "--", "ffmpeg", "-i"]


@pytest.mark.parametrize(
    ("arguments", "error", "argument"),
    [
        ({"argv": "ls"}, TypeError, "argv"),
        ({"argv": []}, ValueError, "argv"),
        ({"argv": ["ls"], "sig": 99}, ValueError, "sig"),
        ({"argv": ["ls"], "grace": -1}, ValueError, "grace"),
        ({"argv": ["ls"], "sig": signal.SIGKILL}, ValueError, "grace"),
        ({"argv": ["ls"], "scope": "all"}, ValueError, "scope"),
        ({"argv": ["ls"], "parent": "me"}, ValueError, "parent"),
        ({"argv": ["ls"], "parent": 2**22 + 1}, ProcessLookupError, r"\[Errno 3\] parent"),
    ],
)
def test_bad_arguments_of_guarded_are_named(arguments: dict[str, Any], error: type[Exception], argument: str) -> None:
    with pytest.raises(error, match=f"^{argument}: "):
        pdeathsig.guarded(**arguments)


def test_the_verb_run_is_the_guard() -> None:
    verb = [sys.executable, "-m", "pdeathsig", "run"]
    done = subprocess.run(
        [*verb, "--grace", "1", "--", "sh", "-c", "grep SigIgn /proc/self/status; kill -USR2 $$"],
        cwd=TESTS, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGUSR2
    ignored = int(done.stdout.removeprefix("SigIgn:"), 16)
    assert not any(ignored & 1 << sig - 1 for sig in (signal.SIGPIPE, signal.SIGXFSZ))  # a Python ignores both itself
    wrong = subprocess.run([*verb, "--nonsense"], cwd=TESTS, env=environment(), capture_output=True, check=False)
    assert wrong.returncode == 125


def test_the_verb_run_leaves_nothing() -> None:
    tree = Tree(
        [sys.executable, "-m", "pdeathsig", "run", "sh", "-c", ESCAPE + "echo up; exec sleep 1000"], env=environment()
    )
    try:
        for _ in range(3):
            tree.event("up")
        tree.kill()
        assert tree.all_gone()
    finally:
        tree.close()


@pytest.mark.parametrize("sig", [65, -1, 1000])
def test_a_signal_that_is_none_is_subprocess_s_error(sig: int) -> None:
    with pdeathsig.Popen(["sleep", "1000"], scope="tree") as p:
        with pytest.raises(OSError, match="Invalid argument"):
            p.send_signal(sig)
        p.kill()


def test_a_caller_that_closes_all_descriptors_can_still_wait(start: Start) -> None:
    """Closing them ends the tree (README)."""
    tree = start("""
import pdeathsig
p = pdeathsig.Popen(['sleep', '1000'], scope='tree')
os.closerange(3, 1024)
say('returncode', p.wait())
""")
    assert tree.event("returncode") == "-9"
    assert tree.all_gone()


def test_with_no_room_to_queue_a_signal_it_stops_and_ends_as_the_command(start: Start) -> None:
    tree = start("""
import pdeathsig, resource
resource.setrlimit(RLIMIT_SIGPENDING, (0, 0))
p = pdeathsig.Popen(['sh', '-c', 'kill -STOP $$; exit 5'], scope='tree')
say('stopped', os.WIFSTOPPED(os.waitpid(p.guard_pid, os.WUNTRACED)[1]))
p.send_signal(signal.SIGCONT)
say('returncode', p.wait())
""")
    assert tree.event("stopped") == "True"
    assert tree.event("returncode") == "5"
