"""pid is the command's PID, also with a guard in between; the guard's is guard_pid."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from actors import pidfd_open
from conftest import Start, descendants

import pdeathsig

SLEEP = ["sleep", "1000"]
ESCAPE = "(setsid sh -c 'echo up; exec sleep 1000' &); "


def sleeper(**options: Any) -> pdeathsig.Popen[Any]:
    return pdeathsig.Popen(SLEEP, scope="tree", **options)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_pid_is_the_command_s_and_guard_pid_the_guard_s() -> None:
    with sleeper() as p:
        assert p.guard_pid is not None
        assert Path(f"/proc/{p.guard_pid}/comm").read_text() == "pdeathsig-run\n"
        assert parent_of(parent_of(p.pid)) == p.guard_pid
        assert p.command_pid == p.pid
        os.sched_setaffinity(p.pid, {min(os.sched_getaffinity(0))})
        p.kill()
    with pdeathsig.Popen(SLEEP) as plain:
        assert plain.guard_pid is None
        assert plain.command_pid == plain.pid
        plain.kill()


def test_waitpid_knows_the_guard_alone() -> None:
    p = sleeper()
    with pytest.raises(ChildProcessError):
        os.waitpid(p.pid, os.WNOHANG)
    p.terminate()
    assert p.guard_pid is not None
    assert os.waitpid(p.guard_pid, 0) == (p.guard_pid, signal.SIGTERM)
    assert p.wait() == p.returncode == 0  # other code has taken the status, as with subprocess


def test_poll_after_other_code_has_reaped_the_guard() -> None:
    p = sleeper()
    p.terminate()
    assert p.guard_pid is not None
    os.waitpid(p.guard_pid, 0)
    assert p.poll() == 0


def test_the_waits_of_subprocess() -> None:
    p = pdeathsig.Popen(["sh", "-c", "read _; exit 7"], stdin=-1, scope="tree")
    assert p.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        p.wait(0.01)
    p.communicate(b"\n", timeout=10)
    assert p.poll() == p.wait() == p.wait(1) == 7
    with pdeathsig.Popen("exit 3", shell=True) as shell:
        assert shell.wait(10) == 3
    with pdeathsig.Popen("exit 4", shell=True) as shell:
        until = time.monotonic() + 10
        while shell.poll() is None and time.monotonic() < until:
            os.sched_yield()
        assert shell.returncode == 4


def test_kill_by_pid_ends_all() -> None:
    p = pdeathsig.Popen(["sh", "-c", ESCAPE + "exec sleep 1000"], stdout=-1, scope="tree", pdeathsig=signal.SIGTERM)
    assert p.stdout is not None
    p.stdout.readline()
    os.kill(p.pid, signal.SIGKILL)
    assert p.communicate()[0] == b""
    assert p.returncode == -signal.SIGKILL
    assert not descendants(os.getpid())


def test_a_pidfd_of_the_command_tells_of_its_end() -> None:
    with sleeper() as p:
        pidfd = pidfd_open(p.pid)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            assert poll.poll(0) == []
            p.terminate()
            assert poll.poll(10_000)
        finally:
            os.close(pidfd)


LEADERS: dict[str, dict[str, Any]] = {
    "start_new_session": {"start_new_session": True},
    "os.setsid": {"preexec_fn": os.setsid},
    "os.setpgrp": {"preexec_fn": os.setpgrp},
}
if sys.version_info >= (3, 11):
    LEADERS["process_group"] = {"process_group": 0}


@pytest.mark.parametrize("how", LEADERS)
@pytest.mark.parametrize("scope", ["child", "group", "tree"])
def test_a_leader_leads_and_killpg_reaches_its_group(how: str, scope: Any) -> None:
    code = "sleep 1000 & trap 'exit 5' TERM; echo $!; wait"
    p = pdeathsig.Popen(["sh", "-c", code], stdout=-1, scope=scope, grace=5, **LEADERS[how])
    assert p.stdout is not None
    below = int(p.stdout.readline())
    assert os.getpgid(p.pid) == os.getpgid(below) == p.pid
    assert p.guard_pid is not None
    assert os.getpgid(p.guard_pid) == p.guard_pid
    assert (os.getsid(p.pid) == p.pid) == (how in ("start_new_session", "os.setsid"))
    os.killpg(p.pid, signal.SIGTERM)
    p.communicate()  # returns as sleep, which holds the pipe, has ended too
    assert p.returncode == 5


@pytest.mark.parametrize("scope", ["child", "group", "tree"])
def test_sigtstp_stops_a_command_that_leads_a_group(scope: Any) -> None:
    """The kernel discards it where no parent in the session could continue the group."""
    p = pdeathsig.Popen(SLEEP, scope=scope, grace=5, preexec_fn=os.setpgrp)
    assert p.guard_pid is not None
    for _ in range(2):
        os.killpg(p.pid, signal.SIGTSTP)
        assert os.waitpid(p.guard_pid, os.WUNTRACED)[1] >> 8 == signal.SIGTSTP
        p.send_signal(signal.SIGCONT)
        assert os.waitpid(p.guard_pid, os.WCONTINUED)[1] == 0xFFFF
    p.kill()
    assert p.wait() == -signal.SIGKILL


@pytest.mark.skipif(sys.version_info < (3, 11), reason="process_group is new in Python 3.11")
def test_a_member_of_another_group_is_one() -> None:
    with sleeper(start_new_session=True) as leader, sleeper() as member:
        assert os.getpgid(member.pid) == os.getpgrp()
        with pytest.raises(PermissionError):
            sleeper(process_group=leader.pid)  # of another session
        leader.kill()
        member.kill()


def test_under_install_the_command_is_in_the_guard_s_group() -> None:
    """There the PID that the caller sees is the guard's."""
    pdeathsig.install(scope="tree")
    try:
        p = subprocess.Popen(["sh", "-c", "sleep 1000 & echo $$; wait"], stdout=-1, start_new_session=True)
    finally:
        pdeathsig.uninstall()
    assert p.stdout is not None
    assert os.getpgid(int(p.stdout.readline())) == p.pid
    os.killpg(p.pid, signal.SIGTERM)
    p.communicate()
    assert p.returncode == -signal.SIGTERM


def test_a_session_with_a_terminal_keeps_it() -> None:
    master, terminal = os.openpty()
    code = """
import fcntl, os, termios
os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY)
"""
    try:
        done = pdeathsig.run(
            "exec 3</dev/tty && read -r _ _ _ _ group _ _ foreground _ </proc/$$/stat; echo $foreground $group",
            shell=True, stdin=terminal, stdout=-1, text=True, preexec_fn=lambda: exec(code),
        )  # fmt: skip
    finally:
        os.close(master)
        os.close(terminal)
    foreground, group = done.stdout.split()
    assert done.returncode == 0
    assert foreground == group


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_kill_tree_ends_what_is_below_the_guard_and_reaps(sig: int) -> None:
    p = pdeathsig.Popen(["sh", "-c", ESCAPE + "sleep 1000; :"], stdout=-1, scope="tree")
    assert p.stdout is not None
    p.stdout.readline()
    ended = pdeathsig.kill_tree(p, sig)
    assert p.pid in ended.signalled
    assert not ended.left
    assert p.returncode == -sig
    assert p.communicate()[0] == b""
    assert not descendants(os.getpid())
    assert pdeathsig.kill_tree(p) == ((), (), ())


def test_kill_group_ends_the_group_of_the_command() -> None:
    p = pdeathsig.Popen(["sh", "-c", "sleep 1000 & echo; wait"], stdout=-1, scope="tree", start_new_session=True)
    assert p.stdout is not None
    p.stdout.readline()
    ended = pdeathsig.kill_group(p)
    assert p.pid in ended.signalled
    assert p.guard_pid not in ended.signalled
    p.communicate()
    assert p.returncode == -signal.SIGTERM


def test_repr_tells_what_is_bound() -> None:
    for options, more in (
        ({}, " scope: 'child'"),
        ({"scope": "group"}, " scope: 'group'"),
        ({"pdeathsig": None}, ""),
        ({"scope": "tree"}, " guard_pid: {guard_pid} scope: 'tree' grace: 0"),
        ({"grace": 2.5}, " guard_pid: {guard_pid} scope: 'child' grace: 2.5"),
    ):
        with pdeathsig.Popen(SLEEP, **options) as p:
            start = f"<Popen: returncode: None args: ['sleep', '1000'] pid: {p.pid}"
            assert repr(p) == start + more.format(guard_pid=p.guard_pid) + ">"
            p.kill()


@pytest.mark.parametrize("close", [False, True])
def test_asyncio(close: bool) -> None:
    async def main() -> None:
        p = await pdeathsig.create_subprocess_shell(ESCAPE + "exec sleep 1000", stdout=-1, pdeathsig=signal.SIGTERM)
        assert p.stdout is not None
        assert await p.stdout.readline() == b"up\n"
        assert p.command_pid == p.pid
        assert parent_of(parent_of(p.pid)) == p.guard_pid
        if close:
            p._transport.close()  # type: ignore[attr-defined]
        else:
            p.kill()
        assert await p.wait() == -signal.SIGKILL
        assert (await p.communicate())[0] == b""
        plain = await pdeathsig.create_subprocess_exec("true")
        assert plain.guard_pid is None
        assert await plain.wait() == 0

    asyncio.run(main())


def test_it_is_reaped_when_the_object_is_gone(start: Start) -> None:
    """As in subprocess: a later Popen reaps it."""
    tree = start("""
import gc, pdeathsig, warnings
warnings.simplefilter('ignore')
p = pdeathsig.Popen(['sleep', '1000'], scope='tree')
pid, guard_pid = p.pid, p.guard_pid
os.kill(pid, signal.SIGKILL)
os.waitid(os.P_PID, guard_pid, os.WEXITED | os.WNOWAIT) if hasattr(os, 'waitid') else None
del p; gc.collect()
subprocess.run(['true'])
say('gone', not os.path.exists(f'/proc/{guard_pid}'))
""")
    assert tree.event("gone") == "True"


def test_an_interrupted_start_ends_the_guard() -> None:
    popen: Any = pdeathsig.Popen

    class Interrupted(popen):  # type: ignore[misc]
        def _execute_child(self, *args: Any) -> None:
            super()._execute_child(*args)
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        Interrupted(["sh", "-c", ESCAPE + "exec sleep 1000"], scope="tree")
    until = time.monotonic() + 10
    while descendants(os.getpid()) and time.monotonic() < until:
        os.sched_yield()
    assert not descendants(os.getpid())


def test_a_wait_that_the_guard_outlasts_by_a_moment_is_no_timeout() -> None:
    """The program ends after half of the time, its guard a grace later."""
    deaf = "trap '' TERM; echo; exec sleep 1000"
    with pdeathsig.Popen(f'sh -c "{deaf}" & exec sleep 2', shell=True, pdeathsig="TERM", grace=0.3, stdout=-1) as p:
        assert p.stdout is not None
        p.stdout.readline()
        assert p.wait(timeout=3.9) == 0
