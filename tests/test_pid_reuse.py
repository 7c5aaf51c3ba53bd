"""PIDs are reused. A process with a reused PID, a stranger, is never signalled.

In a new PID namespace the next PID can be chosen (ns_last_pid, proc_sys_kernel(5)). So here each
PID is reused at the worst moment.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import needs
from guarding import GUARD
from harness import SLOWNESS, TESTS, environment

NAMESPACE = ["unshare", "-pf", "--mount-proc", "--kill-child"]

# The beginning of each script, which is PID 1 of the namespace.
PRELUDE = f"""
import os, select, signal, subprocess, sys, time
from pathlib import Path
import pdeathsig
GUARD = {GUARD!r}

def fields(pid):
    return Path(f'/proc/{{pid}}/stat').read_text().rpartition(')')[2].split()

def stranger(pid):
    '''Start a sleeping process with that PID once it is free, from a child of this process. It has another
    start time. Return a pipe that reports the start.'''
    reader, writer = os.pipe()
    before = fields(pid)[19]
    if os.fork() == 0:
        os.dup2(writer, 3)
        os.closerange(4, 999)  # other processes wait for the EOF of these
        while os.path.exists(f'/proc/{{pid}}'): os.sched_yield()
        while True:
            Path('/proc/sys/kernel/ns_last_pid').write_text(str(pid - 1))
            new = os.fork()
            if new == 0 and (os.getpid() != pid or fields(pid)[19] == before): os._exit(0)
            if new == 0:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                os.write(3, b'!')
                while True: signal.pause()
            if new == pid and fields(pid)[0] not in 'ZX':
                try:
                    if select.select([], [], [], 0.05) and os.waitpid(pid, os.WNOHANG) == (0, 0): break
                except ChildProcessError: break
            else:
                os.waitpid(new, 0)
        os._exit(0 if os.WIFEXITED(os.waitpid(new, 0)[1]) else 1)  # the stranger's end
    os.close(writer)
    return reader

def unharmed(pid):
    state = fields(pid)[0]
    assert state == 'S', f'the stranger is {{state}}'
    print('unharmed')
    sys.stdout.flush()
    os._exit(0)  # PID 1: all others end with it
"""


def in_a_namespace(script: str, *arguments: str) -> str:
    needs(subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode == 0, "needs namespaces")
    command = [*NAMESPACE, sys.executable, "-c", PRELUDE + script, *arguments]
    ended = subprocess.run(
        command, cwd=TESTS, env=environment(), capture_output=True, text=True, check=False, timeout=18 * SLOWNESS
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


# Each reads a line: one from a pipe that stays open, the other one from this process.
MANAGERS = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as they do
def manager(stdin):
    return subprocess.Popen(['torch_shm_manager', '-c', 'read line'], executable='/bin/sh', stdin=stdin)
stays, goes = manager(int(sys.argv[1])), manager(subprocess.PIPE)
print(stays.pid, goes.pid, flush=True)
signal.pause()
"""
TREE = """
member = ("import os, signal, sys; pid = os.fork()\\n"
    "if pid: signal.signal(15, signal.SIG_IGN); os.write(1, b'%d\\\\n' % pid); os.waitpid(pid, 0)\\n"
    "while True: signal.pause()")
"""


@pytest.mark.usefixtures("root")
def test_kill_tree() -> None:
    """One process ends at SIGTERM; a stranger gets its PID. The other gets SIGKILL 1 s later."""
    script = f"""{TREE}
top = subprocess.Popen([sys.executable, '-c', member], stdout=subprocess.PIPE)
pid = int(top.stdout.readline())
born = stranger(pid)
ended = pdeathsig.kill_tree(top, signal.SIGTERM, 1)
assert set(ended.signalled) == {{top.pid, pid}} and ended.killed == (top.pid,) and not ended.left, ended
assert os.read(born, 1)
unharmed(pid)
"""
    assert in_a_namespace(script) == "unharmed\n"


@pytest.mark.usefixtures("root")
def test_kill_tree_does_not_signal_a_stranger_with_the_pid_of_a_resource_tracker() -> None:
    """Of two shared memory managers, one ends, and a stranger gets its PID.

    The other one does not end by itself, and gets SIGKILL after 2 s.
    """
    script = f"""
import threading
code = {MANAGERS!r}
reader, writer = os.pipe()
top = subprocess.Popen([sys.executable, '-c', code, str(reader)], stdout=subprocess.PIPE, pass_fds=[reader])
stays, goes = map(int, top.stdout.readline().split())
def reap():
    while True:
        try: return os.waitpid(goes, 0)
        except ChildProcessError: os.sched_yield()  # not ours yet
threading.Thread(target=reap, daemon=True).start()
born = stranger(goes)
ended = pdeathsig.kill_tree(top, signal.SIGKILL)
assert os.read(born, 1)
assert ended.killed == (stays,) and not ended.left, ended
unharmed(goes)
"""
    assert in_a_namespace(script) == "unharmed\n"


@pytest.mark.usefixtures("root")
def test_the_guard() -> None:
    """The same happens below a guard when its command ends."""
    script = f"""{TREE}
command = [GUARD, '--grace', '1', '--', 'sh', '-c', '"$@" & read x', 'sh', sys.executable, '-c', member]
guard = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
pid = int(guard.stdout.readline())
parent = int(fields(pid)[1])
born = stranger(pid)
guard.stdin.close()
guard.wait()
assert not os.path.exists(f'/proc/{{parent}}')
assert os.read(born, 1)
unharmed(pid)
"""
    assert in_a_namespace(script) == "unharmed\n"


@pytest.mark.usefixtures("root")
def test_arming_on_a_pid_means_the_process_that_has_it_then() -> None:
    """A process armed before dies with it, although its PID is in use again.

    A process that arms afterwards is bound to the stranger.
    """
    script = """
parent = subprocess.Popen(['sleep', '1000'])
pid = parent.pid
code = ("import pdeathsig, signal, sys; pdeathsig.arm(parent=int(sys.argv[1])); print('armed', flush=True)\\n"
    "while True: signal.pause()")
def armed():
    child = subprocess.Popen([sys.executable, '-c', code, str(pid)], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b'armed\\n'
    return child
first = armed()
born = stranger(pid)
parent.kill()
parent.wait()
assert os.read(born, 1)
assert first.wait(10) == -signal.SIGKILL
second = armed()
assert second.poll() is None
unharmed(pid)
"""
    assert in_a_namespace(script) == "unharmed\n"


@pytest.mark.usefixtures("root")
def test_what_is_bound_to_a_process_does_not_start_for_the_next_one_with_its_pid() -> None:
    """guarded(parent=) and the family's token name the start time, too."""
    script = """
parent = subprocess.Popen(['sleep', '1000'])
pid = parent.pid
argv = pdeathsig.guarded(['echo', 'started'], parent=pid)
token = f'{pid}:{fields(pid)[19]}'
family = dict(os.environ, PDEATHSIG='KILL', PDEATHSIG_PARENT=token)
born = stranger(pid)
parent.kill()
parent.wait()
assert os.read(born, 1)
late = subprocess.run(argv, capture_output=True, text=True)
assert (late.returncode, late.stdout) == (125, ''), late
orphan = subprocess.run([sys.executable, '-c', 'print("began")'], env=family, capture_output=True, text=True)
assert (orphan.returncode, orphan.stdout) == (-signal.SIGKILL, ''), orphan
unharmed(pid)
"""
    assert in_a_namespace(script) == "unharmed\n"


@pytest.mark.usefixtures("root")
def test_no_stranger_is_signalled_while_pids_are_reused_all_the_time() -> None:
    """A namespace with 400 PIDs (pid_max, Linux 6.14) reuses each of them many times a second.

    Strangers start and exit. The guard and kill_tree end the trees of four other processes again
    and again. No stranger is signalled.
    """
    linux = tuple(int(number) for number in os.uname().release.split("-")[0].split(".")[:2])
    needs(linux >= (6, 14), "no pid_max of its own: that of the whole machine would be written")
    script = """
try:
    open('/proc/sys/kernel/pid_max', 'w').write('400')
    open('/proc/sys/kernel/ns_last_pid', 'w').write('10')
except OSError:
    print('no pid_max of its own')
    os._exit(0)
until = time.monotonic() + float(sys.argv[1])
reader, writer = os.pipe()
if os.fork() == 0:
    seen = harmed = 0
    while time.monotonic() < until:
        pids = []
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                os.sched_yield()
                os._exit(0)
            pids.append(pid)
        for pid in pids:
            seen += 1
            harmed += os.waitpid(pid, 0)[1] != 0
    os.write(writer, b'%d %d' % (seen, harmed))
    os._exit(0)
forker = '''
import os, sys
os.fork(), os.fork()
os.write(1, b'.')
while True:
    pid = os.fork()
    if pid == 0: os._exit(0)
    os.waitpid(pid, 0)
'''
trees = 0
while time.monotonic() < until:
    guard = [GUARD, '--grace', '0', '--'] if trees % 2 else []
    command = [*guard, 'sh', '-c', '"$@" & read x', 'sh', sys.executable, '-S', '-E', '-c', forker]
    tree = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    tree.stdout.read(4)
    if guard:
        tree.stdin.close()
        tree.wait()
    else:
        pdeathsig.kill_tree(tree, signal.SIGKILL)
    trees += 1
    try:
        while os.waitpid(-1, os.WNOHANG)[0]: pass  # the orphans: we are their reaper
    except ChildProcessError: pass
print('strangers', *os.read(reader, 99).decode().split(), 'trees', trees)
sys.stdout.flush()
os._exit(0)
"""
    said = in_a_namespace(script, os.environ.get("PDEATHSIG_TEST_SECONDS", "3" if SLOWNESS == 1 else "20"))
    needs("no pid_max" not in said, "no pid_max of its own")
    _, seen, harmed, _, trees = said.split()
    assert int(seen) > 200 and int(trees) > 3, said
    assert harmed == "0", said
