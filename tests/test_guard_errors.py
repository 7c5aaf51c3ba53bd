"""pdeathsig-run where the system gives it little."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import seccomp_deny
from conftest import Start, needs
from guarding import GUARD, guarded, guards_end, reaper_of  # noqa: F401


def limited(code: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run it by exec after that Python code."""
    return subprocess.run(
        [sys.executable, "-c", f"import os, resource, sys\n{code}\nos.execv(sys.argv[1], sys.argv[1:])", *command],
        capture_output=True, text=True, check=False, timeout=15,
    )  # fmt: skip


# Nothing that needs a descriptor to start.
FRUGAL = r"""
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>
int main(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (fork() == 0)
        for (;;)
            pause();
    printf("%ld %ld", (long)limit.rlim_cur, (long)limit.rlim_max);
    fflush(stdout);
    return 7;
}
"""


@pytest.mark.parametrize("hard", ["4", "hard"])
def test_all_descriptors_taken(hard: str, tmp_path: Path) -> None:
    """Four allowed, four open. The command has its own limit back, and what it leaves is ended."""
    needs(b"__asan" not in Path(GUARD).read_bytes(), "a guard that needs shared libraries needs descriptors")
    (tmp_path / "frugal.c").write_text(FRUGAL)
    frugal = str(tmp_path / "frugal")
    made = subprocess.run(["cc", "-static", "-o", frugal, f"{frugal}.c"], capture_output=True, check=False)
    needs(made.returncode == 0, "no C compiler, or no static libc")
    code = "os.dup2(0, 3); os.set_inheritable(3, True)\nhard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
    done = limited(
        code + f"print(hard, flush=True); resource.setrlimit(resource.RLIMIT_NOFILE, (4, {hard}))", GUARD, frugal
    )
    maximum, seen = done.stdout.split("\n")
    assert (done.returncode, seen, done.stderr) == (7, f"4 {maximum if hard == 'hard' else 4}", "")


@pytest.mark.parametrize("room", range(1, 4))
def test_no_room_for_a_process(room: int, root: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    """RLIMIT_NPROC counts a user's processes. The guard is one, and needs two more."""
    copy = shutil.copy(GUARD, f"/tmp/pdeathsig-run-{os.getpid()}")  # where that user may execute it
    try:
        user = 61300 + room
        code = f"""
user, room = {user}, {room}
os.setgroups([]); os.setresgid(user, user, user)
resource.setrlimit(resource.RLIMIT_NPROC, (room, room))
os.setresuid(user, user, user)
"""
        done = limited(code, copy, "echo", "started")
    finally:
        os.unlink(copy)
    if room < 3:
        assert (done.returncode, done.stdout) == (125, "")
        assert done.stderr == "pdeathsig-run: fork: Resource temporarily unavailable\n"
    else:
        assert (done.returncode, done.stdout) == (0, "started\n")


DENIED = ["pidfd_open", "pidfd_send_signal", "close_range"]
FAMILY = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        here('double'); forever()
    os._exit(0)
os.wait()
here('command'); wait(); os._exit(3)
"""


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM])
@pytest.mark.parametrize(
    "calls", [*([call] for call in DENIED), DENIED], ids=["pidfd_open", "pidfd_send_signal", "close_range", "all"]
)
@pytest.mark.parametrize("ending", ["caller", "command", "thread"])
def test_without_newer_system_calls(start: Start, calls: list[str], error: int, ending: str) -> None:
    needs(seccomp_deny.possible(), "no system call numbers for this architecture")
    tree = start(
        f"""
import seccomp_deny, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
for call in {calls!r}:
    seccomp_deny.deny(call, {error})
def begin():
    global process
    options = ['--grace', '1', '--parent', str(os.getpid()), '--']
    process = subprocess.Popen([{GUARD!r}, *options, sys.executable, '-c', {"from actors import *" + FAMILY!r}])
if {ending == "thread"}:
    thread = threading.Thread(target=begin); thread.start(); thread.join()
    while len(os.listdir('/proc/self/task')) > 1: pass
else:
    begin()
say('monitor', process.pid)
say('status', process.wait()); wait()
"""
    )
    lines = dict(tree.line().split() for _ in range(3))
    assert set(lines) == {"monitor", "command", "double"}
    if ending == "caller":
        tree.kill()
    else:
        tree.send()
        assert tree.event("status") == "3"
        tree.send()
    assert tree.all_gone()


def test_the_guard_stops_and_is_continued(start: Start) -> None:
    """Another process stops the reaper: the monitor continues it."""
    tree = start("here('command')\nwait(); os._exit(3)", prefix=guarded())
    tree.process("command")
    os.kill(reaper_of(tree.top.pid), signal.SIGSTOP)
    tree.send()
    assert tree.top.wait(10) == 3
