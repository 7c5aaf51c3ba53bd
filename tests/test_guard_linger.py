"""pdeathsig-run --linger: what the command leaves behind lives as long as the caller does."""

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
LEFT = """
from actors import *
import sys
signal.signal(signal.SIGTERM, lambda *_: (say('term'), os._exit(0)))
here(sys.argv[1]); forever()
"""
# Leaves two behind, in its own session and in another one, once they are there.
COMMAND = f"""
left = {LEFT!r}
subprocess.Popen([sys.executable, '-c', left, 'near'])
subprocess.Popen([sys.executable, '-c', left, 'far'], start_new_session=True)
wait()
"""


def caller(options: tuple[str, ...], end: str = "os._exit(3)", **keywords: str) -> str:
    """An actor that starts COMMAND under a guard, says the PID of the guard, and how it ended."""
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
    found["reaper"] = tree.adopt(str(children(found["guard"].pid)[0]))
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
    for name in ("near", "far", "reaper"):
        assert found[name].alive()
    tree.kill()
    for name in ("near", "far", "reaper"):
        assert found[name].dies()


def test_when_the_caller_dies_the_rest_gets_the_signal_and_the_grace(start: Start) -> None:
    tree = start(caller(("--linger", "--signal", "TERM", "--grace", "60")))
    found = started(tree)
    tree.event("returncode")
    tree.kill()
    assert [tree.line(), tree.line()] == ["term", "term"]
    assert found["near"].dies()
    assert found["far"].dies()
    assert found["reaper"].dies()


def test_it_ends_by_itself_when_none_is_left(start: Start) -> None:
    tree = start(caller(("--linger", "--signal", "KILL")))
    found = started(tree)
    tree.event("returncode")
    found["near"].kill()
    assert found["near"].dies()
    assert found["reaper"].alive()
    found["far"].kill()
    assert found["reaper"].dies()
    assert tree.top.poll() is None


def test_none_left_means_no_process_more(start: Start) -> None:
    tree = start(f"p = subprocess.Popen([{GUARD!r}, '--linger', 'true']); say(p.wait()); say(p.pid); wait()")
    assert tree.line() == "0"
    monitor = tree.line()
    assert not Path(f"/proc/{monitor}").exists()
    assert children(tree.top.pid) == []
    tree.send()
    assert tree.all_gone()


def test_a_kill_of_the_guard_while_the_command_runs_ends_all(start: Start) -> None:
    for victim in ("guard", "reaper"):
        tree = start(caller(("--linger", "--grace", "60")))
        found = {}
        for _ in range(3):
            name, pid = tree.line().split()
            found[name] = tree.adopt(pid)
        found["reaper"] = tree.adopt(str(children(found["guard"].pid)[0]))
        found[victim].kill()
        for process in found.values():
            assert process.dies()
        tree.kill()


def test_the_monitor_ends_what_is_left_if_the_reaper_is_killed_before_the_monitor_has_exited(start: Start) -> None:
    """Traced and stopped, the monitor does not know yet that the command has ended."""
    tree = start(caller(("--linger", "--grace", "60")))
    found = {}
    for _ in range(3):
        name, pid = tree.line().split()
        found[name] = tree.adopt(pid)
    monitor = found["guard"].pid
    reaper = found["reaper"] = tree.adopt(str(children(monitor)[0]))
    before = pipes(reaper)
    assert libc.ptrace(PTRACE_SEIZE, monitor, 0, 0) == 0
    assert libc.ptrace(PTRACE_INTERRUPT, monitor, 0, 0) == 0
    os.waitpid(monitor, WALL)
    tree.send()
    while pipes(reaper) == before:  # it closes its end of the monitor's pipe when it lingers
        os.sched_yield()
    reaper.kill()
    assert reaper.dies()
    assert libc.ptrace(PTRACE_DETACH, monitor, 0, 0) == 0
    assert tree.event("returncode") == "3"
    assert found["near"].dies()
    assert found["far"].dies()
    tree.kill()


def test_the_lingering_one_holds_none_of_the_command_s_descriptors(start: Start) -> None:
    tree = start(caller(("--linger", "--signal", "KILL")))
    found = started(tree)
    tree.event("returncode")
    descriptors = {
        os.readlink(f"/proc/{found['reaper'].pid}/fd/{fd}") for fd in os.listdir(f"/proc/{found['reaper'].pid}/fd")
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
    found["reaper"].kill(sig)
    found["reaper"].kill(signal.SIGSTOP)
    found["reaper"].wait_for_state("T")
    found["reaper"].kill(signal.SIGCONT)
    found["reaper"].wait_for_state("S")
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
    """A member of the group lives, and is ended later; the guard ends no other process."""
    tree = start(caller(("--linger", "--signal", "KILL", "--scope", scope)))
    found = started(tree)
    tree.event("returncode")
    assert found["near"].alive()
    assert found["reaper"].dies() if scope == "child" else found["reaper"].alive()
    tree.kill()
    assert found["near"].alive() if scope == "child" else found["near"].dies()
    assert found["far"].alive()


def test_options() -> None:
    assert guard("--linger=1", "true").returncode == 125
    assert guard("--linger", "true").returncode == 0
    assert "--linger" in pdeathsig.guarded(["true"], linger=True)
    assert "--linger" not in pdeathsig.guarded(["true"])
