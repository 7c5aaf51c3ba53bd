"""scope="group": the kernel ends the whole process group, without a helper process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from conftest import Start, descendants, needs
from harness import run

import pdeathsig


@pytest.mark.parametrize("session", ["", "start_new_session=True"])
@pytest.mark.parametrize("thread", [False, True], ids=["main", "thread"])
def test_a_pipeline_dies_as_a_whole(start: Start, session: str, thread: bool) -> None:
    tree = start(f"""
import pdeathsig
def spawn():
    p = pdeathsig.Popen('sleep 1000 | (sleep 1000; :) | sh -c "echo pipeline; sleep 1000; :"', shell=True,
        scope='group', {session})
    say('shell', p.pid)
    assert os.getpgid(p.pid) == p.pid
    assert (os.getsid(p.pid) == p.pid) == {bool(session)}
worker = threading.Thread(target=spawn)
if {thread}: worker.start(); worker.join()
else: spawn()
forever()
""")
    events = {tree.line().partition(" ")[0] for _ in range(2)}
    assert events == {"shell", "pipeline"}
    members = [tree.adopt(str(pid)) for pid in descendants(tree.top.pid)]
    tree.kill()
    assert all(member.dies() for member in members)
    assert tree.all_gone()


def test_the_leader_may_be_gone_first(start: Start) -> None:
    tree = start("""
import pdeathsig
p = pdeathsig.Popen('sleep 1000 & echo $!', shell=True, scope='group', stdout=subprocess.PIPE)
say('sleep', p.stdout.readline().decode().strip())
p.wait()
say('leader gone')
forever()
""")
    sleep = tree.process("sleep")
    tree.event("leader")
    assert sleep.alive()
    tree.kill()
    assert sleep.dies()


def test_many_groups_one_descriptor(start: Start) -> None:
    tree = start("""
import pdeathsig
before = set(os.listdir('/proc/self/fd'))
children = [pdeathsig.Popen('sleep 1000; :', shell=True, scope='group') for _ in range(20)]
new = set(os.listdir('/proc/self/fd')) - before
assert len(new) == 1, new
say('children', *[p.pid for p in children])
children[0].kill(); children[0].wait()
assert all(p.poll() is None for p in children[1:])
say('others live')
forever()
""")
    tree.event("children")
    tree.event("others")
    tree.kill()
    assert tree.all_gone()


def test_a_forked_sibling_does_not_keep_the_lifeline_open(start: Start) -> None:
    """The sibling lives on without a write end. Its own first group does not end with this one."""
    tree = start("""
import pdeathsig
p = pdeathsig.Popen('sleep 1000; :', shell=True, scope='group')
say('child', p.pid)
if os.fork() == 0:
    here('sibling')
    wait()
    q = pdeathsig.Popen('sleep 1000; :', shell=True, scope='group')
    say('its', q.pid)
    forever()
forever()
""")
    child, sibling = tree.process("child"), tree.process("sibling")
    tree.kill()
    assert child.dies()
    tree.send()
    its = tree.process("its")
    assert its.alive()
    sibling.kill()
    assert its.dies()
    assert tree.all_gone()


def test_forks_at_every_moment_keep_nothing_open(start: Start) -> None:
    """Some threads fork while others create the first lifeline."""
    tree = start("""
import pdeathsig, warnings
warnings.simplefilter('ignore')
pdeathsig.Popen
for _ in range(30):
    if os.fork() == 0:  # each round begins without a lifeline
        go = threading.Barrier(3)
        def fork():
            go.wait()
            if os.fork() == 0:
                say('sibling', os.getpid())
                forever()
        def group():
            go.wait()
            say('leader', pdeathsig.Popen(['sleep', '1000'], scope='group').pid)
        threads = [threading.Thread(target=target) for target in (fork, fork, group)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        os._exit(0)
    os.wait()
say('done')
forever()
""")
    leaders: list[str] = []
    siblings = 0
    while (line := tree.line()) != "done":
        word, _, pid = line.partition(" ")
        if word == "leader":
            leaders.append(pid)
        else:
            tree.adopt(pid)
            siblings += 1
    assert (len(leaders), siblings) == (30, 60)
    for pid in leaders:
        try:
            leader = tree.adopt(pid)
        except ProcessLookupError:
            continue
        assert leader.dies(), "a sibling keeps the dead parent's lifeline"


def test_the_end_of_a_child_ends_no_other(start: Start) -> None:
    """Neither the child nor any process below it has a write end."""
    tree = start("""
import pdeathsig
other = pdeathsig.Popen(['sh', '-c', 'read line; echo alive; read line'], scope='group')
p = pdeathsig.Popen([sys.executable, '-c', '''
import os, subprocess
assert not [fd for fd in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}')
            and 'pipe' in os.readlink(f'/proc/self/fd/{fd}') and int(fd) > 2
            and open(f'/proc/self/fdinfo/{fd}').read().split()[3][-1] != '0']
'''], scope='group', close_fds=False)
assert p.wait() == 0
say('child', other.pid)
forever()
""")
    child = tree.process("child")
    tree.send()
    tree.event("alive")
    tree.kill()
    assert child.dies()


def test_setsid_leaves_the_group(start: Start) -> None:
    """This is a limit in README. The started process itself stays bound."""
    needs(subprocess.run(["which", "setsid"], capture_output=True, check=False).returncode == 0, "needs setsid(1)")
    tree = start("""
import pdeathsig
p = pdeathsig.Popen('setsid sleep 1000 & echo $!; sleep 1000; :', shell=True, scope='group', stdout=subprocess.PIPE)
say('away', p.stdout.readline().decode().strip())
say('shell', p.pid)
forever()
""")
    away, shell = tree.process("away"), tree.process("shell")
    away.wait_for_command("sleep")
    tree.kill()
    assert shell.dies()
    assert away.alive()


def test_a_program_that_closes_its_descriptors_is_bound_itself(start: Start) -> None:
    tree = start("""
import pdeathsig
p = pdeathsig.Popen([sys.executable, '-c',
    'import os; os.closerange(3, 4096); from actors import *; here("closed"); forever()'], scope='group')
forever()
""")
    child = tree.process("closed")
    tree.kill()
    assert child.dies()


def test_an_exec_of_the_parent_ends_the_group(start: Start) -> None:
    """This is a limit in README. A child with scope="child" goes on."""
    tree = start("""
import pdeathsig
say('alone', pdeathsig.Popen(['sleep', '1000']).pid)
say('group', pdeathsig.Popen(['sleep', '1000'], scope='group').pid)
wait()
os.execvp('sleep', ['sleep', '1000'])
""")
    alone, group = tree.process("alone"), tree.process("group")
    tree.send()
    assert group.dies()
    assert alone.alive()
    tree.kill()
    assert alone.dies()


def test_closing_the_lifeline_ends_the_groups(start: Start) -> None:
    """Closing unknown descriptors ends the groups (README).

    The next group has a new lifeline. A file with the old lifeline's number stays as it is.
    """
    tree = start("""
import pdeathsig
say('first', pdeathsig.Popen(['sleep', '1000'], scope='group').pid)
wait()
os.closerange(3, 1024)
for _ in range(300): os.open('/dev/null', os.O_RDONLY)
second = pdeathsig.Popen(['sleep', '1000'], scope='group')
looker = os.fork()
if looker == 0:
    os._exit(not all(os.readlink(f'/proc/self/fd/{fd}') == '/dev/null' for fd in range(3, 303)))
assert os.waitpid(looker, 0)[1] == 0
say('second', second.pid)
forever()
""")
    first = tree.process("first")
    tree.send()
    assert first.dies()
    second = tree.process("second")
    tree.kill()
    assert second.dies()


def test_stopped_groups_die_too(start: Start) -> None:
    tree = start("""
import pdeathsig
p = pdeathsig.Popen('kill -STOP $$; :', shell=True, scope='group')
say('child', p.pid)
forever()
""")
    child = tree.process("child")
    child.wait_for_state("T")
    tree.kill()
    assert child.dies()


@pytest.mark.parametrize("options", [{"process_group": 1}, {"process_group": 12345, "preexec_fn": lambda: None}])
def test_another_group_is_refused(options: dict[str, Any]) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("no process_group before 3.11")
    with pytest.raises(ValueError, match="^process_group: "):
        pdeathsig.Popen(["true"], scope="group", **options)


@pytest.mark.parametrize("preexec", ["", "preexec_fn=lambda: None"])
def test_a_preexec_fn_has_a_group_too(start: Start, preexec: str) -> None:
    tree = start(f"""
import pdeathsig
p = pdeathsig.Popen('sleep 1000; :', shell=True, scope='group', {preexec})
assert os.getpgid(p.pid) == p.pid
say('child', p.pid)
forever()
""")
    tree.process("child")
    tree.kill()
    assert tree.all_gone()


def test_without_proc_it_is_an_error(root: None) -> None:
    code = """
import os, pdeathsig
pdeathsig.Popen
os.chroot('/proc/self/fdinfo')
before = len(os.listdir('/'))
try: pdeathsig.Popen(['true'], scope='group')
except OSError as error: print(error)
"""
    assert run(code).stdout == "[Errno 2] open: No such file or directory\n"


def test_another_user_cannot_write_to_it(start: Start, root: None) -> None:
    """A write to the pipe would signal every group."""
    tree = start("""
import pdeathsig
say('other', pdeathsig.Popen(['sleep', '1000'], scope='group').pid)
write = 'for fd in /proc/self/fd/2[0-9][0-9]; do (echo x >$fd) 2>/dev/null || echo refused; done'
pdeathsig.run(['sh', '-c', write], user=65534, scope='group')
forever()
""")
    other = tree.process("other")
    assert tree.line() == "refused"
    assert other.alive()
    tree.kill()
    assert other.dies()


def test_the_lifeline_is_out_of_a_shells_way() -> None:
    listed = pdeathsig.check_output("ls /proc/self/fd", shell=True, scope="group", text=True)
    assert [int(fd) >= 200 for fd in sorted(listed.split(), key=int)] == [False] * 4 + [True]


PIPELINE = "sleep 1000 & echo $!; sleep 1000; :"


def test_kill_ends_the_group_and_terminate_the_child_alone() -> None:
    with pdeathsig.Popen(PIPELINE, shell=True, scope="group", stdout=subprocess.PIPE) as p:
        assert p.stdout is not None
        p.stdout.readline()
        p.kill()
        assert p.communicate()[0] == b""  # at the end of all that hold the pipe
        assert p.returncode == -signal.SIGKILL
        p.kill()  # nothing happens any more, as in subprocess
    with pdeathsig.Popen(PIPELINE, shell=True, scope="group", stdout=subprocess.PIPE) as p:
        assert p.stdout is not None
        below = int(p.stdout.readline())
        p.terminate()
        assert p.wait() == -signal.SIGTERM
        os.kill(below, 0)
        os.killpg(p.pid, signal.SIGKILL)


def test_a_timeout_of_run_ends_the_group() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        pdeathsig.run(PIPELINE, shell=True, scope="group", stdout=subprocess.PIPE, timeout=0.2)


def test_kill_of_asyncio_ends_the_group() -> None:
    async def main() -> None:
        p = await pdeathsig.create_subprocess_shell(PIPELINE, stdout=subprocess.PIPE, scope="group")
        assert p.stdout is not None
        await p.stdout.readline()
        p.kill()
        assert (await p.communicate())[0] == b""
        assert p.returncode == -signal.SIGKILL

    asyncio.run(main())
