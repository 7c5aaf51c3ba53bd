"""A daemon that a member of the family makes by fork, setsid and fork.

It lives as long as the member, not as the middle process, which ends at once.
"""

from __future__ import annotations

import sys

import pytest
import seccomp_deny
from conftest import Start, needs
from guarding import guards_end  # noqa: F401
from harness import Tree

HERE = "here('daemon'); forever()"
FORKS = "here('daemon' if os.fork() else 'child'); forever()"
SHELL = ["sh", "-c", "sleep 1000 & echo daemon $$; echo below $!; exec sleep 1000"]
PYTHON = [sys.executable, "-c", f"from actors import *; {HERE}"]


def making(daemon: str, *, maker: str = "os.setsid()", after: str = "os._exit(0)") -> str:
    """The code of a process that makes a daemon, and reports when the middle process is gone."""
    return f"""
import multiprocessing, pty
def daemon():
    {daemon}
def maker():
    {maker}
    if os.fork() == 0: daemon()
    {after}
def make():
    middle = os.fork()
    if middle == 0: maker()
    os.waitpid(middle, 0)
    say('made')
"""


def lives_until_the_member_dies(tree: Tree, *names: str) -> None:
    found: dict[str, str] = {}
    while not {"made", *names} <= set(found):
        word, _, pid = tree.line().partition(" ")
        found[word] = pid
    processes = [tree.adopt(found[name]) for name in names]
    assert not processes[0].dies(within=0.3)
    assert all(process.alive() for process in processes)
    tree.kill()
    assert all(process.dies() for process in processes)


def dies_with_the_middle_process(tree: Tree) -> None:
    found = dict(tree.line().split() for _ in range(2))
    daemon, middle = tree.adopt(found["daemon"]), tree.adopt(found["maker"])
    middle.kill()
    assert daemon.dies()
    assert tree.top.poll() is None


@pytest.mark.parametrize("thread", [False, True], ids=["", "thread"])
@pytest.mark.parametrize("environment", [{"PDEATHSIG": "KILL"}, {}], ids=["family", "inherit"])
def test_a_daemon_lives_as_long_as_the_member(start: Start, environment: dict[str, str], thread: bool) -> None:
    arm = "import pdeathsig; pdeathsig.arm(inherit=True)"
    run = "thread = threading.Thread(target=make); thread.start(); thread.join()" if thread else "make()"
    tree = start(f"{arm if not environment else ''}\n{making(HERE)}\n{run}; forever()", **environment)
    lives_until_the_member_dies(tree, "daemon")


@pytest.mark.parametrize(
    ("daemon", "names"),
    [
        (f"os.execvp('sh', {SHELL!r})", ("daemon", "below")),
        (f"os.execv(sys.executable, {PYTHON!r})", ("daemon",)),
        (f"subprocess.Popen({SHELL!r}); forever()", ("daemon", "below")),
        (f"os.fork(); {HERE}", ("daemon",)),
        (f"import pdeathsig; os.setsid(); pdeathsig.arm(); {HERE}", ("daemon",)),
    ],
    ids=["a program", "a Python", "starts a program", "forks", "leads a session, and arms again"],
)
def test_what_the_daemon_becomes_and_starts_lives_as_long(start: Start, daemon: str, names: tuple[str, ...]) -> None:
    tree = start(f"{making(daemon)}\nmake(); forever()", PDEATHSIG="KILL")
    lives_until_the_member_dies(tree, *names)
    assert tree.all_gone()


def test_what_a_daemon_starts_dies_with_it(start: Start) -> None:
    tree = start(f"{making(FORKS)}\nmake(); forever()", PDEATHSIG="KILL")
    found = dict(tree.line().partition(" ")[::2] for _ in range(3))
    daemon, child = tree.adopt(found["daemon"]), tree.adopt(found["child"])
    daemon.kill()
    assert child.dies()
    assert tree.top.poll() is None


@pytest.mark.parametrize("call", ["pidfd_open", "getsid"])
def test_without_a_needed_call_the_daemon_dies_with_the_middle_process(start: Start, call: str) -> None:
    """It is bound to some process in any case."""
    needs(seccomp_deny.possible(), "no system call numbers for this architecture")
    code = making(HERE, after="here('maker'); forever()")
    deny = f"import seccomp_deny; seccomp_deny.deny({call!r})"
    tree = start(f"{code}\n{deny}\nif os.fork() == 0: maker()\nforever()", PDEATHSIG="KILL")
    dies_with_the_middle_process(tree)


@pytest.mark.parametrize(
    "make",
    [
        "worker = multiprocessing.get_context('fork').Process(target=maker); worker.start()",
        "if pty.fork()[0] == 0: maker()",
        "if os.fork() == 0: maker()",
    ],
    ids=["a worker of multiprocessing", "on a terminal of its own", "a plain fork"],
)
def test_a_middle_process_that_makes_no_daemon_takes_its_child_with_it(start: Start, make: str) -> None:
    """Nothing shows that these double forks make a daemon."""
    maker = "os.setsid()" if "Process" in make else "os.dup2(terminal, 1)" if "pty" in make else "pass"
    code = making(HERE, maker=maker, after="here('maker'); forever()")
    tree = start(f"terminal = os.dup(1)\n{code}\n{make}\nforever()", PDEATHSIG="KILL")
    dies_with_the_middle_process(tree)
