"""pdeathsig-run as PID 1, below a caller without a PID here, without /proc or with part of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import Start, needs
from guarding import GUARD, children, guarded, guards_end  # noqa: F401
from harness import SLOWNESS

NAMES = {"command", "double"}
FAMILY = """
def away(times):
    for _ in range(times):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                if times > 1:
                    os._exit(0)
                here('double'); forever()
            os._exit(0)
        os.wait()
"""


@pytest.fixture
def as_init() -> tuple[str, ...]:
    prefix = ["unshare", "--pid", "--fork", "--mount-proc"]
    prefix += [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    tried = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    needs(tried.returncode == 0, f"unshare is not allowed here: {tried.stderr.strip()}")
    return tuple(prefix)


def test_init_reaps_all(start: Start, as_init: tuple[str, ...]) -> None:
    tree = start(
        FAMILY
        + """
away(200)
here('command')
import time
def others():
    return [pid for pid in os.listdir('/proc') if pid.isdigit() and int(pid) not in (1, os.getppid(), os.getpid())]
until = time.monotonic() + 5
while (left := others()) and time.monotonic() < until: os.sched_yield()
say('left', *left)
""",
        prefix=(*as_init, *guarded()),
    )
    assert tree.event("command") != "1"
    assert tree.event("left") == ""
    assert tree.top.wait(10) == 0


def test_init_forwards_signals_and_tells_a_death_by_its_number(start: Start, as_init: tuple[str, ...]) -> None:
    tree = start(
        "signal.signal(signal.SIGUSR1, lambda *_: say('got')); here('command')\nwhile True: signal.pause()",
        prefix=(*as_init, *guarded()),
    )
    tree.event("command")
    (init,) = children(tree.top.pid)
    for _ in range(3):
        os.kill(init, signal.SIGUSR1)
        tree.event("got")
    os.kill(init, signal.SIGTERM)
    assert tree.top.wait(10) == 128 + signal.SIGTERM


def test_init_ends_what_is_left(start: Start, as_init: tuple[str, ...]) -> None:
    tree = start(FAMILY + "away(1); here('command'); wait(); os._exit(6)", prefix=(*as_init, *guarded()))
    assert {tree.line().split()[0], tree.line().split()[0]} == NAMES
    tree.send()
    assert tree.top.wait(10) == 6
    assert tree.all_gone()


def test_a_caller_outside_ends(start: Start, as_init: tuple[str, ...]) -> None:
    """Its death is told by a signal alone: getppid() is 0 before and after."""
    tree = start(FAMILY + "away(1); here('command'); forever()", prefix=(*as_init, *guarded()))
    assert {tree.line().split()[0], tree.line().split()[0]} == NAMES
    (init,) = children(tree.top.pid)
    tree.adopt(str(init))
    tree.kill()
    assert tree.all_gone()


def test_without_proc(start: Start, as_init: tuple[str, ...]) -> None:
    tree = start(
        FAMILY + "away(1); here('command'); wait(); os._exit(6)",
        prefix=(
            *as_init,
            "sh",
            "-c",
            'mount -t tmpfs none /proc && exec "$@"',
            "sh",
            GUARD,
            "--grace",
            "1",
            GUARD,
            "--grace",
            "1",
        ),
    )
    assert {tree.line().split()[0], tree.line().split()[0]} == NAMES
    begun = time.monotonic()
    tree.send()
    assert tree.top.wait(18 * SLOWNESS) == 6
    assert time.monotonic() - begun < 12 * SLOWNESS
    assert tree.all_gone()


@pytest.mark.parametrize("hidden", [False, True])
def test_what_may_not_be_ended_is_named_once(root: None, hidden: bool) -> None:
    """A set-user-ID-root program below an ordinary user's command."""
    copy = shutil.copy(GUARD, f"/tmp/pdeathsig-run-{os.getpid()}")
    become_root = shutil.copy(shutil.which("setpriv") or "", f"/tmp/setpriv-{os.getpid()}")
    os.chmod(become_root, 0o4755)
    fifo = f"/tmp/fifo-{os.getpid()}"
    errors = Path(f"/tmp/errors-{os.getpid()}")  # a pipe of another user's cannot be opened anew for that line
    errors.touch()
    errors.chmod(0o666)
    os.mkfifo(fifo)
    os.chmod(fifo, 0o666)
    program = f'sh -c "echo \\$\\$ >{fifo}; exec sleep 1000"'
    command = f"{become_root} --reuid 0 {program} >/dev/null 2>&1 & read pid <{fifo}; echo $pid; exit 8"
    mount = f"mount -o remount,hidepid={2 if hidden else 0} /proc"
    user = "setpriv --reuid 61400 --regid 61400 --clear-groups"
    begun = time.monotonic()
    try:
        done = subprocess.run(
            ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c",
             f"{mount}; {user} {copy} --grace 0.1 sh -c '{command}' 2>>{errors}; echo status $?"],
            capture_output=True, text=True, check=False, timeout=18 * SLOWNESS,
        )  # fmt: skip
    finally:
        os.unlink(copy)
        os.unlink(become_root)
        os.unlink(fifo)
        said = errors.read_text()
        errors.unlink()
    pid, status = done.stdout.splitlines()
    assert status == "status 8"
    name = f"process {pid}" if hidden else f"sleep [{pid}]"
    assert said == f"pdeathsig-run: {name} could not be ended: not permitted\n"
    assert time.monotonic() - begun < 15 * SLOWNESS
