"""arm(parent=PID): die when that process dies, which need not be the parent."""

from __future__ import annotations

import os
import resource
import signal

from conftest import Start

WATCHER = "import pdeathsig; pdeathsig.arm({args}parent={pid}); here('child'); forever()"


def test_dies_with_a_process_that_is_not_its_parent(start: Start) -> None:
    other = start("here('other'); forever()")
    pid = other.process("other").pid
    tree = start(WATCHER.format(args="", pid=pid))
    child = tree.process("child")
    other.kill()
    assert child.dies()
    assert tree.stderr() == f"pdeathsig: parent {pid} is gone; SIGKILL to {child.pid}\n"


def test_a_server_behind_a_wrapper_dies_with_its_caller(start: Start) -> None:
    """The program's parent is the wrapper (sh -c, uvx, npx), which outlives its own parent."""
    tree = start(f"""
code = {WATCHER!r}.format(args="", pid=os.getpid())
behind_a_shell(code)
forever()
""")
    child = tree.process("child")
    tree.kill()
    assert child.dies()
    assert tree.all_gone()


def test_grace_while_the_gil_is_held(start: Start) -> None:
    other = start("here('other'); forever()")
    pid = other.process("other").pid
    tree = start(f"""
import pdeathsig, itertools
signal.signal(signal.SIGTERM, lambda *_: None)
pdeathsig.arm(signal.SIGTERM, grace=0.3, parent={pid})
here('child')
sum(itertools.repeat(1))
""")
    child = tree.process("child")
    other.kill()
    assert child.dies()
    assert tree.top.wait(10) == -signal.SIGKILL


def test_a_process_that_is_dead_already(start: Start) -> None:
    other = start("here('other'); forever()")
    pid = other.process("other").pid
    other.kill()
    tree = start(f"import pdeathsig; pdeathsig.arm(parent={pid}); say('alive')")
    assert tree.line() == ""
    assert tree.top.wait(10) == -signal.SIGKILL


def test_a_zombie_is_dead(start: Start) -> None:
    tree = start("""
import pdeathsig, select
zombie = subprocess.Popen(["true"])
select.select([pidfd_open(zombie.pid)], [], [])
pdeathsig.arm(parent=zombie.pid)
say('alive')
""")
    assert tree.line() == ""
    assert tree.top.wait(10) == -signal.SIGKILL


def test_parent_1_is_a_process_like_any_other(start: Start) -> None:
    tree = start("import pdeathsig; pdeathsig.arm(parent=1); say('watching', pdeathsig.status().watching)")
    assert tree.event("watching") == "1"
    tree.top.wait(10)


def test_the_watch_has_no_descriptor_that_the_program_sees_or_closes(start: Start) -> None:
    other = start("here('other'); forever()")
    pid = other.process("other").pid
    tree = start(f"""
import pdeathsig
before = os.listdir('/proc/self/fd')
pdeathsig.arm(parent={pid})
say('same', os.listdir('/proc/self/fd') == before)
os.closerange(3, 4096)
here('child')
forever()
""")
    assert tree.event("same") == "True"
    child = tree.process("child")
    other.kill()
    assert child.dies()


def test_a_watch_needs_no_free_descriptor(start: Start) -> None:
    other = start("here('other'); forever()")
    pid = other.process("other").pid
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert soft > 64
    tree = start(f"""
import pdeathsig, resource
pdeathsig.status()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
try:
    while True: os.dup(0)
except OSError: pass
pdeathsig.arm(parent={pid})
pdeathsig.arm(signal.SIGTERM, grace=5, parent={pid})
here('child')
forever()
""")
    child = tree.process("child")
    other.kill()
    assert child.dies()


def test_the_watch_holds_no_descriptor_of_the_program_open(start: Start) -> None:
    """The watcher thread has a descriptor table of its own, so a pipe closed here is closed."""
    tree = start("""
import pdeathsig
r, w = os.pipe()
pdeathsig.arm(parent=os.getppid())
os.close(w)
say('EOF', os.read(r, 1) == b'')
""")
    assert tree.event("EOF") == "True"
    tree.top.wait(10)


def test_watch_is_replaced_by_the_next_arming(start: Start) -> None:
    first = start("here('other'); forever()")
    second = start("here('other'); forever()")
    pids = [tree.process("other").pid for tree in (first, second)]
    tree = start(f"""
import pdeathsig
pdeathsig.arm(signal.SIGUSR1, parent={pids[0]})
pdeathsig.arm(signal.SIGUSR2, parent={pids[1]})
signal.signal(signal.SIGUSR1, lambda *_: say('first'))
signal.signal(signal.SIGUSR2, lambda *_: say('second'))
here('child')
while True: signal.pause()
""")
    tree.process("child")
    first.kill()
    second.kill()
    assert tree.line() == "second"


def test_not_watched_in_a_forked_child(start: Start) -> None:
    other = start("here('other'); forever()")
    pid = other.process("other").pid
    tree = start(f"""
import pdeathsig
pdeathsig.arm(signal.SIGUSR1, parent={pid})
signal.signal(signal.SIGUSR1, lambda *_: say('signalled', os.getpid()))
if os.fork() == 0:
    here('child')
    while True: signal.pause()
while True: signal.pause()
""")
    child = tree.process("child")
    other.kill()
    assert tree.event("signalled") == str(tree.top.pid)
    assert child.alive()
    assert os.getpid() != child.pid


def test_parent_of_another_user(start: Start, root: None) -> None:
    """The kernel sends the parent-death signal with the dying parent's credentials.

    Without the permission the signal is lost, so the control, bound by the kernel alone, lives on.
    pdeathsig watches such a parent by a pidfd, too.
    """
    tree = start("""
python('raw_pdeathsig(); here("raw"); forever()')
child = python('''
wait()
import pdeathsig
pdeathsig.arm()
say("watching", pdeathsig.status().watching)
here("child")
forever()
''', stdin=subprocess.PIPE)
wait()
os.setresuid(65534, 65534, 65534)
os.write(child.stdin.fileno(), b"\\n")
forever()
""")
    raw = tree.process("raw")
    tree.send("go")
    assert tree.event("watching") == str(tree.top.pid)
    child = tree.process("child")
    tree.kill()
    assert child.dies()
    assert raw.alive()
    raw.kill()
    assert raw.dies()


def test_a_setting_that_is_not_ours_is_left_alone(start: Start) -> None:
    """A preexec_fn in the parent made that setting."""
    tree = start("""
raw_pdeathsig(signal.SIGHUP)
import pdeathsig
pdeathsig.arm(parent=1)
pdeathsig.disarm()
say('kernel', pdeathsig.status().kernel_signal)
""")
    assert tree.event("kernel") == "1"
    tree.top.wait(10)
