"""A shell command is a tree unless scope= says otherwise: all that the shell starts is bound."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Start, descendants
from harness import run

import pdeathsig

# One is in the shell's group, one has left it, and one has lost its parent too.
STARTS_OTHERS = (
    "sleep 1000 & echo child $!; setsid sh -c 'echo child $$; exec sleep 1000' & "
    "(setsid sh -c 'echo child $$; exec sleep 1000' &); "
)
WAYS = {
    "Popen": "pdeathsig.Popen(command, shell=True)",
    "run": "pdeathsig.run(command, shell=True)",
    "a signal": "pdeathsig.Popen(command, shell=True, pdeathsig=signal.SIGTERM)",
    "a grace": "pdeathsig.Popen(command, shell=True, grace=0.2)",
    "bash": "pdeathsig.Popen(command, shell=True, executable='/bin/bash')",
    "by position": "pdeathsig.Popen(command, -1, None, None, None, None, None, True, True)",
    "preexec_fn": "pdeathsig.Popen(command, shell=True, preexec_fn=lambda: None)",
    "a session": "pdeathsig.Popen(command, shell=True, start_new_session=True)",
    "asyncio": "keep(pdeathsig.create_subprocess_shell(command))",
}
INSTALLED = {
    "shell=True": "subprocess.Popen(command, shell=True)",
    "/bin/bash": "subprocess.Popen(command, shell=True, executable='/bin/bash')",
    "preexec_fn": "subprocess.Popen(command, shell=True, preexec_fn=lambda: None)",
    "asyncio": "keep(asyncio.create_subprocess_shell(command))",
    "system": "os.system(command)",
    "popen": "os.popen('{ ' + command + '; } >&2')",
    "posix_spawn": "os.posix_spawn('/bin/sh', ['/bin/sh', '-c', command], os.environ)",
}
SETUP = f"""
import asyncio, pdeathsig
command = {STARTS_OTHERS + "wait; sleep 1000"!r}
def keep(start):
    loop.append(asyncio.new_event_loop())
    loop.append(loop[0].run_until_complete(start))
loop = []
os.dup2(1, 2)
"""


@pytest.mark.parametrize("thread", [False, True], ids=["main", "thread"])
@pytest.mark.parametrize("way", WAYS)
def test_all_that_a_shell_starts_dies_with_its_parent(start: Start, way: str, thread: bool) -> None:
    body = f"{SETUP}\ndef begin():\n    global p\n    p = {WAYS[way]}\n"
    tree = start(body + begin(thread))
    children = [tree.process("child") for _ in range(3)]
    tree.kill()
    assert all(child.dies() for child in children)
    assert tree.all_gone()


@pytest.mark.parametrize("thread", [False, True], ids=["main", "thread"])
@pytest.mark.parametrize("way", INSTALLED)
def test_under_install_too(start: Start, way: str, thread: bool) -> None:
    if way in ("system", "posix_spawn") and sys.implementation.name == "pypy":
        pytest.skip("PyPy has no posix_spawn")
    if way == "asyncio" and thread and sys.version_info < (3, 12):
        pytest.skip("asyncio's own child watcher")
    body = f"{SETUP}\npdeathsig.install()\ndef begin():\n    global p\n    p = {INSTALLED[way]}\n"
    tree = start(body + begin(thread))
    children = [tree.process("child") for _ in range(3)]
    tree.kill()
    assert all(child.dies() for child in children)
    assert tree.all_gone()


def begin(thread: bool) -> str:
    return "threading.Thread(target=begin).start(); forever()" if thread else "begin(); forever()"


def test_what_it_leaves_behind_ends_with_it_but_under_install_with_this_process(start: Start) -> None:
    command = "setsid sh -c 'echo child $$; exec sleep 1000' & read _; exit 3"
    tree = start(f"""
import pdeathsig
say('status', pdeathsig.call({command!r}, shell=True))
pdeathsig.install()
say('status', os.waitstatus_to_exitcode(os.system({command!r})))
forever()
""")
    child = tree.process("child")
    tree.send()
    assert tree.event("status") == "3"
    assert child.dies()
    server = tree.process("child")
    tree.send()
    assert tree.event("status") == "3"
    assert server.alive()
    tree.kill()
    assert server.dies()
    assert tree.all_gone()


def guards() -> int:
    return sum("pdeathsig-run" in command for command in descendants(os.getpid()).values())


@pytest.mark.parametrize("scope", ["child", "group"])
def test_scope_says_otherwise(scope: Any) -> None:
    with pdeathsig.Popen("read _", shell=True, stdin=-1, scope=scope):
        assert guards() == 0
    pdeathsig.install(scope=scope)
    try:
        with subprocess.Popen("read _", shell=True, stdin=-1):
            assert guards() == 0
    finally:
        pdeathsig.uninstall()


def test_what_is_not_to_be_bound_is_not() -> None:
    with pdeathsig.Popen("read _", shell=True, stdin=-1, pdeathsig=None):
        assert guards() == 0
    pdeathsig.install()
    try:
        with pdeathsig.Popen("read _", shell=True, stdin=-1, pdeathsig=None):
            assert guards() == 0
    finally:
        pdeathsig.uninstall()


def test_under_install_the_path_of_a_shell_and_a_command_tell() -> None:
    pdeathsig.install()
    try:
        for argv, guarded in (
            (["/bin/sh", "-c", "read _"], True),
            (["sh", "-c", "read _"], False),
            (["/bin/sh", "-e", "-c", "read _"], False),
            ([sys.executable, "-c", "input()"], False),
        ):
            with subprocess.Popen(argv, stdin=-1) as p:
                assert (guards() > 0) == guarded
                p.communicate(b"\n")
    finally:
        pdeathsig.uninstall()


def test_the_options_of_subprocess_hold_for_the_shell() -> None:
    def seen(popen: Any, **options: Any) -> tuple[str, bool]:
        # No ps(1), which dead-locks where the sanitizers are preloaded.
        code = 'echo "$(umask) $(pwd) $0 $1"; read -r _ _ _ _ _ session _ </proc/$$/stat; echo $session >&2'
        done = popen([code, "x"], shell=True, capture_output=True, text=True, check=True, **options)
        return done.stdout, int(done.stderr) == os.getsid(0)

    for options in (
        {},
        {"umask": 0o27, "cwd": "/usr"},
        {"preexec_fn": os.setsid},
        {"start_new_session": True},
    ):
        assert seen(pdeathsig.run, **options) == seen(subprocess.run, **options)
    missing = {"executable": "/nonexistent"}
    for popen in (pdeathsig.run, subprocess.run):
        with pytest.raises(FileNotFoundError, match="'/nonexistent'"):
            seen(popen, **missing)


@pytest.mark.usefixtures("root")
def test_a_shell_of_another_user() -> None:
    said = pdeathsig.check_output("id -u; id -g", shell=True, user=12345, group=12346, extra_groups=[], text=True)
    assert said == "12345\n12346\n"


def test_asyncio_s_shell_ends_with_all_that_it_started() -> None:
    async def main() -> None:
        p = await pdeathsig.create_subprocess_shell(STARTS_OTHERS + "exit 5", stdout=-1)
        out, _ = await p.communicate()  # would wait for those that hold the pipe
        assert p.returncode == 5
        assert len(out.splitlines()) >= 1

    asyncio.run(main())


def test_without_a_guard_the_shell_alone_is_bound_and_that_is_said(tmp_path: Path) -> None:
    package = Path(pdeathsig.__file__).parent
    shutil.copytree(package, tmp_path / "pdeathsig", ignore=shutil.ignore_patterns("pdeathsig-run"))
    code = """
import subprocess, warnings, pdeathsig
warnings.simplefilter('always')
def count(function, *args, **options):
    with warnings.catch_warnings(record=True) as caught:
        function(*args, **options)
    print(*(f"{w.category.__name__} {w.message}" for w in caught), sep="\\n", end="\\n--\\n")
count(pdeathsig.Popen, 'exit', shell=True)
count(pdeathsig.Popen, 'exit', shell=True, scope='child')
count(pdeathsig.Popen, 'exit', shell=True, pdeathsig=None)
count(pdeathsig.Popen, ['true'])
count(pdeathsig.install)
count(subprocess.call, 'exit', shell=True)
"""
    said = run(code, PYTHONPATH=str(tmp_path)).stdout.split("--\n")
    assert ["RuntimeWarning" in part for part in said] == [True, False, False, False, True, False, False]
    assert "what a shell starts is not bound: the guard was not built" in said[0]
    assert "or say scope='child'" in said[0]


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_it_all(sig: int) -> None:
    p = pdeathsig.Popen(STARTS_OTHERS + "exec sleep 1000", shell=True, stdout=-1)
    assert p.stdout is not None
    for _ in range(3):
        assert p.stdout.readline().startswith(b"child ")
    p.send_signal(sig)
    assert p.communicate()[0] == b""
    assert p.returncode == -sig
    assert not descendants(os.getpid())


@pytest.mark.usefixtures("root")
def test_a_shell_works_after_a_change_of_user_that_hides_the_guard(start: Start, tmp_path: Path) -> None:
    """The shell alone is bound then, and a warning says so."""
    tree = start(
        f"""
import shutil, pdeathsig
from pdeathsig._spawn import guard_command  # private: only so an installation can be hidden
hidden = {str(tmp_path / "hidden")!r}
os.mkdir(hidden, 0o700)
guard_command._PATH = shutil.copy(guard_command._PATH, hidden)
guard_command.__file__ = os.path.join(hidden, 'x', 'x')
pdeathsig.install()
say('before', os.system('exit 3') >> 8)
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
say('after', os.system('exit 4') >> 8, subprocess.run('exit 5', shell=True).returncode)
subprocess.Popen('echo child $$; exec sleep 1000', shell=True)
forever()
"""
    )
    assert tree.event("before") == "3"
    assert tree.event("after") == "4 5"
    child = tree.process("child")
    tree.kill()
    assert child.dies()
    assert "what a shell starts is not bound: the guard is out of reach" in tree.stderr()
