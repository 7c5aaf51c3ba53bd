"""pdeathsig-run on a terminal: the keys reach the command, and the shell's job control works."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest
from guarding import GUARD, guards_end  # noqa: F401
from harness import DEADLINE, TESTS, environment


class Terminal:
    """A program that leads a session on a terminal of its own, and what appears there."""

    def __init__(self, *command: str) -> None:
        self.master, slave = pty.openpty()
        attributes = termios.tcgetattr(slave)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, cwd=TESTS, start_new_session=True,
            env=environment(PS1="$ ", TERM="dumb", HISTFILE=None, ENV=None),
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        self.seen = ""

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def see(self, pattern: str) -> re.Match[str]:
        """Wait until it appears; what came before it is forgotten."""
        until = time.monotonic() + DEADLINE
        while not (match := re.search(pattern, self.seen)):
            ready, _, _ = select.select([self.master], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"no {pattern!r} in {self.seen!r}"
            self.seen += self._read()
        self.seen = self.seen[match.end() :]
        return match

    def insist(self, key: str, pattern: str) -> None:
        """Type it until that appears: a shell names the job before it gives it the terminal."""
        until = time.monotonic() + DEADLINE
        while not re.search(pattern, self.seen):
            assert time.monotonic() < until, f"no {pattern!r} in {self.seen!r}"
            self.type(key)
            while select.select([self.master], [], [], 0.1)[0]:
                self.seen += self._read()
        self.see(pattern)

    def _read(self) -> str:
        try:
            data = os.read(self.master, 65536)
        except OSError:
            data = b""
        assert data, f"the terminal is closed; {self.seen!r}"
        return data.decode()

    def hang_up(self) -> None:
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def close(self) -> None:
        self.hang_up()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


COUNT = """
import os, signal, sys
count = {}
def note(sig, frame):
    count[sig] = count.get(sig, 0) + 1
    os.write(1, f'<{signal.Signals(sig).name} {count[sig]}>'.encode())
for name in sys.argv[1].split():
    signal.signal(getattr(signal, 'SIG' + name), note)
signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b'<total %d >' % sum(count.values())))
print('<ready', os.getpid(), '>', flush=True)
while True:
    signal.pause()
"""


def counting(*names: str) -> list[str]:
    return [sys.executable, "-S", "-c", COUNT, " ".join(names)]


def total(terminal: Terminal, monitor: int) -> str:
    """What has arrived by when a later signal, sent by way of the guard, arrives."""
    os.kill(monitor, signal.SIGUSR1)
    return terminal.see(r"<total (\d+) >")[1]


@pytest.mark.parametrize(("key", "name"), [("\x03", "SIGINT"), ("\x1c", "SIGQUIT")])
def test_a_key_reaches_the_command_once(terminals: list[Terminal], key: str, name: str) -> None:
    terminals.append(terminal := Terminal(GUARD, *counting("INT", "QUIT")))
    terminal.see("<ready")
    for count in range(1, 6):
        terminal.type(key)
        terminal.see(f"<{name} {count}>")
        assert total(terminal, terminal.process.pid) == str(count)


def test_a_new_window_size_is_told_once(terminals: list[Terminal]) -> None:
    terminals.append(terminal := Terminal(GUARD, *counting("WINCH")))
    terminal.see("<ready")
    for count in range(1, 4):
        fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("HHHH", 20 + count, 80, 0, 0))
        terminal.see(f"<SIGWINCH {count}>")
        assert total(terminal, terminal.process.pid) == str(count)


def test_ctrl_c_ends_command_and_guard_by_sigint(terminals: list[Terminal]) -> None:
    terminals.append(terminal := Terminal(GUARD, "sh", "-c", "echo '<ready>'; exec sleep 1000"))
    terminal.see("<ready>")
    terminal.type("\x03")
    assert terminal.process.wait(10) == -signal.SIGINT


def test_ctrl_c_during_the_grace_ends_it(terminals: list[Terminal]) -> None:
    deaf = "trap 'echo \"<deaf>\"' TERM INT; echo '<ready>'; while :; do sleep 0.1; done"
    terminals.append(terminal := Terminal(GUARD, "--grace", "60", "sh", "-c", f"({deaf}) & read line"))
    terminal.see("<ready>")
    terminal.type("\n")
    terminal.see("<deaf>")
    terminal.type("\x03")
    assert terminal.process.wait(10) == 0


def test_a_hangup_reaches_the_command_once(terminals: list[Terminal], tmp_path: object) -> None:
    """The guard leads the session: the kernel tells only the leader."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    code = f"""
import os, signal
signal.signal(signal.SIGHUP, lambda *_: os.write({writing}, b'H'))
signal.signal(signal.SIGUSR1, lambda *_: os._exit(3))
os.write({writing}, b'R')
while True: signal.pause()
"""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [GUARD, sys.executable, "-S", "-c", code], stdin=slave, stdout=slave, stderr=slave, pass_fds=[writing],
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(slave)
    os.close(writing)
    assert os.read(reading, 1) == b"R"
    os.close(master)
    assert os.read(reading, 1) == b"H"
    process.send_signal(signal.SIGUSR1)
    assert process.wait(10) == 3
    assert os.read(reading, 10) == b""
    os.close(reading)


SHELLS = [["bash", "--norc", "--noprofile", "-i"], ["sh", "-i"]]


@pytest.mark.parametrize("shell", SHELLS, ids=["bash", "sh"])
def test_ctrl_z_and_fg(terminals: list[Terminal], shell: list[str]) -> None:
    terminals.append(terminal := Terminal(*shell))
    terminal.see(r"\$ ")
    echo = 'trap "echo got int; exit 9" INT; echo "<ready>"; while read line; do echo "<$line>"; done'
    terminal.type(f"PS1='% '; {GUARD} sh -c '{echo}'\n")
    terminal.see("<ready>")
    for word in "one", "two":
        terminal.type("\x1a")
        terminal.see(r"Stopped|Suspended")
        terminal.see("% ")
        terminal.type("jobs\n")
        terminal.see(r"Stopped|Suspended")
        terminal.see("% ")
        terminal.type("fg\n")
        terminal.see("pdeathsig-run")
        terminal.type(f"{word}\n")
        terminal.see(f"<{word}>")
    terminal.type("\x1a")
    terminal.see(r"Stopped|Suspended")
    terminal.see("% ")
    terminal.type("fg\n")
    terminal.see("pdeathsig-run")
    terminal.type("three\n")
    terminal.see("<three>")
    terminal.type("\x03")
    terminal.see("got int")
    terminal.see("% ")
    terminal.type("echo status $?; exit\n")
    terminal.see("status 9")
    terminal.process.wait(10)


@pytest.mark.parametrize("shell", SHELLS, ids=["bash", "sh"])
def test_ctrl_z_and_bg(terminals: list[Terminal], shell: list[str]) -> None:
    terminals.append(terminal := Terminal(*shell))
    terminal.see(r"\$ ")
    terminal.type(f"PS1='% '; {GUARD} sh -c 'echo \"<ready>\"; exec sleep 1000'\n")
    terminal.see("<ready>")
    terminal.type("\x1a")
    terminal.see(r"Stopped|Suspended")
    terminal.see("% ")
    terminal.type("bg; jobs -l; echo asked\n")
    terminal.see("Running")
    terminal.see("asked")
    terminal.see("% ")
    terminal.type("fg; echo status $?\n")
    terminal.see("pdeathsig-run")
    terminal.insist("\x03", "% ")
    terminal.type("exit 3\n")
    assert terminal.process.wait(10) == 3


@pytest.mark.parametrize("shell", SHELLS, ids=["bash", "sh"])
def test_an_interactive_shell_as_the_command(terminals: list[Terminal], shell: list[str]) -> None:
    terminals.append(terminal := Terminal(GUARD, *shell))
    terminal.see(r"\$ ")
    terminal.type("PS1='% '; sh -c 'echo \"<ready>\"; exec sleep 1000'\n")
    terminal.see("<ready>")
    terminal.type("\x1a")
    terminal.see(r"Stopped|Suspended")
    terminal.see("% ")
    terminal.type("bg\n")
    terminal.see("% ")
    terminal.type("fg\n")
    terminal.see("sleep")
    terminal.insist("\x03", "% ")
    terminal.type("sleep 1000 & exit 4\n")
    terminal.type("exit 4\n")
    assert terminal.process.wait(10) == 4


def test_a_pipeline_is_in_the_foreground(terminals: list[Terminal]) -> None:
    terminals.append(terminal := Terminal(*SHELLS[0]))
    terminal.see(r"\$ ")
    terminal.type(f"PS1='% '; {GUARD} sh -c 'read line </dev/tty; echo \"<$line>\"; exec sleep 1000' | cat\n")
    terminal.type("hello\n")
    terminal.see("<hello>")
    terminal.type("\x03")
    terminal.see("% ")
    terminal.type("echo status ${PIPESTATUS[@]}; exit\n")
    terminal.see(rf"status {128 + signal.SIGINT}")
    terminal.process.wait(10)
