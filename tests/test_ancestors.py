"""arm(ancestors=n) and PDEATHSIG_ANCESTORS: die when any of the n nearest ancestors does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Start, needs
from harness import TESTS, Process, Tree, environment, run

# A chain a - b - c - server below the test. Each process prints a line, and outlives its parent.
SERVER = "import pdeathsig; pdeathsig.arm({args}); here('server'); forever()"
LINKS = ("a", "b", "c")


def chain(start: Start, server: str, **environment: str | None) -> tuple[Tree, dict[str, Process]]:
    code = server
    for name in reversed(LINKS):
        code = f"here({name!r}); python({code!r}); forever()"
    tree = start(code, **environment)
    processes = {name: tree.process(name) for name in LINKS}
    processes["server"] = tree.process("server")
    return tree, processes


@pytest.mark.parametrize("count", [1, 2, 3, 4, 32])
@pytest.mark.parametrize("victim", LINKS)
def test_the_server_dies_with_each_of_its_nearest_ancestors(start: Start, count: int, victim: str) -> None:
    tree, processes = chain(start, SERVER.format(args=f"ancestors={count}"))
    above = {"c": 1, "b": 2, "a": 3}[victim]
    server = processes["server"]
    processes[victim].kill()
    assert processes[victim].dies()
    if above <= count:
        assert server.dies()
    else:
        # The next death is noticed, so the signal for the first one would have come before.
        processes["c"].kill()
        assert server.dies()
    for link in processes.values():
        if link.alive():
            link.kill()
        assert link.dies()
    tree.top.wait(10)
    pid = processes[victim].pid if above <= count else processes["c"].pid
    place = above if above <= count else 1
    dead = f"parent {pid}" if place == 1 else f"ancestor {pid} (number {place})"
    assert tree.stderr() == f"pdeathsig: {dead} is gone; SIGKILL to {server.pid}\n"


def test_status_names_the_ancestors(start: Start) -> None:
    server = (
        "import pdeathsig; pdeathsig.arm(ancestors=3); s = pdeathsig.status(); here('server'); "
        "say(s.parent, *s.ancestors, bool(s), s.watching); say(str(s).splitlines()[0]); "
        "say(str(s).splitlines()[1]); forever()"
    )
    tree, processes = chain(start, server)
    pids = [processes[name].pid for name in ("c", "b", "a")]
    assert tree.line() == f"{pids[0]} {pids[1]} {pids[2]} True None"
    assert tree.line() == (
        f"pdeathsig: armed: SIGKILL when parent {pids[0]} (known by getppid)"
        f" or ancestor {pids[1]} or ancestor {pids[2]} dies"
    )
    assert tree.line().endswith(f" and pidfd of {pids[1]}, {pids[2]}")


def test_a_server_behind_a_wrapper_dies_with_its_caller(start: Start) -> None:
    """The wrapper (sh -c, uvx, npx) outlives the caller. So would the server with a plain arm()."""
    tree = start(
        """
behind_a_shell("import pdeathsig; pdeathsig.arm(); here('plain'); forever()")
behind_a_shell("import pdeathsig; pdeathsig.arm(ancestors=2); here('server'); forever()")
forever()
"""
    )
    seen = dict(tree.line().split() for _ in range(2))
    plain, server = tree.adopt(seen["plain"]), tree.adopt(seen["server"])
    tree.kill()
    assert server.dies()
    assert plain.alive()


def test_with_a_signal_and_a_grace(start: Start) -> None:
    server = (
        "import pdeathsig; signal.signal(signal.SIGTERM, lambda *_: say('term')); "
        "pdeathsig.arm(signal.SIGTERM, grace=0.2, ancestors=3); here('server')\n"
        "while True: signal.pause()"
    )
    tree, processes = chain(start, server)
    processes["a"].kill()
    tree.event("term")
    assert processes["server"].dies()


def test_arming_again_changes_the_watched_ancestors(start: Start) -> None:
    server = (
        "import pdeathsig; [pdeathsig.arm(ancestors=n) for n in (32, 32, 32, 1)]; here('server'); "
        "say(pdeathsig.status().ancestors); wait_for = forever()"
    )
    tree, processes = chain(start, server)
    assert tree.line() == "()"
    processes["a"].kill()
    assert processes["a"].dies()
    processes["c"].kill()
    assert processes["server"].dies()
    for link in processes.values():
        if link.alive():
            link.kill()
        assert link.dies()
    tree.top.wait(10)
    assert f"parent {processes['c'].pid} is gone" in tree.stderr()


def test_a_forked_child_is_bound_to_its_parent_only(start: Start) -> None:
    server = """
import pdeathsig
pdeathsig.arm(ancestors=3, inherit=True)
import warnings; warnings.simplefilter('ignore')
pid = os.fork()
if pid == 0:
    s = pdeathsig.status()
    say('child', os.getpid(), s.parent == os.getppid(), s.ancestors)
    forever()
here('server')
forever()
"""
    tree = start(server)
    seen = dict(tree.line().split(" ", 1) for _ in range(2))
    assert seen["child"].split(" ", 1)[1] == "True ()"
    child = tree.adopt(seen["child"].split()[0])
    tree.kill()
    assert child.dies()


GONE_MEANWHILE = """
import pdeathsig
from pdeathsig._base import native as _core
from pdeathsig._child import ancestors as _ancestors
def held():
    here('server')
    wait()
{meddle}
pdeathsig.arm(ancestors=3)
say('alive')
forever()
"""
# By private names, as no other way leads in between. The walk up the ancestors is held at a point
# until the test reports that the victim is dead and reaped.
HELD = {
    "before its parent is read": """
parent = _ancestors._parent
def slow(pid):
    if pid == victim: held()
    return parent(pid)
_ancestors._parent = slow""",
    "after the walk": """
init = _ancestors.Chain.__init__
def slow(*args): init(*args); held()
_ancestors.Chain.__init__ = slow""",
    "after it is watched": """
gone = _ancestors.Chain.gone
def slow(chain): held(); return gone(chain)
_ancestors.Chain.gone = slow""",
}


@pytest.mark.parametrize("when", HELD)
@pytest.mark.parametrize("victim", ["parent", "grandparent"])
def test_an_ancestor_that_dies_during_arming_is_noticed(start: Start, when: str, victim: str) -> None:
    """The top starts a middle process, and that starts the server. The test's pipe is its input."""
    server = GONE_MEANWHILE.format(meddle=HELD[when])
    pid = {"parent": "os.getppid()", "grandparent": "_ancestors._parent(os.getppid())"}[victim]
    server = server.replace("def held", f"victim = {pid}\ndef held", 1)
    tree = start(nested(server))
    grandparent, parent = tree.process("grandparent"), tree.process("parent")
    server_process = tree.process("server")
    dying = {"parent": parent, "grandparent": grandparent}[victim]
    dying.kill()
    assert dying.dies()
    wait_until_reaped(dying)
    if server_process.alive():  # not dead already by the signal for its parent's death
        try:
            tree.send()
        except BrokenPipeError:
            pass
    assert server_process.dies()
    for process in (grandparent, parent):
        if process.alive():
            process.kill()
        process.dies()
    tree.kill()
    assert tree.all_gone()


def nested(server: str) -> str:
    """A chain: the top, which reaps, its child, the grandparent, then the parent and the server."""
    parent = f"here('parent'); python({server!r}, stdin=0); forever()"
    grandparent = f"here('grandparent'); python({parent!r}, stdin=0); forever()"
    return f"python({grandparent!r}, stdin=0).wait(); forever()"


def wait_until_reaped(process: Process) -> None:
    """Wait until it is a zombie or reaped: in either case its children have another parent."""
    process._spin(lambda: process.state() in "ZX", "end")


def unshared(script: str, code: str) -> str:
    """The output of that code, run by a shell that is PID 1 of a namespace."""
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "sh", "-c", script, sys.executable, code],
        cwd=TESTS,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    needs(done.returncode != 77, "needs mount(2)")
    return done.stdout + done.stderr


TWO_ARMINGS = """
import os, sys
import pdeathsig
pdeathsig.status()
if sys.argv[1:]:
    pdeathsig.arm(ancestors=2)  # all is imported: that user may not read it
    pdeathsig.disarm()
    os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
pdeathsig.arm(ancestors=1)
print('one')
try: pdeathsig.arm(ancestors=3)
except OSError as error: print(error)
print(pdeathsig.status().ancestors, bool(pdeathsig.status()))
"""


@pytest.mark.usefixtures("root")
def test_an_ancestor_that_proc_hides_is_an_error() -> None:
    """With hidepid=2, the parent of another user's process is hidden. An earlier arming stays."""
    lines = unshared(
        'mount -t proc -o hidepid=2 proc /proc || exit 77; sh -c \'"$0" -c "$1" another; :\' "$0" "$1"; :', TWO_ARMINGS
    ).splitlines()
    assert lines[0] == "one"
    assert lines[1].startswith("[Errno 2] ancestors: /proc does not tell which process is the parent of "), lines
    assert lines[2] == "() True"


@pytest.mark.usefixtures("root")
def test_only_more_than_one_ancestor_needs_proc() -> None:
    lines = unshared(
        'mount -t tmpfs none /proc || exit 77; sh -c \'"$0" -c "$1"; :\' "$0" "$1"; :', TWO_ARMINGS
    ).splitlines()
    assert lines[0] == "one"
    assert lines[1].startswith("[Errno 2] ancestors: /proc does not tell which process is the parent of ")


def test_pid_1_is_the_last_ancestor(start: Start, root: None) -> None:
    code = (
        "from actors import *; import pdeathsig; pdeathsig.arm(ancestors=9); s = pdeathsig.status(); "
        "say(s.parent, s.ancestors)"
    )
    tree = start(
        f"subprocess.run(['unshare', '--pid', '--mount-proc', '--fork', 'sh', '-c', '\"$0\" -c \"$1\"; "
        f":', sys.executable, {code!r}])"
    )
    assert tree.line() == "1 ()"
    tree.top.wait(10)


def test_a_large_number_watches_all_ancestors(start: Start) -> None:
    tree = start(
        "import pdeathsig; pdeathsig.arm(ancestors=32); s = pdeathsig.status(); say(s.parent, *s.ancestors); forever()"
    )
    seen = [int(pid) for pid in tree.line().split()]
    expected: list[int] = []
    pid = os.getpid()
    while pid > 1 and len(expected) < 32:
        expected.append(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert seen == expected


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ("ancestors=0", "ValueError", "ancestors: 0 is not 1 to 32"),
        ("ancestors=33", "ValueError", "ancestors: 33 is not 1 to 32"),
        ("ancestors=True", "TypeError", "ancestors: a number of them, not bool"),
        ("ancestors='2'", "TypeError", "ancestors: a number of them, not str"),
        ("ancestors=2, parent='thread'", "ValueError", "ancestors: 2 of them only with parent='process'"),
        ("ancestors=2, parent=1", "ValueError", "ancestors: 2 of them only with parent='process'"),
    ],
)
def test_bad_arguments_are_named(arguments: str, error: str, words: str) -> None:
    seen = run(
        f"import pdeathsig\ntry: pdeathsig.arm({arguments})\nexcept {error} as e: print(e, pdeathsig.status().armed)"
    )
    assert seen.stdout == f"{words} False\n", seen.stderr


@pytest.mark.parametrize("how", ["PDEATHSIG", "auto", "both"])
@pytest.mark.parametrize("bad", ["0", "33", "x", "-1", "1.5", "²", " 2", "99999999999"])
def test_a_bad_number_in_the_environment_stops_the_program(how: str, bad: str) -> None:
    environment = {"PDEATHSIG_ANCESTORS": bad, **({} if how == "auto" else {"PDEATHSIG": "TERM"})}
    ended = run(f"{'' if how == 'PDEATHSIG' else 'import pdeathsig.auto; '}print('still running')", **environment)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert "PDEATHSIG_ANCESTORS=" in ended.stderr
    assert ended.stderr.endswith(": not a number from 1 to 32\n")


@pytest.mark.parametrize("how", ["PDEATHSIG", "auto"])
@pytest.mark.parametrize(("value", "count"), [("", 0), ("1", 0), ("2", 1), ("03", 2)])
def test_the_environment_says_how_many(start: Start, how: str, value: str, count: int) -> None:
    code = "import pdeathsig.auto; s = pdeathsig.status(); here('server'); say(len(s.ancestors), s.armed); forever()"
    tree, processes = chain(start, code, PDEATHSIG_ANCESTORS=value, PDEATHSIG="KILL" if how == "PDEATHSIG" else None)
    assert tree.line() == f"{count} True"
    tree.kill()
    if how == "PDEATHSIG":
        assert tree.all_gone()
    else:
        assert processes["server"].dies() if count == 2 else processes["server"].alive()


def test_a_family_member_behind_a_shell(start: Start) -> None:
    """Its ancestors are the shell, the head and the test. It knows the head by its token, too."""
    code = "import pdeathsig; s = pdeathsig.status(); say('child', os.getpid(), s.watching, *s.ancestors); forever()"
    tree = start(
        f"behind_a_shell({code!r}); forever()", PDEATHSIG="TERM", PDEATHSIG_ANCESTORS="3", PDEATHSIG_SCOPE="child"
    )
    pid, watching, *ancestors = tree.event("child").split()
    child = tree.adopt(pid)
    assert watching == ancestors[0] == str(tree.top.pid)
    assert ancestors[1] == str(os.getpid())
    tree.kill(signal.SIGKILL)
    assert child.dies()
    assert tree.all_gone()
