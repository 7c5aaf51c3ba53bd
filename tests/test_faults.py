"""A system call that fails leads to a clear error or to correct work: a share of `make faults`.

The same holds on old kernels, which lack some of the calls.
"""

from __future__ import annotations

import errno
import platform
import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest
import seccomp_deny
from conftest import Start, needs, uses
from guarding import GUARD, guards_end  # noqa: F401
from harness import TESTS, environment

HERE = TESTS / "faults"
DENIED = 8
SHARES = {
    "arm()": 3,
    "arm(), on a thread": 9,
    "arm(parent=pid)": 9,
    "PDEATHSIG": 17,
    "Popen": 7,
    "Popen, on a thread": 29,
    "Popen, group": 23,
    "Popen, tree": 47,
    "kill_tree": 61,
    "pdeathsig-run, monitor killed": 41,
}
OLD = ["close_range", "pidfd_open", "clone3", "pidfd_send_signal", "kcmp"]

pytestmark = pytest.mark.timeout(90)


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = which("cc") or ""
    needs(bool(compiler) and platform.machine() == "x86_64", "needs a C compiler, and x86-64")
    tool = tmp_path_factory.mktemp("faults") / "inject"
    options = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *options, HERE / "inject.c", "-o", tool], check=True)
    return tool


@uses("signal.sigtimedwait")
@pytest.mark.parametrize("entry", SHARES)
def test_a_failing_call_leads_to_a_clear_error_or_correct_work(tool: Path, entry: str) -> None:
    done = subprocess.run(
        [sys.executable, HERE / "inject.py", tool, "--step", str(SHARES[entry]), entry],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    needs(done.returncode != DENIED, "needs ptrace")
    assert done.returncode == 0, done.stdout + done.stderr
    faults = int(done.stdout.removeprefix(entry).split()[0])
    assert faults > 1, done.stdout


def deny_newer_calls() -> str:
    return "import seccomp_deny\n" + "".join(f"seccomp_deny.deny({call!r}, {errno.ENOSYS})\n" for call in OLD)


STARTS = {
    "Popen": "say('child', pdeathsig.Popen(['sleep', '1000']).pid)",
    "group": "say('child', pdeathsig.Popen(['sleep', '1000'], scope='group').pid)",
    "tree": "p = pdeathsig.Popen(['sleep', '1000'], scope='tree'); say('child', p.pid)",
    "grace": "p = pdeathsig.Popen(['sleep', '1000'], grace=0.2); say('child', p.pid)",
    "run": f"p = subprocess.Popen([{GUARD!r}, '--', 'sh', '-c', 'echo child $$; exec sleep 1000'])",
    "preexec": "say('child', subprocess.Popen(['sleep', '1000'], preexec_fn=pdeathsig.preexec()).pid)",
    "install": "pdeathsig.install(); say('child', subprocess.Popen(['sleep', '1000']).pid)",
    "arm": "if os.fork() == 0: pdeathsig.arm(signal.SIGTERM, grace=1); here('child'); forever()",
    "family": "python('here(\"child\"); forever()', env={**os.environ, 'PDEATHSIG': 'KILL'})",
}


@pytest.mark.parametrize("thread", [False, True], ids=["main", "thread"])
@pytest.mark.parametrize("how", STARTS)
def test_a_child_dies_with_its_parent_on_a_kernel_without_the_newer_calls(start: Start, how: str, thread: bool) -> None:
    """Linux before 5.9 lacks some of them, and a container may deny them."""
    needs(seccomp_deny.possible(), "no system call numbers for this architecture")
    needs(not (thread and how == "preexec"), "a preexec child follows the thread")
    body = f"def begin():\n    {STARTS[how]}\n"
    begin = "t = threading.Thread(target=begin); t.start(); t.join()" if thread else "begin()"
    tree = start(f"import pdeathsig\n{deny_newer_calls()}{body}{begin}\nforever()", PDEATHSIG_QUIET="1")
    child = tree.process("child")
    tree.kill()
    assert child.dies()
    assert tree.all_gone()


def test_kill_tree_on_a_kernel_without_the_newer_calls(start: Start) -> None:
    needs(seccomp_deny.possible(), "no system call numbers for this architecture")
    tree = start(
        f"""
import pdeathsig
{deny_newer_calls()}
p = subprocess.Popen(['sh', '-c', 'setsid sh -c "echo below $$; exec sleep 1000" & wait'])
wait()
say('ended', len(pdeathsig.kill_tree(p, grace=5).signalled))
"""
    )
    below = tree.process("below")
    tree.send()
    assert tree.event("ended") == "2"
    assert below.dies()
    tree.top.wait(10)
