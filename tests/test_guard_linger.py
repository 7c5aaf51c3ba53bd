"""pdeathsig-run --linger: what the command leaves behind lives while the caller does, and no longer."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from actors import libc
from conftest import Start
from guarding import GUARD, children, guard, guards_end  # noqa: F401
from harness import Process, Tree

import pdeathsig

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 17, 0x4206, 0x4207, 0x40000000
LEFT = "from actors import *\nimport sys\nsignal.signal(signal.SIGTERM, lambda *_: (say('term'), os._exit(0)))\nhere(sys.argv[1]); forever()"
# Leaves two behind, in its own session and in another one, once they are there.
COMMAND = f"""
left = {LEFT!r}
subprocess.Popen([sys.executable, '-c', left, 'near'])
subprocess.Popen([sys.executable, '-c', left, 'far'], start_new_session=True)
wait()
"""


def caller(options: tuple[str, ...], end: str = "os._exit(3)", **keywords: str) -> str:
    """An actor that starts COMMAND under a guard, says who the guard is, and how it ended."""
    command = [GUARD, *options, "--", "COMMAND"]
    return f"""
code = 'from actors import *\\n' + {COMMAND + end!r}
command = {command[:-1]!r} + [sys.executable, '-c', code]
guard = subprocess.Popen(command, stdin=subprocess.PIPE)
say('guard', guard.pid)
wait()
guard.stdin.write(b'\\n'); guard.stdin.flush()
say('returncode', guard.wait())
{keywords.get("then", "")}
forever()
"""


def pipes(process: Process) -> set[str]:
    found = set()
    for fd in os.listdir(f"/proc/{process.pid}/fd"):
        try:
            found.add(os.readlink(f"/proc/{process.pid}/fd/{fd}"))
        except FileNotFoundError:  # closed meanwhile
            pass
    return {name for name in found if name.startswith("pipe:")}


def started(tree: Tree) -> dict[str, Process]:
    found = {}
    for _ in range(3):
        name, pid = tree.line().split()
        found[name] = tree.adopt(pid)
    assert set(found) == {"guard", "near", "far"}
    found["inner"] = tree.adopt(str(children(found["guard"].pid)[0]))
    tree.send()
    return found


@pytest.mark.parametrize(
    ("end", "returncode"),
    [("os._exit(3)", "3"), ("os._exit(0)", "0"), ("os.kill(os.getpid(), 9)", "-9"), ("os.abort()", "-6")],
)
def test_the_command_s_end_is_mirrored_and_the_rest_lives(start: Start, end: str, returncode: str) -> None:
    tree = start(caller(("--linger", "--signal", "KILL"), end))
    found = started(tree)
    assert tree.event("returncode") == returncode
    assert found["guard"].dies()
    for name in ("near", "far", "inner"):
        assert found[name].alive()
    tree.kill()
    for name in ("near", "far", "inner"):
        assert found[name].dies()


def test_when_the_caller_dies_the_rest_gets_the_signal_and_the_grace(start: Start) -> None:
    tree = start(caller(("--linger", "--signal", "TERM", "--grace", "60")))
    found = started(tree)
    tree.event("returncode")
    tree.kill()
    assert [tree.line(), tree.line()] == ["term", "term"]
    assert found["near"].dies()
    assert found["far"].dies()
    assert found["inner"].dies()


def test_it_ends_by_itself_when_nobody_is_left(start: Start) -> None:
    tree = start(caller(("--linger", "--signal", "KILL")))
    found = started(tree)
    tree.event("returncode")
    found["near"].kill()
    assert found["near"].dies()
    assert found["inner"].alive()
    found["far"].kill()
    assert found["inner"].dies()
    assert tree.top.poll() is None


def test_nobody_left_means_no_process_more(start: Start) -> None:
    tree = start(f"p = subprocess.Popen([{GUARD!r}, '--linger', 'true']); say(p.wait()); say(p.pid); wait()")
    assert tree.line() == "0"
    outer = tree.line()
    assert not Path(f"/proc/{outer}").exists()
    assert children(tree.top.pid) == []
    tree.send()
    assert tree.all_gone()


def test_a_kill_of_the_guard_while_the_command_runs_ends_all(start: Start) -> None:
    for who in ("guard", "inner"):
        tree = start(caller(("--linger", "--grace", "60")))
        found = {}
        for _ in range(3):
            name, pid = tree.line().split()
            found[name] = tree.adopt(pid)
        found["inner"] = tree.adopt(str(children(found["guard"].pid)[0]))
        found[who].kill()
        for process in found.values():
            assert process.dies()
        tree.kill()


def test_the_outer_one_ends_what_is_left_if_the_inner_one_is_killed_before_it_has_gone(start: Start) -> None:
    """Held by us, it has not heard yet that the command has ended."""
    tree = start(caller(("--linger", "--grace", "60")))
    found = {}
    for _ in range(3):
        name, pid = tree.line().split()
        found[name] = tree.adopt(pid)
    outer = found["guard"].pid
    inner = found["inner"] = tree.adopt(str(children(outer)[0]))
    before = pipes(inner)
    assert libc.ptrace(PTRACE_SEIZE, outer, 0, 0) == 0
    assert libc.ptrace(PTRACE_INTERRUPT, outer, 0, 0) == 0
    os.waitpid(outer, WALL)
    tree.send()
    while pipes(inner) == before:  # of them, the one that is the outer one's is closed when it lingers
        os.sched_yield()
    inner.kill()
    assert inner.dies()
    assert libc.ptrace(PTRACE_DETACH, outer, 0, 0) == 0
    assert tree.event("returncode") == "3"
    assert found["near"].dies()
    assert found["far"].dies()
    tree.kill()


def test_the_lingering_one_holds_none_of_the_command_s_descriptors(start: Start) -> None:
    tree = start(caller(("--linger", "--signal", "KILL")))
    found = started(tree)
    tree.event("returncode")
    descriptors = {
        os.readlink(f"/proc/{found['inner'].pid}/fd/{fd}") for fd in os.listdir(f"/proc/{found['inner'].pid}/fd")
    }
    ours = {os.readlink(f"/proc/{tree.top.pid}/fd/{fd}") for fd in (0, 1)}
    assert not descriptors & ours
    assert any("pidfd" in name for name in descriptors)
    tree.kill()
    assert tree.all_gone()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGRTMAX])
def test_signals_from_others_do_not_end_it(start: Start, sig: signal.Signals) -> None:
    tree = start(caller(("--linger", "--signal", "KILL")))
    found = started(tree)
    tree.event("returncode")
    found["inner"].kill(sig)
    found["inner"].kill(signal.SIGSTOP)
    found["inner"].wait_for_state("T")
    found["inner"].kill(signal.SIGCONT)
    found["inner"].wait_for_state("S")
    assert found["near"].alive()
    assert found["far"].alive()
    tree.kill()
    assert found["near"].dies()
    assert found["far"].dies()


def test_the_caller_may_exec(start: Start) -> None:
    """It is followed by pidfd."""
    tree = start(caller(("--linger", "--signal", "KILL"), then="os.execlp('sleep', 'sleep', '1000')"))
    found = started(tree)
    tree.event("returncode")
    tree.adopt(str(tree.top.pid)).wait_for_command("sleep")
    assert found["near"].alive()
    tree.kill()
    assert found["near"].dies()
    assert found["far"].dies()


def test_the_end_of_the_thread_that_started_it_ends_nothing(start: Start) -> None:
    code = caller(("--linger", "--signal", "KILL"), then="").replace("forever()\n", "")
    body = "\n".join(f"    {line}" for line in code.strip().splitlines())
    tree = start(f"""
def begin():
{body}
    python("raw_pdeathsig(); here('raw'); forever()")
    wait()
thread = threading.Thread(target=begin); thread.start(); thread.join(); forever()
""")
    found = started(tree)
    tree.event("returncode")
    raw = tree.process("raw")
    tree.send("end the thread")
    assert raw.dies()
    assert found["near"].alive()
    tree.kill()
    assert found["near"].dies()
    assert found["far"].dies()


@pytest.mark.parametrize("scope", ["group", "child"])
def test_other_scopes(start: Start, scope: str) -> None:
    """Of a group lives who is in it, and is ended later; nobody else is looked after."""
    tree = start(caller(("--linger", "--signal", "KILL", "--scope", scope)))
    found = started(tree)
    tree.event("returncode")
    assert found["near"].alive()
    assert found["inner"].dies() if scope == "child" else found["inner"].alive()
    tree.kill()
    assert found["near"].alive() if scope == "child" else found["near"].dies()
    assert found["far"].alive()


def test_options() -> None:
    assert guard("--linger=1", "true").returncode == 125
    assert guard("--linger", "true").returncode == 0
    assert "--linger" in pdeathsig.guarded(["true"], linger=True)
    assert "--linger" not in pdeathsig.guarded(["true"])
