"""A forked child of a member that execs: its program is bound to the process, not to a thread."""

from __future__ import annotations

import os
import signal

import pytest
from conftest import Start, needs
from harness import run

SLEEP = "['sleep', '1000']"
WAYS = {
    "execvp": f"pid = os.fork()\nif pid == 0: os.execvp('sleep', {SLEEP})",
    "execv": f"pid = os.fork()\nif pid == 0: os.execv('/bin/sleep', {SLEEP})",
    "execve, by descriptor": (
        f"fd = os.open('/bin/sleep', os.O_RDONLY)\npid = os.fork()\nif pid == 0: os.execve(fd, {SLEEP}, {{}})"
    ),
    "execlpe": "pid = os.fork()\nif pid == 0: os.execlpe('sleep', 'sleep', '1000', {'PATH': '/nowhere:/bin:/usr/bin'})",
    "spawnvp": f"pid = os.spawnvp(os.P_NOWAIT, 'sleep', {SLEEP})",
    "pty.fork": (
        "import pty\npid, fd = pty.fork()\nif pid == 0: os.execlp('sh', 'sh', '-c', 'trap \"\" HUP; exec sleep 1000')"
    ),
    "os.forkpty": "pid, fd = os.forkpty()\nif pid == 0: os.execlp('sh', 'sh', '-c', 'trap \"\" HUP; exec sleep 1000')",
    "a second exec": "pid = os.fork()\nif pid == 0: os.execlp('sh', 'sh', '-c', 'exec sh -c \"exec sleep 1000\"')",
}
JOIN = {"arm": "import pdeathsig; pdeathsig.arm(inherit=True)", "environment": "import pdeathsig"}


def indented(code: str) -> str:
    return "\n".join(f"    {line}" for line in code.splitlines())


@pytest.mark.parametrize("join", JOIN)
@pytest.mark.parametrize("thread", [False, True], ids=["main", "thread"])
@pytest.mark.parametrize("how", WAYS)
def test_the_program_dies_with_the_process_and_not_with_the_thread(
    start: Start, how: str, thread: bool, join: str
) -> None:
    if "by descriptor" in how:
        bare = "import os; os.execve(os.open('/bin/true', os.O_RDONLY), ['true'], {})"
        needs(run(bare).returncode == 0, "no exec by descriptor here: in an initramfs of Linux 5.10")
    tree = start(
        f"""
{JOIN[join]}
import warnings; warnings.simplefilter('ignore')
started = []
def begin():
{indented(WAYS[how])}
    started.append(pid)
    say('child', pid)
    wait()
    here_ends_the_thread = True
worker = threading.Thread(target=begin)
if {thread}: worker.start(); worker.join()
else: begin()
python("raw_pdeathsig(); here('last'); forever()", env={{**os.environ, 'PDEATHSIG': '0'}})
wait()
say('alive', os.waitpid(started[0], os.WNOHANG)[0])
forever()
""",
        PDEATHSIG="KILL" if join == "environment" else None,
        PDEATHSIG_SCOPE="child",
    )
    child = tree.process("child")
    child.wait_for_command("sleep")
    tree.send()
    last = tree.process("last")
    tree.send()
    assert tree.event("alive") == "0"
    tree.kill()
    assert child.dies()
    assert last.dies()


def test_the_program_gets_the_armed_signal(start: Start) -> None:
    """The program gets the armed signal, not the carrier, and it is neither ignored nor blocked.

    That holds too if the forked child had a handler for it, which the exec removes.
    """
    tree = start(
        """
def begin(name):
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        script = f'trap "echo {name} got TERM; exit" TERM; echo {name} $$; while :; do sleep 0.01; done'
        os.execlpe('sh', 'sh', '-c', script, {})
begin('main')
thread = threading.Thread(target=begin, args=('thread',)); thread.start(); thread.join()
forever()
""",
        PDEATHSIG="TERM",
        PDEATHSIG_SCOPE="child",
        PDEATHSIG_QUIET="1",
    )
    shells = dict(tree.line().split() for _ in range(2))
    children = [tree.adopt(pid) for pid in shells.values()]
    tree.kill()
    assert {tree.line() for _ in range(2)} == {"main got TERM", "thread got TERM"}
    assert all(child.dies() for child in children)


def test_the_kernel_s_setting_in_the_new_program(start: Start) -> None:
    look = (
        "import ctypes; n = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(n)); "
        "print('set', n.value, flush=True)"
    )
    tree = start(
        f"""
def begin():
    pid = os.fork()
    if pid == 0: os.execv(sys.executable, [sys.executable, '-S', '-c', {look!r}])
    os.waitpid(pid, 0)
begin()
thread = threading.Thread(target=begin); thread.start(); thread.join()
""",
        PDEATHSIG="TERM",
        PDEATHSIG_SCOPE="child",
    )
    assert tree.line() == "set 15"
    assert tree.line() == "set 0"
    tree.top.wait(10)


@pytest.mark.parametrize("thread", [False, True], ids=["main", "thread"])
def test_an_exec_that_fails_leaves_all_as_it_was(start: Start, thread: bool) -> None:
    tree = start(
        f"""
import pdeathsig
def state():
    import fcntl
    fds = [fd for fd in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + fd)]
    fds = {{fd: fcntl.fcntl(int(fd), fcntl.F_GETFD) for fd in fds}}
    with open('/proc/self/status') as file: own = file.read().splitlines()
    return str(pdeathsig.status()), signal.getsignal(15), [line for line in own
        if line[:6] in ('SigBlk', 'SigIgn', 'SigCgt')], fds
def begin():
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, lambda *_: (say('handled'), os._exit(0)))
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        before = state()
        for path in ('/nowhere', '/etc/hostname'):
            try: os.execv(path, ['x'])
            except OSError: pass
        try: os.execv('/bin/true', [3])
        except TypeError: pass
        say('same', state() == before)
        here('child')
        while True: signal.pause()
if {thread}: worker = threading.Thread(target=begin); worker.start(); worker.join()
else: begin()
forever()
""",
        PDEATHSIG="TERM",
        PDEATHSIG_SCOPE="child",
    )
    assert tree.event("same") == "True"
    child = tree.process("child")
    tree.kill()
    tree.event("handled")
    assert child.dies()


def test_with_no_descriptor_left_the_exec_is_refused(start: Start) -> None:
    """A thread's child could not be bound. The main thread's child needs no descriptor."""
    tree = start(
        """
import errno, resource
def begin():
    if os.fork() == 0:
        try: os.execvp('sleep', ['sleep', '1000'])
        except OSError as error: say('refused', os.strerror(error.errno))
        os._exit(0)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
try:
    while True: held.append(os.dup(0))
except OSError: pass
thread = threading.Thread(target=begin); thread.start(); thread.join()
pid = os.fork()
if pid == 0: os.execv('/bin/sleep', ['sleep', '1000'])
say('child', pid)
forever()
""",
        PDEATHSIG="KILL",
        PDEATHSIG_SCOPE="child",
    )
    lines = dict(tree.line().split(" ", 1) for _ in range(2))
    assert lines["refused"] == os.strerror(24)
    child = tree.adopt(lines["child"])
    child.wait_for_command("sleep")
    tree.kill()
    assert child.dies()


@pytest.mark.parametrize("in_its_place", [False, True])
def test_a_child_that_closes_all_descriptors_before_its_exec_is_bound(start: Start, in_its_place: bool) -> None:
    """pexpect closes all. A file that is opened with the lifeline's number stays as it is."""
    tree = start(
        f"""
import fcntl
def begin():
    if os.fork() == 0:
        os.closerange(3, 4096)
        while {in_its_place} and os.dup(0) < 300: pass
        os.execvp('sh', ['sh', '-c', 'echo child $$; exec sleep 1000'])
thread = threading.Thread(target=begin); thread.start(); thread.join()
wait()
say('flags', fcntl.fcntl(0, fcntl.F_GETFL) & os.O_ASYNC)
forever()
""",
        PDEATHSIG="KILL",
        PDEATHSIG_SCOPE="child",
    )
    child = tree.process("child")
    tree.send()
    assert tree.event("flags") == "0"
    tree.kill()
    assert child.dies()


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("thread", [False, True], ids=["main", "thread"])
def test_a_child_with_another_effective_user_is_bound(start: Start, thread: bool) -> None:
    """Its exec clears the parent-death signal in the kernel."""
    tree = start(f"""
import pdeathsig
pdeathsig.arm(inherit=True)  # imports what that user may not be able to reach
os.setresuid(65534, 12345, 12345)
pdeathsig.arm(inherit=True)
def begin():
    if os.fork() == 0: os.execvp('sh', ['sh', '-p', '-c', 'id -u; echo child $$; exec sleep 1000'])
if {thread}: worker = threading.Thread(target=begin); worker.start(); worker.join()
else: begin()
forever()
""")
    assert tree.line() == "12345"
    child = tree.process("child")
    child.wait_for_command("sleep")
    tree.kill()
    assert child.dies()


def test_a_forked_sibling_holds_no_lifeline_open(start: Start) -> None:
    """The sibling has left the family, and lives on."""
    tree = start(
        """
import pdeathsig
def begin():
    pid = os.fork()
    if pid == 0: os.execvp('sleep', ['sleep', '1000'])
    say('child', pid)
    if os.fork() == 0:
        pdeathsig.disarm()
        here('sibling')
        forever()
thread = threading.Thread(target=begin); thread.start(); thread.join()
forever()
""",
        PDEATHSIG="KILL",
        PDEATHSIG_SCOPE="child",
    )
    seen = dict(tree.line().split() for _ in range(2))
    child, sibling = tree.adopt(seen["child"]), tree.adopt(seen["sibling"])
    child.wait_for_command("sleep")
    tree.kill()
    assert child.dies()
    assert sibling.alive()


def test_a_fork_of_a_forked_child_has_no_descriptor_of_its_grandparents(start: Start) -> None:
    tree = start(
        """
def begin():
    before = set(os.listdir('/proc/self/fd'))
    if os.fork() == 0:
        say('child', len(set(os.listdir('/proc/self/fd')) - before))
        if os.fork() == 0:
            say('grandchild', len(set(os.listdir('/proc/self/fd')) - before))
            os._exit(0)
        os.wait()
        os._exit(0)
    os.wait()
begin()
thread = threading.Thread(target=begin); thread.start(); thread.join()
""",
        PDEATHSIG="KILL",
        PDEATHSIG_SCOPE="child",
    )
    assert [tree.line() for _ in range(4)] == ["child 0", "grandchild 0", "child 1", "grandchild 0"]
    tree.top.wait(10)


def test_a_resource_tracker_outlives_its_parent(start: Start) -> None:
    """loky starts its tracker by fork and exec. Another program started like that dies."""
    code = "from multiprocessing.resource_tracker import main; from actors import *; here('tracker'); forever()"
    tree = start(
        f"""
def begin(code):
    if os.fork() == 0: os.execv(sys.executable, [sys.executable, '-c', code])
for code in ({code!r}, 'from actors import *; here("other"); forever()'):
    begin(code)
    thread = threading.Thread(target=begin, args=(code,)); thread.start(); thread.join()
forever()
""",
        PDEATHSIG="KILL",
        PDEATHSIG_SCOPE="child",
    )
    seen = [tree.line().split() for _ in range(4)]
    trackers, others = ([tree.adopt(pid) for name, pid in seen if name == kind] for kind in ("tracker", "other"))
    tree.kill()
    assert [other.dies() for other in others] == [True, True]
    for tracker in trackers:
        assert tracker.alive()
        tracker.kill()
        assert tracker.dies()


def test_disarming_restores_the_functions_of_os(start: Start) -> None:
    tree = start("""
import inspect, pdeathsig
before = vars(os).copy()
pdeathsig.arm()
say(vars(os) == before)
pdeathsig.arm(inherit=True)
say(os.execve is not before['execve'], os.execve in os.supports_fd,
    inspect.signature(os.execv) == inspect.signature(before['execv']))
pdeathsig.disarm()
say(vars(os) == before)
pdeathsig.arm(inherit=True)
pdeathsig.arm()
say(vars(os) == before)
os.execv(sys.executable, [sys.executable, '-c', 'from actors import *; say("execed")'])
""")
    assert [tree.line() for _ in range(5)] == ["True", "True True True", "True", "True", "execed"]
    tree.top.wait(10)


def test_the_process_that_begins_the_family_may_exec(start: Start) -> None:
    tree = start("""
import pdeathsig
pdeathsig.arm(inherit=True)
os.execv(sys.executable, [sys.executable, '-c', 'from actors import *; here("execed"); forever()'])
""")
    assert tree.process("execed").pid == tree.top.pid


@pytest.mark.parametrize("thread", [False, True], ids=["main", "thread"])
def test_a_child_with_a_parent_gone_before_the_exec_dies(start: Start, thread: bool) -> None:
    """The carrier signal is blocked everywhere, so that only the check at the exec can notice."""
    tree = start(
        f"""
import pdeathsig
def begin():
    if os.fork() == 0:
        signal.pthread_sigmask(signal.SIG_BLOCK, [pdeathsig.status().carrier])
        here('child')
        while os.getppid() == parent: os.sched_yield()
        os.execvp('sleep', ['sleep', '1000'])
parent = os.getpid()
if {thread}: worker = threading.Thread(target=begin); worker.start(); worker.join()
else: begin()
forever()
""",
        PDEATHSIG="KILL",
        PDEATHSIG_SCOPE="child",
    )
    child = tree.process("child")
    tree.kill(signal.SIGKILL)
    assert child.dies()
    assert f"SIGKILL to {child.pid}" in tree.stderr()
