"""pdeathsig-run: a signal sent to it is a signal sent to the command."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import Start, needs
from guarding import GUARD, guarded, guards_end  # noqa: F401
from harness import SLOWNESS

NAMES = [
    "HUP",
    "INT",
    "QUIT",
    "USR1",
    "USR2",
    "TERM",
    "CONT",
    "WINCH",
    "ALRM",
    "VTALRM",
    "PROF",
    "PIPE",
    "URG",
    "IO",
    "PWR",
    "XCPU",
    "XFSZ",
    "TTIN",
    "TTOU",
    "TSTP",
]
FORWARDED = [*(int(getattr(signal, f"SIG{name}")) for name in NAMES), *range(signal.SIGRTMIN, signal.SIGRTMAX + 1)]

LISTENER = """
ALL = set(range(1, 65)) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, 32, 33}
signal.pthread_sigmask(signal.SIG_BLOCK, ALL)
here('command')
"""


def test_each_is_forwarded_once(start: Start) -> None:
    """In the order they are sent, one after the other."""
    tree = start(LISTENER + "while True: say('got', int(signal.sigwait(ALL)))", prefix=guarded())
    tree.process("command")
    for sig in FORWARDED:
        tree.top.send_signal(sig)
        assert tree.event("got") == str(sig)
    tree.kill()
    assert tree.all_gone()


def test_the_value_of_sigqueue_is_kept(start: Start) -> None:
    """Real-time ones in the order they were sent; by kill -q where procps has it."""
    needs(
        subprocess.run(
            ["sh", "-c", "command -v /bin/kill >/dev/null && /bin/kill -q 1 -0 $$"], capture_output=True, check=False
        ).returncode
        == 0,
        "no kill -q",
    )
    tree = start(
        LISTENER
        + """
libc.sigwaitinfo.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
mask, info = (ctypes.c_ulong * 16)(*[2**64 - 1] * 16), (ctypes.c_int * 32)()
while libc.sigwaitinfo(mask, info) > 0:
    say('got', info[0], info[2], info[6])
""",
        prefix=guarded(),
    )
    tree.process("command")
    for sig, value in [(34, 7), (34, 8), (64, 1000 + 19), (64, 1001), (64, 0), (10, 12), (50, 2**31 - 1)]:
        subprocess.run(["/bin/kill", "-q", str(value), f"-{sig}", str(tree.top.pid)], check=True)
        assert tree.event("got") == f"{sig} -1 {value}"
    tree.kill()
    assert tree.all_gone()


def test_ten_thousand(start: Start) -> None:
    """Each is acknowledged before the next."""
    tree = start(
        LISTENER + "while signal.sigwait(ALL) == signal.SIGUSR1: os.write(1, b'.')\nsay(); say('done')",
        prefix=guarded(),
    )
    tree.process("command")
    for _ in range(10_000):
        os.kill(tree.top.pid, signal.SIGUSR1)
        assert os.read(tree.events, 1) == b"."
    os.kill(tree.top.pid, signal.SIGUSR2)
    assert tree.line() == ""
    tree.event("done")
    assert tree.top.wait(10) == 0


def test_real_time_signals_are_queued_not_merged(start: Start) -> None:
    tree = start(LISTENER + "wait()\nfor _ in range(100): say('got', int(signal.sigwait(ALL)))", prefix=guarded())
    tree.process("command")
    for _ in range(100):
        tree.top.send_signal(signal.SIGRTMIN + 5)
    tree.send()
    for _ in range(100):
        assert tree.event("got") == str(signal.SIGRTMIN + 5)
    assert tree.top.wait(10) == 0


def test_no_room_to_queue_signals(start: Start) -> None:
    """RLIMIT_SIGPENDING of 0: what kill(2) sends still arrives, and all ends with the caller."""
    tree = start(
        f"""
import resource
resource.setrlimit(RLIMIT_SIGPENDING, (0, 0))
code = {"from actors import *" + LISTENER + "while True: say('got', int(signal.sigwait(ALL)))"!r}
process = subprocess.Popen([{GUARD!r}, '--grace', '0.2', sys.executable, '-c', code])
say('monitor', process.pid)
forever()
"""
    )
    monitor = tree.adopt(tree.event("monitor"))
    tree.process("command")
    for sig in signal.SIGUSR1, signal.SIGTERM, signal.SIGRTMIN:
        monitor.kill(sig)
        assert tree.event("got") == str(int(sig))
    tree.kill()
    assert tree.all_gone()


def test_an_alarm_set_before_it_is_the_commands(start: Start) -> None:
    """alarm(2) survives exec, so it would have been the command's."""
    tree = start(
        LISTENER + "say('got', int(signal.sigwait(ALL)))",
        prefix=("perl", "-e", f"alarm {SLOWNESS:.0f}; exec @ARGV", *guarded())
        if Path("/usr/bin/perl").exists()
        else (),
    )
    tree.process("command")
    needs(Path("/usr/bin/perl").exists(), "no perl")
    assert tree.event("got") == str(int(signal.SIGALRM))


def test_a_signal_that_ends_the_command_ends_the_guard_by_it(start: Start) -> None:
    for sig in signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGRTMIN:
        tree = start("signal.signal(signal.SIGINT, signal.SIG_DFL); here('command'); forever()", prefix=guarded())
        tree.process("command")
        tree.top.send_signal(sig)
        assert tree.top.wait(10) == -sig


@pytest.mark.parametrize("sig", [signal.SIGSTOP])  # the others need a terminal: test_guard_terminal.py
def test_it_stops_and_continues_as_the_command_does(start: Start, sig: signal.Signals) -> None:
    tree = start(
        "signal.signal(signal.SIGCONT, lambda *_: say('continued')); here('command')\nwhile True: signal.pause()",
        prefix=guarded(),
    )
    command = tree.process("command")
    for _ in range(3):
        command.kill(sig)
        status = os.waitpid(tree.top.pid, os.WUNTRACED)[1]
        assert os.WIFSTOPPED(status)
        assert os.WSTOPSIG(status) == sig
        command.kill(signal.SIGCONT)
        assert tree.event("continued") == ""
        assert os.WIFCONTINUED(os.waitpid(tree.top.pid, os.WCONTINUED)[1])
    tree.kill()
    assert tree.all_gone()
