"""Children of threads that end: they live on, die with the process, and look like the thread's."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

import pytest
from conftest import Start, needs
from harness import run


@pytest.mark.timeout(120)
def test_a_thousand_children_of_a_thousand_threads(start: Start) -> None:
    """All are alive when the threads are gone, and all are dead when the process is gone."""
    tree = start("""
import pdeathsig, resource
children = []
def spawn(): children.append(pdeathsig.Popen(['sleep', '1000']))
for _ in range(50):
    threads = [threading.Thread(target=spawn) for _ in range(20)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
assert threading.active_count() == 1
say('children', *[p.pid for p in children])
wait()
say('alive', sum(p.poll() is None for p in children))
forever()
""")
    children = [tree.adopt(pid) for pid in tree.event("children").split()]
    assert len(children) == 1000
    tree.send()
    assert tree.event("alive") == "1000"
    assert all(child.alive() for child in children)
    tree.kill()
    assert all(child.dies() for child in children)
    assert tree.all_gone()


@pytest.mark.parametrize("options", ["", "scope='group'", "preexec_fn=lambda: None", "user=65534"])
def test_thread_exit_does_not_kill_the_child(start: Start, options: str) -> None:
    if "user" in options and os.getuid() != 0:
        pytest.skip("needs root: changes credentials")
    tree = start(f"""
import pdeathsig
def spawn():
    say('child', pdeathsig.Popen(['sh', '-c', 'read line; echo alive; read line'], {options}).pid)
thread = threading.Thread(target=spawn); thread.start(); thread.join()
while len(os.listdir('/proc/self/task')) > 2: os.sched_yield()  # gone, not just joined
say('joined')
forever()
""")
    child = tree.process("child")
    tree.event("joined")
    tree.send()
    tree.event("alive")
    tree.kill()
    assert child.dies()


def test_another_signal_from_a_thread_with_a_preexec_fn(start: Start) -> None:
    """A descriptor binds the child, with any signal."""
    tree = start("""
import pdeathsig
signal.signal(signal.SIGTERM, signal.SIG_IGN)
code = '''
from actors import *
signal.signal(signal.SIGTERM, lambda *_: (say('term'), os._exit(0)))
here('child')
forever()
'''
def spawn(): pdeathsig.Popen([sys.executable, '-c', code], preexec_fn=lambda: None, pdeathsig=signal.SIGTERM)
thread = threading.Thread(target=spawn); thread.start(); thread.join()
forever()
""")
    child = tree.process("child")
    tree.kill()
    tree.event("term")
    assert child.dies()


@pytest.mark.parametrize(
    "fork",
    ["os.fork()", "libc.syscall({'x86_64': 56, 'aarch64': 220}[platform.machine()], signal.SIGCHLD, 0, 0, 0, 0)"],
    ids=["fork", "raw clone"],
)
def test_a_forked_child_has_threads_of_its_own(start: Start, fork: str) -> None:
    """The native thread does not survive a fork, so a forked child gets one of its own.

    What a thread of the forked child starts is bound to that child. At a raw clone no at-fork
    handler runs, and a request to the missing thread would hang.
    """
    tree = start(f"""
import pdeathsig, platform
pdeathsig.Popen
def spawn(name):
    def work(): say(name, pdeathsig.Popen(['sleep', '1000']).pid)
    thread = threading.Thread(target=work); thread.start(); thread.join()
spawn('first')
if {fork} == 0:
    here('middle')
    spawn('second')
    forever()
forever()
""")
    first, middle, second = tree.process("first"), tree.process("middle"), tree.process("second")
    middle.kill()
    assert second.dies()
    assert first.alive()
    tree.kill()
    assert first.dies()


FAN_CLASS_CONTENT, FAN_CLOEXEC, FAN_OPEN_EXEC_PERM, FAN_MARK_ADD, FAN_ALLOW, AT_FDCWD = 4, 1, 0x40000, 1, 1, -100
LOOK = """
status = dict(line.split(':', 1) for line in open('/proc/thread-self/status'))
say(*[status[k].strip().replace(' ', '_')
    for k in ('Uid', 'Gid', 'Groups', 'CapEff', 'CapBnd', 'SigBlk', 'NoNewPrivs', 'Cpus_allowed')],
    os.nice(0), os.sched_getscheduler(0), os.getcwd(),
    os.readlink('/proc/thread-self/ns/net'), os.readlink('/proc/thread-self/ns/uts'),
    libc.personality(0xffffffff), libc.prctl(30, 0, 0, 0, 0))
"""


@pytest.mark.parametrize(
    ("change", "root"),
    [
        ("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP, signal.SIGUSR1])", False),
        ("os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})", False),
        ("os.nice(7)", False),
        ("libc.prctl(38, 1, 0, 0, 0)", False),  # PR_SET_NO_NEW_PRIVS
        ("libc.personality(0x0040000)", False),  # ADDR_NO_RANDOMIZE
        ("libc.prctl(29, 12345, 0, 0, 0)", False),  # PR_SET_TIMERSLACK
        ("os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))", False),
        ("os.nice(-5)", True),
        ("libc.syscall({'x86_64': 119, 'aarch64': 149}[platform.machine()], 65534, 65534, 65534)", True),  # setresgid
        ("libc.prctl(24, 12, 0, 0, 0)", True),  # PR_CAPBSET_DROP
        ("libc.unshare(0x40000000)", True),  # CLONE_NEWNET
        ("libc.unshare(0x04000000)", True),  # CLONE_NEWUTS
        ("libc.unshare(0x200), os.chdir('/')", False),  # CLONE_FS
    ],
)
def test_the_child_has_the_attributes_of_the_asking_thread(start: Start, change: str, root: bool) -> None:
    """A thread changes its attributes, and its child by subprocess and its child here have the
    same.

    A second thread did not change them. Its child has the second thread's attributes, although the
    native thread exists already.
    """
    if root and os.getuid() != 0:
        pytest.skip("needs root")
    if "prctl(38" in change and "NoNewPrivs:\t1" in Path("/proc/self/status").read_text():
        pytest.skip("it is set already")
    tree = start(f"""
import pdeathsig, platform
program = [sys.executable, '-c', 'from actors import *' + '''{LOOK}''']
def spawn():
    subprocess.run(program, stdout=1, check=True)
    pdeathsig.run(program, stdout=1, check=True)
def changed():
    {change}
    spawn()
for work in (changed, spawn, changed, spawn):
    thread = threading.Thread(target=work); thread.start(); thread.join()
""")
    seen = [tree.line() for _ in range(8)]
    assert all(seen), tree.stderr()
    assert tree.all_gone()
    assert seen[0::2] == seen[1::2]
    assert seen[0] != seen[2] == seen[6] != seen[4]


def test_the_child_has_the_descriptors_of_the_asking_thread(start: Start) -> None:
    """The thread has a descriptor table of its own, by unshare(CLONE_FILES)."""
    tree = start("""
import pdeathsig
def spawn(name):
    libc.unshare(0x400)
    r, w = os.pipe(); os.write(w, name.encode() + b'\\n'); os.close(w)
    os.dup2(r, 77)
    pdeathsig.run(['cat'], stdin=77, check=True)
def work(name):
    thread = threading.Thread(target=spawn, args=(name,)); thread.start(); thread.join()
def shared():
    pdeathsig.run(['true'])
thread = threading.Thread(target=shared); thread.start(); thread.join()
work('one'); work('two')
""")
    assert (tree.line(), tree.line()) == ("one", "two"), tree.stderr()


def test_a_slow_exec_does_not_block_other_threads(start: Start, root: None, tmp_path: Path) -> None:
    """While the kernel holds one thread's exec, the other threads run, and start children.

    The test holds it by fanotify(7), which asks for permission.
    """
    slow = tmp_path / "slow"
    slow.write_bytes(Path("/bin/true").read_bytes())
    slow.chmod(0o755)
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, os.O_RDONLY)
    needs(watch >= 0, "needs fanotify")
    try:
        mask = ctypes.c_uint64(FAN_OPEN_EXEC_PERM)
        needs(libc.fanotify_mark(watch, FAN_MARK_ADD, mask, AT_FDCWD, os.fsencode(slow)) == 0, "needs fanotify")
        tree = start(f"""
import faulthandler, pdeathsig
faulthandler.enable(); faulthandler.register(signal.SIGUSR1); signal.signal(signal.SIGUSR2, lambda *_: None)
def work(program): say(program, pdeathsig.call([program]))
def thread(program): threading.Thread(target=work, args=(program,)).start()
thread('true')
wait()
thread({str(slow)!r})
wait()
for _ in range(3): thread('true')
wait()
work({str(slow)!r})
""")
        assert tree.event("true") == "0"
        for others in (3, 0):  # the second time it is the main thread that waits
            tree.send()
            _, _, _, _, _, fd, child = struct.unpack("IBBHQii", os.read(watch, 24))
            # It is still in its parent's memory and takes signals, but has none of its parent's
            # handlers.
            status = Path(f"/proc/{child}/status").read_text()
            assert "\nSigBlk:\t0000000000000000\n" in status
            assert "\nSigCgt:\t0000000000000000\n" in status
            if others:
                tree.send()
            for _ in range(others):
                assert tree.event("true") == "0"
            os.write(watch, struct.pack("iI", fd, FAN_ALLOW))
            os.close(fd)
            assert tree.event(str(slow)) == "0"
    finally:
        os.close(watch)


def test_other_code_cannot_end_the_thread_that_holds_children() -> None:
    """os.setuid reaches that thread like any other, or it would hang."""
    if os.getuid() != 0:
        pytest.skip("needs root")
    code = """
import os, threading, pdeathsig
pdeathsig.run(['true'])
def spawn(): pdeathsig.run(['true'], check=True)
thread = threading.Thread(target=spawn); thread.start(); thread.join()
os.setresuid(65534, 65534, 0)
print({line.split()[1] for task in os.listdir('/proc/self/task')
    for line in open(f'/proc/self/task/{task}/status') if line.startswith('Uid')})
"""
    done = run(code)
    assert done.stdout == "{'65534'}\n", done.stderr
