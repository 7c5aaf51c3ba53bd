"""Which process is the parent, and that a parent that died before arming is noticed."""

from __future__ import annotations

import signal

import pytest
from conftest import Start

WAIT_FOR_ORPHANHOOD = """
before = os.getppid()
here('child')
wait()
while os.getppid() == before: os.sched_yield()
"""


def test_a_forked_child_knows_its_parent(start: Start) -> None:
    """The parent is gone before the child looks, so neither getppid() nor a PID of init helps."""
    tree = start("""
import pdeathsig
if os.fork() == 0:
    import signal as _
    ppid = int(wait())
    while os.getppid() == ppid: os.sched_yield()
    here('child')
    pdeathsig.arm()
    say('still here')
    forever()
say('parent', os.getpid())
forever()
""")
    parent = tree.event("parent")
    # The child's PID is not known yet, so only the end of the pipe shows its death.
    tree.send(parent)
    tree.kill()
    child = tree.line()
    assert child.startswith("child ")
    assert tree.line() == "", "armed on the process that adopted it, and lives on"


def test_a_parent_gone_before_the_child_s_first_instruction_is_noticed(start: Start) -> None:
    """The child is held inside fork(), before any at-fork handler, until its parent is gone."""
    tree = start("""
libc.__register_atfork(None, None, libc.pause, None)
signal.signal(signal.SIGUSR1, lambda *_: None)
import pdeathsig
pid = os.fork()
if pid == 0:
    say('forked')
    pdeathsig.arm()
    say('alive')
    forever()
say('child', pid)
forever()
""")
    child = tree.process("child")
    child.wait_for_state("S")
    tree.kill()
    child.kill(signal.SIGUSR1)
    tree.event("forked")
    assert child.dies()
    assert tree.line() == ""


@pytest.mark.parametrize("parent", ["process", "thread"])
def test_import_fixes_the_parent(start: Start, parent: str) -> None:
    code = f"import pdeathsig{WAIT_FOR_ORPHANHOOD}pdeathsig.arm(parent={parent!r}); say(1)"
    tree = start(f"python({code!r}); forever()")
    child = tree.process("child")
    tree.send("go")
    tree.kill()
    assert child.dies()
    assert tree.line() == ""
    assert tree.stderr() == f"pdeathsig: parent {tree.top.pid} is gone; SIGKILL to {child.pid}\n"


def test_an_unknown_parent_is_the_one_at_arming(start: Start) -> None:
    """An orphan from before the import is bound to the process that adopted it, here pytest."""
    code = WAIT_FOR_ORPHANHOOD + "import pdeathsig; pdeathsig.arm(); say('armed', pdeathsig.status().parent); forever()"
    tree = start(f"python({code!r}); forever()")
    child = tree.process("child")
    tree.send("go")
    tree.kill()
    import os

    assert tree.event("armed") == str(os.getpid())
    child.kill()
    assert child.dies()


@pytest.mark.parametrize("how", ["os.fork()", "os.forkpty()[0]"])
def test_each_fork_child_is_bound_to_its_own_parent(start: Start, how: str) -> None:
    tree = start(f"""
import pdeathsig
channel = os.dup(1)
if {how} == 0:
    import actors; actors.CHANNEL = channel
    pdeathsig.arm()
    if os.fork() == 0:
        pdeathsig.arm()
        say('grandchild', os.getpid(), pdeathsig.status().parent, pdeathsig.status().parent_known_by)
        forever()
    say('child', os.getpid(), pdeathsig.status().parent, pdeathsig.status().parent_known_by)
    forever()
forever()
""")
    seen = {line[0]: line[1:] for line in (tree.line().split() for _ in range(2))}
    assert seen["child"][1:] == [str(tree.top.pid), "fork"]
    assert seen["grandchild"][1:] == [seen["child"][0], "fork"]
    processes = [tree.adopt(seen[name][0]) for name in ("child", "grandchild")]
    tree.kill()
    assert all(process.dies() for process in processes)


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_raw_clone_is_not_taken_for_an_orphan(start: Start, kind: str) -> None:
    """clone(2) without libc runs no at-fork handler, so what is remembered is the parent's."""
    tree = start(f"""
import platform, pdeathsig
pdeathsig.arm()
numbers = {{"x86_64": 56, "aarch64": 220, "riscv64": 220}}
if libc.syscall(numbers.get(platform.machine(), 120), signal.SIGCHLD, 0, 0, 0, 0) == 0:
    pdeathsig.arm(parent={kind!r})
    say('armed', os.getpid(), pdeathsig.status().parent)
    forever()
forever()
""")
    pid, parent = tree.event("armed").split()
    child = tree.adopt(pid)
    assert parent == str(tree.top.pid)
    tree.kill()
    assert child.dies()


@pytest.mark.parametrize("how", ["os.fork", "multiprocessing"])
def test_inherit_arms_forked_children(start: Start, how: str) -> None:
    begin = {
        "os.fork": "if os.fork() == 0: child()",
        "multiprocessing": "import multiprocessing; multiprocessing.get_context('fork').Process(target=child).start()",
    }
    tree = start(f"""
import pdeathsig
def child():
    say('child', os.getpid(), pdeathsig.status().parent, bool(pdeathsig.status()), pdeathsig.status().grace)
    forever()
pdeathsig.arm(signal.SIGTERM, grace=7, inherit=True)
{begin[how]}
forever()
""")
    pid, parent, *rest = tree.event("child").split()
    child = tree.adopt(pid)
    assert parent == str(tree.top.pid)
    assert rest == ["True", "7.0"]
    tree.kill()
    assert child.dies()
    assert tree.all_gone()


def test_without_inherit_forked_children_are_not_armed(start: Start) -> None:
    tree = start("""
import pdeathsig
pdeathsig.arm()
if os.fork() == 0:
    say('child', pdeathsig.status().armed, pdeathsig.status().kernel_signal)
    os._exit(0)
os.wait()
""")
    assert tree.event("child") == "False 0"
    tree.top.wait(10)


def test_inherit_leaves_subprocess_with_preexec_fn_alone(start: Start) -> None:
    """Such a child execs, which removes the handler, so the exit of a thread would kill it."""
    tree = start("""
import pdeathsig
pdeathsig.arm(inherit=True)
seen = subprocess.run([sys.executable, "-c", "import pdeathsig; print(pdeathsig.status().kernel_signal)"],
                      preexec_fn=os.setpgrp, stdout=subprocess.PIPE).stdout
say('kernel', seen.decode())
""")
    assert tree.event("kernel") == "0"
    tree.top.wait(10)


def test_fork_while_other_threads_arm(start: Start) -> None:
    """A lock of pdeathsig is never held in a forked child."""
    tree = start("""
import pdeathsig
stop = False
def arm():
    while not stop: pdeathsig.arm(signal.SIGTERM, grace=9)
threads = [threading.Thread(target=arm) for _ in range(3)]
for thread in threads: thread.start()
for _ in range(50):
    pid = os.fork()
    if pid == 0:
        pdeathsig.arm(signal.SIGTERM, grace=3)
        os._exit(0 if pdeathsig.status() else 1)
    if os.waitpid(pid, 0)[1]: say('not armed')
stop = True
say('done')
""")
    assert tree.line() == "done"
    tree.top.wait(10)


def test_a_fork_child_needs_no_import_to_arm(start: Start) -> None:
    """At the fork another thread may hold the import lock, which the child could never release."""
    tree = start("""
import pdeathsig
if os.fork() == 0:
    before = set(sys.modules)
    pdeathsig.arm(signal.SIGTERM, grace=5)
    say('imported', sorted(set(sys.modules) - before))
    os._exit(0)
os.wait()
""")
    assert tree.event("imported") == "[]"
    tree.top.wait(10)
