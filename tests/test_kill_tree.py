"""kill_tree ends the whole tree at once, and no other process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Start, descendants, needs
from harness import Process, line, run, shm_manager

import pdeathsig

EMPTY = ((), (), ())


def shell(code: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["bash", "-c", code], stdout=subprocess.PIPE, **options)


def test_communicate_returns_because_no_process_holds_the_pipe() -> None:
    with shell("echo up; watch -n 1000 true & setsid sleep 1000 & sleep 1000 | sleep 1000; :") as process:
        assert line(process) == "up"
        assert process.pid in pdeathsig.kill_tree(process).signalled
        assert process.returncode == -signal.SIGTERM
        process.communicate()  # until the end of the pipe to which watch(1) writes


def test_sessions_and_groups_at_several_levels(start: Start) -> None:
    tree = start(
        """
import pdeathsig
sessions = 'setsid sh -c "setsid sh -c \\\\"echo up; sleep 1000; :\\\\" & sleep 1000; :" &'
p = subprocess.Popen(['bash', '-c', sessions + ' set -m; sleep 1000 & wait'])
wait()
ended = pdeathsig.kill_tree(p)
say('ended', len(ended.signalled), ended.killed, ended.left, p.returncode)
wait()
""",
    )
    tree.event("up")
    while len(descendants(tree.top.pid)) < 6:
        os.sched_yield()
    members = [tree.adopt(str(pid)) for pid in descendants(tree.top.pid)]
    tree.send()
    assert tree.event("ended") == "6 () () -15"
    assert all(member.dies(within=0) for member in members)
    tree.send()
    assert tree.all_gone()


@pytest.mark.parametrize("threads", [0, 1])
def test_a_process_that_forks_with_the_signal_blocked_leaves_no_child(start: Start, threads: int) -> None:
    """bash and posix_spawn(3) block it. A process stopped there would go on, fork and then die."""
    tree = start(
        f"""
import pdeathsig
forker = '''
import os, signal, sys, threading, time
forever = threading.Event().wait
term = {{signal.SIGTERM}}
signal.pthread_sigmask(signal.SIG_BLOCK, term)
for _ in range({threads}): threading.Thread(target=forever, daemon=True).start()
def busy(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until: pass
while True:
    signal.pthread_sigmask(signal.SIG_BLOCK, term)
    os.write(1, b'.')
    busy(0.003)
    pid = os.fork()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, term)
    if pid == 0: forever()
    busy(0.02)
'''
for turn in range(5):
    p = subprocess.Popen([sys.executable, '-c', forker], stdout=subprocess.PIPE)
    p.stdout.read(1 + turn)
    ended = pdeathsig.kill_tree(p)
    say('ended', p.returncode, len(ended.signalled) > 1, ended.killed, ended.left)
    p.stdout.read()  # EOF: no process has the pipe
    say('eof')
wait()
""",
    )
    for _ in range(5):
        assert tree.event("ended") == "-15 True () ()"
        tree.event("eof")
    tree.send()
    assert tree.all_gone()


def test_a_process_that_always_blocks_the_signal_can_wait_for_it(start: Start) -> None:
    tree = start(
        """
import pdeathsig
code = '''
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
os.write(1, b'.')
signal.sigwait({signal.SIGTERM})
os.write(1, b'heard')
'''
p = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE)
p.stdout.read(1)
ended = pdeathsig.kill_tree(p)
say('ended', p.stdout.read().decode(), p.returncode, ended.signalled == (p.pid,), ended.killed, ended.left)
""",
    )
    assert tree.event("ended") == "heard 0 True () ()"


def test_only_a_process_that_ignores_it_is_killed_after_the_grace(start: Start) -> None:
    tree = start(
        """
import pdeathsig, time
script = "sh -c 'trap : TERM; echo deaf $$; while :; do sleep 1000; done' & sleep 1000 & wait"
p = subprocess.Popen(['bash', '-c', script])
wait()
before = time.monotonic()
ended = pdeathsig.kill_tree(p, grace=0.3)
say('ended', 0.3 <= time.monotonic() - before < 3, len(ended.signalled), *ended.killed)
""",
    )
    deaf = tree.process("deaf")
    while len(descendants(tree.top.pid)) < 4:
        os.sched_yield()
    tree.send()
    in_time, signalled, *killed = tree.event("ended").split()
    assert (in_time, signalled) == ("True", "4")
    assert str(deaf.pid) in killed
    assert len(killed) == 2  # it and its new sleep, started meanwhile
    tree.top.wait(10)
    assert tree.all_gone()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_stopped_processes_act_on_the_signal(sig: int) -> None:
    with shell("trap 'echo bye; exit 3' TERM; echo up; kill -STOP $$; :") as process:
        assert line(process) == "up"
        witness = Process(process.pid)
        witness.wait_for_state("T")
        assert pdeathsig.kill_tree(process, sig) == ((process.pid,), (), ())
        assert line(process) == ("bye" if sig == signal.SIGTERM else "")
        witness.close()


def test_a_recycled_or_reaped_target_is_left_alone() -> None:
    with shell("exit 0") as process:
        process.wait()
        assert pdeathsig.kill_tree(process) == EMPTY
    with shell("echo; sleep 1000") as other:
        line(other)
        process.pid = other.pid  # as if the PID had been reused
        assert pdeathsig.kill_tree(process) == EMPTY
        assert other.poll() is None
        other.kill()


def test_a_pid_recycled_during_the_grace_is_not_signalled() -> None:
    """A process is known by PID and start time. With another start time it is another process."""
    from pdeathsig._base import procfs  # private: a PID cannot be made to come round at that moment
    from pdeathsig._kill import tree

    with shell("echo; exec sleep 1000") as process:
        line(process)
        now = procfs.read(process.pid)
        assert now is not None
        with tree._Ending() as ending:
            ending.add(process.pid, now.start - 1)
            ending.signal(signal.SIGKILL, 4)
            assert ending.wait(0, False)
        assert process.poll() is None
        process.kill()


def test_a_zombie_is_left_alone_and_a_reaped_process_is_an_error() -> None:
    with shell("exit 0") as process:
        witness = Process(process.pid)
        assert witness.dies()
        witness.close()
        assert pdeathsig.kill_tree(process.pid) == EMPTY
        assert process.returncode is None
    with pytest.raises(ProcessLookupError):
        pdeathsig.kill_tree(process.pid)


class Psutil:
    def __init__(self, pid: int, running: bool) -> None:
        self.pid, self._running = pid, running

    def is_running(self) -> bool:
        return self._running


def test_a_psutil_process() -> None:
    with shell("echo; sleep 1000") as process:
        line(process)
        assert pdeathsig.kill_tree(Psutil(process.pid, False)) == EMPTY
        assert process.pid in pdeathsig.kill_tree(Psutil(process.pid, True)).signalled


def test_an_asyncio_process() -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec("sh", "-c", "sleep 1000; :")
        assert process.pid in (await asyncio.to_thread(pdeathsig.kill_tree, process)).signalled
        assert await process.wait() == -signal.SIGTERM
        assert pdeathsig.kill_tree(process) == EMPTY

    asyncio.run(main())


@pytest.mark.parametrize(
    "target", [os.getpid(), os.getppid(), 0, 1, -1, 2**31], ids=["we", "parent", "0", "1", "-1", "2**31"]
)
def test_the_caller_and_its_ancestors_are_refused(target: int) -> None:
    with pytest.raises(ValueError, match="^target: "):
        pdeathsig.kill_tree(target)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"target": "1"}, "target"),
        ({"target": None}, "target"),
        ({"target": True}, "target"),
        ({"target": 2**30, "sig": "TERMINATE"}, "sig"),
        ({"target": 2**30, "sig": 0}, "sig"),
        ({"target": 2**30, "grace": None}, "grace"),
        ({"target": 2**30, "grace": -1}, "grace"),
        ({"target": 2**30, "grace": float("nan")}, "grace"),
    ],
)
@pytest.mark.parametrize("function", [pdeathsig.kill_tree, pdeathsig.kill_group])
def test_errors_name_the_argument(function: Any, arguments: dict[str, Any], error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{error}: "):
        function(**arguments)


def test_an_interrupt_gets_through_and_no_process_stays_stopped(start: Start) -> None:
    tree = start(
        """
import pdeathsig
code = ("from actors import *; signal.signal(15, lambda *_: say('deaf')); {}; here('member'); \\n"
    "while True: signal.pause()")
p = subprocess.Popen([sys.executable, '-c', code.format(f'python({code.format(0)!r})')])
wait()
signal.signal(signal.SIGINT, signal.default_int_handler)
try: pdeathsig.kill_tree(p, grace=1000)
except KeyboardInterrupt: say('interrupted')
wait()
pdeathsig.kill_tree(p, signal.SIGKILL)
""",
    )
    members = [tree.process("member") for _ in range(2)]
    tree.send()
    assert {tree.line(), tree.line()} == {"deaf"}  # both got SIGTERM, so the grace has begun
    tree.top.send_signal(signal.SIGINT)
    assert tree.line() == "interrupted"
    assert all(member.alive() and member.state() not in "Tt" for member in members)
    tree.send()
    assert tree.all_gone()


def test_processes_that_fork_as_fast_as_they_can_are_ended(start: Start) -> None:
    """All ignore SIGTERM. A byte in a pipe allows one fork, and there are 400."""
    tree = start(
        """
import pdeathsig
code = '''
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(1, b"storm\\\\n")
tokens, more = os.pipe()
os.write(more, bytes(400))
os.close(more)
while os.read(tokens, 1):
    if os.fork() == 0: os.setsid()
while True: signal.pause()
'''
p = subprocess.Popen([sys.executable, '-c', code])
wait()
ended = pdeathsig.kill_tree(p, grace=0.05)
say('ended', ended.left)
""",
    )
    tree.event("storm")
    tree.send()
    assert tree.event("ended") == "()"
    assert tree.all_gone()


def test_a_resource_tracker_unlinks_its_shared_memory() -> None:
    code = """
from multiprocessing import shared_memory
import signal
memory = shared_memory.SharedMemory(create=True, size=10)
print(memory.name, flush=True)
signal.pause()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert Path("/dev/shm", name.lstrip("/")).exists()
        assert pdeathsig.kill_tree(process, signal.SIGKILL) == ((process.pid,), (), ())
        assert not Path("/dev/shm", name.lstrip("/")).exists()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_torch_s_manager_of_shared_memory_does_its_work(start: Start, tmp_path: Path, sig: int) -> None:
    tree = start(
        f"""
import pdeathsig
top = python({shm_manager(tmp_path)!r} + 'forever()')
wait()
say('ended', *pdeathsig.kill_tree(top, {int(sig)})[1:])
""",
    )
    memory = Path(tree.event("memory"))
    assert memory.read_text() == "in use\n"
    tree.send()
    assert tree.event("ended") == "() ()"
    assert memory.read_text() == "unlinked\n"


def test_few_descriptors_are_enough_and_too_few_change_nothing() -> None:
    code = """
import os, pdeathsig, resource, signal, subprocess
def text(path):
    with open(path) as file: return file.read()
p = subprocess.Popen(['bash', '-c', 'for i in $(seq 50); do sleep 1000 & done; echo; wait'], stdout=subprocess.PIPE)
p.stdout.readline()
pdeathsig.kill_tree
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
try:
    while True: taken.append(os.dup(0))
except OSError: pass
for spare in range(3):
    try:
        pdeathsig.kill_tree(p)
        print('done')
    except OSError as error: print(error.errno)
    else: break
    for child in text(f'/proc/{p.pid}/task/{p.pid}/children').split() if spare else ():
        assert 'T' not in text(f'/proc/{child}/stat').split()[2]
    os.close(taken.pop())
    if spare == 0: assert p.poll() is None
"""
    ended = run(code)
    assert ended.stdout.split()[-1] == "done", ended.stderr
    assert ended.stdout.split()[0] == "24"
    assert not ended.stderr


def test_a_process_without_its_main_thread_is_ended() -> None:
    code = (
        "import ctypes, os, threading, signal; "
        "threading.Thread(target=lambda: (os.write(1, b'up\\n'), threading.Event().wait())).start(); "
        "ctypes.CDLL(None).pthread_exit(None)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert line(process) == "up"
        witness = Process(process.pid)
        witness.wait_for_state("Z")
        assert witness.alive()
        assert pdeathsig.kill_tree(process) == ((process.pid,), (), ())
        witness.close()


@pytest.mark.parametrize("denied", ["faccessat", "pidfd_open"])
def test_without_lists_of_children_or_pidfds(denied: str) -> None:
    import seccomp_deny

    needs(seccomp_deny.possible(), "no filter for this machine")
    code = f"""
import pdeathsig, seccomp_deny, subprocess
p = subprocess.Popen(['bash', '-c', 'setsid sh -c "echo; sleep 1000; :" & wait'], stdout=subprocess.PIPE)
p.stdout.readline()
while not [x for x in open(f'/proc/{{p.pid}}/task/{{p.pid}}/children').read().split()
    if open(f'/proc/{{x}}/task/{{x}}/children').read()]: pass
seccomp_deny.deny('{denied}', 38)
ended = pdeathsig.kill_tree(p)
print(len(ended.signalled), ended.killed, ended.left, p.returncode)
"""
    assert run(code).stdout == "3 () () -15\n"


def test_a_process_that_may_not_be_signalled_is_left(root: None) -> None:
    code = """
import os, pdeathsig, subprocess
pdeathsig.kill_tree  # imported while it can be read
p = subprocess.Popen(['sleep', '1000'], stdout=-3, stderr=-3)
os.setresuid(65534, 65534, 65534)
ended = pdeathsig.kill_tree(p)
print(ended == ((), (), (p.pid,)), p.poll())
import sys; sys.stdout.flush()
"""
    assert run(code).stdout == "True None\n"
    for pid in descendants(os.getpid()):
        os.kill(pid, signal.SIGKILL)


def test_another_namespaces_proc_is_refused(root: None) -> None:
    code = "import pdeathsig\ntry: pdeathsig.kill_tree(12345)\nexcept OSError as e: print(e.errno)"
    ended = subprocess.run(
        ["unshare", "--pid", "--fork", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    needs(ended.returncode == 0, f"unshare is not allowed here: {ended.stderr}")
    assert ended.stdout == "95\n"
