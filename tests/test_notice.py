"""The notice: one line on stderr before pdeathsig ends a process."""

from __future__ import annotations

import os
import subprocess
import termios

import pytest
from conftest import Start
from harness import Tree

CHILD = "import pdeathsig; pdeathsig.arm({args}); {then}here('child'); forever()"


def orphan(start: Start, args: str = "", then: str = "", **environment: str) -> tuple[Tree, int]:
    tree = start(f"python({CHILD.format(args=args, then=then)!r}); forever()", **environment)
    child = tree.process("child")
    tree.kill()
    assert child.dies()
    return tree, child.pid


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("", "SIGKILL to {child}"),
        ("signal.SIGTERM", "SIGTERM to {child}"),
        ("signal.SIGTERM, grace=5", "SIGTERM to {child}, SIGKILL in 5 s"),
        ("signal.SIGRTMIN + 3", "SIGRTMIN+3 to {child}"),
    ],
)
def test_the_notice_names_the_dead_parent_and_the_signal(start: Start, args: str, words: str) -> None:
    tree, child = orphan(start, args)
    assert tree.stderr() == f"pdeathsig: parent {tree.top.pid} is gone; {words.format(child=child)}\n"


def test_quiet(start: Start) -> None:
    tree, _ = orphan(start, PDEATHSIG_QUIET="1")
    assert tree.stderr() == ""


def test_stderr_is_a_broken_pipe(start: Start) -> None:
    """There is neither SIGPIPE nor a hang. SIGTERM's handler runs, with SIGPIPE at its default."""
    then = (
        "signal.signal(signal.SIGPIPE, signal.SIG_DFL); "
        "signal.signal(signal.SIGTERM, lambda *_: (say('handled'), os._exit(0))); "
        "r, w = os.pipe(); os.dup2(w, 2); os.close(w); os.close(r); "
    )
    tree, _ = orphan(start, "signal.SIGTERM", then)
    tree.event("handled")


def test_stderr_is_a_full_pipe_without_a_reader(start: Start) -> None:
    then = (
        "r, w = os.pipe(); os.set_blocking(w, False); "
        "exec('try:\\n while os.write(w, bytes(65536)): pass\\nexcept BlockingIOError: pass'); "
        "os.set_blocking(w, True); os.dup2(w, 2); "
    )
    orphan(start, then=then)


def test_stderr_is_closed(start: Start) -> None:
    orphan(start, then="os.close(2); ")


def test_a_file_opened_where_stderr_was_is_not_written_to(start: Start, tmp_path: object) -> None:
    path = f"{tmp_path}/database"
    orphan(start, then=f"os.close(2); assert os.open({path!r}, os.O_RDWR | os.O_CREAT) == 2; ")
    assert os.stat(path).st_size == 0


def test_stderr_is_a_file(start: Start, tmp_path: object) -> None:
    with open(f"{tmp_path}/log", "w+") as log:
        tree = start(
            f"python({CHILD.format(args='', then='')!r}, stderr={log.fileno()}); forever()",
            options={"pass_fds": [log.fileno()]},
        )
        child = tree.process("child")
        tree.kill()
        assert child.dies()
        log.seek(0)
        assert log.read() == f"pdeathsig: parent {tree.top.pid} is gone; SIGKILL to {child.pid}\n"


def test_stderr_is_a_terminal(start: Start) -> None:
    leader, follower = os.openpty()
    try:
        tree = start(
            f"python({CHILD.format(args='', then='')!r}, stderr={follower}); forever()",
            options={"pass_fds": [follower]},
        )
        child = tree.process("child")
        tree.kill()
        assert child.dies()
        assert os.read(leader, 1000).decode().startswith(f"pdeathsig: parent {tree.top.pid} is gone")
    finally:
        os.close(leader)
        os.close(follower)


def test_without_a_death_there_is_no_notice(start: Start) -> None:
    tree = start("import pdeathsig; pdeathsig.arm(); say('done')")
    tree.event("done")
    assert tree.stderr() == ""
    assert isinstance(tree.top, subprocess.Popen)


def test_no_stderr_at_start(start: Start, tmp_path: object) -> None:
    """A file that is opened there later belongs to the program."""
    fifo = f"{tmp_path}/fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        tree = start(
            (
                f"python('os.close(2); import pdeathsig; pdeathsig.arm(); "
                f"assert os.open({fifo!r}, os.O_WRONLY) == 2; here(1); forever()'); forever()"
            ).replace(repr(fifo), f'"{fifo}"')
        )
        child = tree.process("1")
        tree.kill()
        assert child.dies()
        assert os.read(reader, 100) == b""
    finally:
        os.close(reader)


def test_a_background_job_is_not_stopped_by_its_own_notice(start: Start) -> None:
    """With stty tostop, a write to the terminal from the background raises SIGTTOU."""
    leader, follower = os.openpty()
    attributes = termios.tcgetattr(follower)
    attributes[3] |= termios.TOSTOP
    termios.tcsetattr(follower, termios.TCSANOW, attributes)
    code = """
import pdeathsig
signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.setpgid(0, 0)
before = os.getppid()
import pdeathsig
here("child")
while os.getppid() == before: os.sched_yield()
pdeathsig.arm()
"""
    try:
        tree = start(
            f"""
import fcntl, termios
if os.fork() == 0:
    os.setsid()
    fcntl.ioctl({follower}, termios.TIOCSCTTY, 0)
    here('leader')
    middle = os.fork()
    if middle == 0:
        python({code!r}, stderr={follower})
        here('middle')
        forever()
    forever()
forever()
""",
            options={"pass_fds": [follower]},
        )
        seen = dict(tree.line().split() for _ in range(3))
        child = tree.adopt(seen["child"])
        tree.adopt(seen["leader"])
        tree.adopt(seen["middle"]).kill()
        assert child.dies()
    finally:
        os.close(leader)
        os.close(follower)
