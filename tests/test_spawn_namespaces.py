"""Popen in and across PID namespaces."""

from __future__ import annotations

import pytest
from conftest import Start, needs

pytestmark = pytest.mark.usefixtures("root")


@pytest.mark.parametrize("scope", ["child", "group"])
@pytest.mark.parametrize("thread", [False, True], ids=["main", "thread"])
def test_the_parent_is_pid_1(start: Start, scope: str, thread: bool) -> None:
    """The end of PID 1 is that of the namespace, so this test shows only that the child starts."""
    tree = start(
        f"""
import pdeathsig
assert os.getpid() == 1
def spawn(): pdeathsig.Popen([sys.executable, '-c',
    'from actors import *; say("child", os.getppid()); forever()'], scope='{scope}')
worker = threading.Thread(target=spawn)
if {thread}: worker.start(); worker.join()
else: spawn()
forever()
""",
        prefix=("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
    )
    assert tree.event("child") == "1"
    tree.kill()
    assert tree.all_gone()


@pytest.mark.parametrize("scope", ["child", "group"])
@pytest.mark.parametrize("thread", [False, True], ids=["main", "thread"])
def test_the_parent_is_inside_and_dies_alone(start: Start, scope: str, thread: bool) -> None:
    """PID 1 lives on, and adopts no process."""
    tree = start(
        f"""
import pdeathsig
if os.fork():
    os.wait()
    say('middle gone')
    while True: os.wait()
def spawn():
    p = pdeathsig.Popen([sys.executable, '-c',
        'from actors import *; say("child", os.getppid()); forever()'], scope='{scope}')
    say('spawned', p.pid)
worker = threading.Thread(target=spawn)
if {thread}: worker.start(); worker.join()
else: spawn()
os.read(0, 1)
os.kill(os.getpid(), 9)
""",
        prefix=("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
    )
    events = sorted(tree.line().partition(" ")[0] for _ in range(2))
    assert events == ["child", "spawned"]
    tree.send()
    tree.event("middle")
    # With the child gone too, PID 1 has no child left.
    assert tree.all_gone()
    assert "ChildProcessError" in tree.stderr()


@pytest.mark.parametrize("scope", ["child", "group"])
def test_the_child_is_pid_1(start: Start, scope: str) -> None:
    """After unshare(CLONE_NEWPID) in the parent, the parent has no PID in the child's namespace."""
    tree = start(f"""
import pdeathsig
assert libc.unshare(0x20000000) == 0
code = 'from actors import *; say("child", os.getpid(), os.getppid()); forever()'
pdeathsig.Popen([sys.executable, '-c', code], scope='{scope}')
forever()
""")
    assert tree.event("child") == "1 0"
    tree.kill()
    assert tree.all_gone()


def test_a_thread_with_another_pid_namespace_for_children_cannot_spawn(start: Start) -> None:
    """Such a thread may not create threads (clone(2)), and may end too early: docs/limits.md."""
    tree = start("""
import pdeathsig
def work():
    libc.unshare(0x20000000)
    try: pdeathsig.Popen(['sleep', '1000'])
    except OSError as error: say('error', error)
worker = threading.Thread(target=work); worker.start(); worker.join()
""")
    assert tree.event("error") == "[Errno 22] pthread_create: Invalid argument"
    assert tree.all_gone()


def test_it_is_started_only_if_the_parent_lives(start: Start) -> None:
    """In a new time namespace memory cannot be shared, so it is copied. The check is the same."""
    tree = start("""
import pdeathsig
needs = libc.unshare(0x80)
if needs != 0: say('denied'); sys.exit()
say('child', pdeathsig.Popen(['sleep', '1000']).pid)
forever()
""")
    line = tree.line()
    needs(line != "denied", "needs time namespaces")
    child = tree.adopt(line.split()[1])
    tree.kill()
    assert child.dies()
