"""pdeathsig-run: when the command, the caller or one of the guard's two ends, nothing is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Start, needs
from guarding import GUARD, guard, guarded, guards_end, reaper_of  # noqa: F401
from harness import SLOWNESS, WITHOUT_COMMAND_LINE, Process, Tree, shm_manager

# Starts below itself what gets away otherwise, says what is there, then waits.
FAMILY = """
def away(name, *, session=False, twice=False):
    if os.fork() == 0:
        if session:
            os.setsid()
        if twice and os.fork() > 0:
            os._exit(0)
        here(name)
        forever()
    if twice:
        os.wait()
away('child')
away('session', session=True)
away('double', session=True, twice=True)
here('command')
"""
NAMES = {"child", "session", "double", "command"}


def family(tree: Tree) -> dict[str, Process]:
    found = {}
    for _ in NAMES:
        name, pid = tree.line().split()
        found[name] = tree.adopt(pid)
    assert set(found) == NAMES
    return found


def test_the_end_of_the_command_ends_all_below(start: Start) -> None:
    tree = start(FAMILY + "wait(); os._exit(3)", prefix=guarded())
    family(tree)
    tree.send()
    assert tree.top.wait(10) == 3
    assert tree.all_gone()


CALLER = f"""
command = [{GUARD!r}, *ARGS, '--', sys.executable, '-c', 'from actors import *\\n' + CODE]
"""


def caller(code: str, *args: str) -> str:
    """A process that starts the guard, for the test to end."""
    return f"ARGS, CODE = {args!r}, {code!r}\n{CALLER}"


@pytest.mark.parametrize("victim", ["caller", "monitor", "reaper", "command"])
def test_a_kill_of_any_of_them_ends_all(start: Start, victim: str) -> None:
    tree = start(
        caller(FAMILY + "forever()")
        + "process = subprocess.Popen(command); say('monitor', process.pid); say('status', process.wait()); wait()"
    )
    processes = {name: tree.adopt(pid) for name, pid in (tree.line().split() for _ in range(5))}
    assert set(processes) == NAMES | {"monitor"}
    processes["reaper"] = tree.adopt(str(reaper_of(processes["monitor"].pid)))
    processes["caller"] = tree.adopt(str(tree.top.pid))
    processes[victim].kill()
    for name, process in processes.items():
        assert name == "caller" != victim or process.dies(), name
    if victim != "caller":
        assert tree.event("status") == "-9"
        tree.send()
    assert tree.all_gone()


def test_bash_and_its_watch_end_with_a_killed_caller(start: Start) -> None:
    """bash -c "watch ..." in the foreground of a caller that gets SIGKILL."""
    tree = start(f"""
process = subprocess.Popen([{GUARD!r}, 'bash', '-c', 'while :; do sleep 1000; done & echo watch $!; wait'])
forever()
""")
    watch = tree.adopt(tree.event("watch"))
    tree.kill()
    assert watch.dies()
    assert tree.all_gone()


@pytest.mark.parametrize("victim", ["caller", "monitor", "reaper", "command"])
def test_a_kill_of_any_of_them_ends_all_while_the_command_is_stopped(start: Start, victim: str) -> None:
    """The monitor is stopped then, as the command is."""
    tree = start(
        caller("double_fork('here(\\'below\\'); forever()'); os.setpgid(0, 0); here('command'); forever()")
        + "process = subprocess.Popen(command); say('monitor', process.pid); forever()"
    )
    processes = {name: tree.adopt(pid) for name, pid in (tree.line().split() for _ in range(3))}
    processes["reaper"] = tree.adopt(str(reaper_of(processes["monitor"].pid)))
    processes["caller"] = tree.adopt(str(tree.top.pid))
    processes["command"].kill(signal.SIGSTOP)
    processes["monitor"].wait_for_state("T")
    processes[victim].kill()
    for name, process in processes.items():
        assert name == "caller" != victim or process.dies(), name
    tree.kill()
    assert tree.all_gone()


def test_a_kill_of_the_group_ends_those_that_left_it_too(start: Start) -> None:
    tree = start(FAMILY + "forever()", prefix=guarded(), options={"start_new_session": True})
    family(tree)
    os.killpg(tree.top.pid, signal.SIGKILL)
    assert tree.all_gone()
    assert tree.top.wait(10) == -signal.SIGKILL


def test_the_end_of_the_thread_that_started_it_ends_nothing(start: Start) -> None:
    tree = start(
        caller("here('command')\nwhile wait(): say('alive')")
        + """
thread = threading.Thread(target=lambda: globals().update(process=subprocess.Popen(command, stdin=subprocess.PIPE)))
thread.start(); thread.join()
while len(os.listdir('/proc/self/task')) > 1: pass
say('thread gone')
while wait():
    process.stdin.write(b'x\\n'); process.stdin.flush()
"""
    )
    lines = {tree.line().split()[0], tree.line().split()[0]}
    assert lines == {"command", "thread"}
    tree.send("x")
    tree.event("alive")
    tree.kill()
    assert tree.all_gone()


@pytest.mark.parametrize(
    "how", ["signal.signal(signal.SIGTERM, signal.SIG_IGN)", "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))"]
)
def test_those_that_ignore_sigterm_are_killed_after_the_grace(start: Start, how: str) -> None:
    tree = start(f"{how}\n{FAMILY}wait(); os._exit(0)", prefix=guarded("--grace", "0.3"))
    processes = family(tree)
    begun = time.monotonic()
    tree.send()
    assert tree.top.wait(10) == 0
    assert 0.25 < time.monotonic() - begun < 3
    assert all(process.dies() for process in processes.values())


def test_stopped_ones_get_sigterm_too(start: Start) -> None:
    tree = start(
        """
if os.fork() == 0:
    def end(*_):
        say('heard'); os._exit(0)
    signal.signal(signal.SIGTERM, end)
    here('child')
    os.kill(os.getpid(), signal.SIGSTOP)
    forever()
wait()
""",
        prefix=guarded("--grace", "10"),
    )
    child = tree.process("child")
    child.wait_for_state("T")
    tree.send()
    tree.event("heard")
    assert tree.top.wait(5) == 0


def test_a_stopped_command_ends_with_its_caller(start: Start) -> None:
    tree = start(
        caller("here('command'); os.kill(os.getpid(), signal.SIGSTOP); forever()")
        + "subprocess.Popen(command); forever()"
    )
    tree.process("command").wait_for_state("T")
    tree.kill()
    assert tree.all_gone()


def test_the_last_word(start: Start) -> None:
    tree = start(
        """
if os.fork() == 0:
    os.setsid()
    def end(*_):
        if os.fork() == 0:
            say('cleanup'); os._exit(0)
        os.wait()
        say('last word'); os._exit(0)
    signal.signal(signal.SIGTERM, end)
    here('child')
    forever()
wait()
""",
        prefix=guarded("--grace", "10"),
    )
    tree.process("child")
    tree.send()
    tree.event("cleanup")
    tree.event("last")
    assert tree.top.wait(5) == 0


def test_a_cleanup_left_behind_has_the_grace(start: Start) -> None:
    tree = start(
        """
if os.fork() == 0:
    def end(*_):
        subprocess.Popen(['sh', '-c', 'sleep 0.3; echo cleaned'], start_new_session=True); os._exit(0)
    signal.signal(signal.SIGTERM, end)
    here('child')
    forever()
wait()
""",
        prefix=guarded("--grace", "10"),
    )
    tree.process("child")
    tree.send()
    tree.event("cleaned")
    assert tree.top.wait(5) == 0


ENDS = "signal.signal(signal.{}, lambda *_: (say('heard'), os._exit(0)))\nhere('child'); forever()"


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP", "SIGUSR1", "SIGRTMIN"])
def test_signal_names_what_they_get_first(start: Start, name: str) -> None:
    tree = start(f"python({ENDS.format(name)!r}); wait()", prefix=guarded("--signal", str(int(getattr(signal, name)))))
    tree.process("child")
    tree.send()
    tree.event("heard")
    assert tree.all_gone()


@pytest.mark.parametrize("options", [("--grace", "0"), ("--signal", "KILL"), ("--signal=9", "--grace=30")])
def test_at_once(start: Start, options: tuple[str, ...]) -> None:
    tree = start(f"python({ENDS.format('SIGTERM')!r}); wait()", prefix=guarded(*options))
    child = tree.process("child")
    tree.send()
    assert child.dies()
    assert tree.line() == ""


def test_scope_group_leaves_other_groups(start: Start) -> None:
    tree = start(FAMILY + "wait()", prefix=guarded("--scope", "group"), options={"start_new_session": True})
    processes = family(tree)
    tree.send()
    assert tree.top.wait(10) == 0
    assert processes["child"].dies(0)
    assert processes["session"].alive()
    assert processes["double"].alive()


@pytest.mark.parametrize("victim", ["monitor", "reaper"])
def test_scope_group_when_the_guard_is_killed(start: Start, victim: str) -> None:
    tree = start(FAMILY + "forever()", prefix=guarded("--scope", "group"), options={"start_new_session": True})
    processes = family(tree)
    os.kill({"monitor": tree.top.pid, "reaper": reaper_of(tree.top.pid)}[victim], signal.SIGKILL)
    assert tree.top.wait(10) == -signal.SIGKILL
    assert processes["child"].dies()
    assert processes["command"].dies()
    assert processes["session"].alive()


def test_scope_child_leaves_all_but_the_command(start: Start) -> None:
    tree = start(FAMILY + "forever()", prefix=guarded("--scope", "child"))
    processes = family(tree)
    tree.kill()
    assert processes["command"].dies()
    assert all(processes[name].alive() for name in ("child", "session", "double"))


def test_scope_child_mirrors_at_once(start: Start) -> None:
    tree = start(FAMILY + "wait(); os._exit(5)", prefix=guarded("--scope", "child", "--grace", "10"))
    processes = family(tree)
    tree.send()
    assert tree.top.wait(5) == 5
    assert processes["child"].alive()


STUBBORN = (
    "if os.fork() == 0:\n    signal.signal(signal.SIGTERM, lambda *_: say('deaf')); here('child'); forever()\nwait()"
)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_during_the_grace_ends_it(start: Start, sig: int) -> None:
    tree = start(STUBBORN, prefix=guarded("--grace", "60"))
    child = tree.process("child")
    tree.send()
    tree.event("deaf")
    tree.top.send_signal(sig)
    assert child.dies()
    assert tree.top.wait(10) == 0


def start_time(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


@pytest.mark.parametrize("with_start", [False, True])
def test_another_parent_is_followed_too(start: Start, with_start: bool) -> None:
    other = start("here('other'); forever()").process("other")
    parent = f"{other.pid}:{start_time(other.pid)}" if with_start else f"{other.pid}"
    tree = start(FAMILY + "forever()", prefix=guarded("--parent", parent))
    family(tree)
    other.kill()
    assert tree.all_gone()
    assert tree.top.wait(10) == -signal.SIGTERM


def test_a_parent_that_is_another_by_now(start: Start) -> None:
    other = start("here('other'); forever()").process("other")
    wrong = guard("--parent", f"{other.pid}:{int(start_time(other.pid)) + 1}", "echo", "started")
    assert (wrong.returncode, wrong.stdout) == (125, "")
    assert wrong.stderr == "pdeathsig-run: --parent: that process: No such process\n"
    other.kill()
    other.dies()
    gone = subprocess.Popen(["true"])
    gone.wait()
    dead = guard("--parent", str(gone.pid), "echo", "started")
    assert (dead.returncode, dead.stdout, dead.stderr) == (125, "", wrong.stderr)


@pytest.mark.parametrize("placed", [(), ("setarch", "-R")], ids=["at random", "not at random"])
def test_multiprocessing_unlinks_what_was_leaked(start: Start, placed: tuple[str, ...]) -> None:
    """The resource tracker ignores SIGTERM, and works when all others are gone. It is told from its
    siblings, which are forks, also where every Python has all at the same addresses."""
    tree = start(
        """
from multiprocessing import shared_memory
memory = shared_memory.SharedMemory(create=True, size=10)
for _ in range(3):
    if os.fork() == 0: forever()
say('memory', memory.name)
forever()
""",
        prefix=(*guarded("--grace", "0"), *placed),
    )
    name = Path("/dev/shm") / tree.event("memory").lstrip("/")
    assert name.exists()
    tree.top.send_signal(signal.SIGKILL)
    assert tree.all_gone()
    assert not name.exists()


@pytest.mark.parametrize("grace", ["0", "5"])
def test_torch_s_manager_of_shared_memory_does_its_work(start: Start, tmp_path: Path, grace: str) -> None:
    """SIGTERM would end it."""
    tree = start(shm_manager(tmp_path) + "forever()", prefix=guarded("--grace", grace))
    memory = Path(tree.event("memory"))
    assert memory.read_text() == "in use\n"
    tree.top.send_signal(signal.SIGKILL if grace == "0" else signal.SIGTERM)
    assert tree.all_gone()
    assert memory.read_text() == "unlinked\n"


def test_a_resource_tracker_does_its_work_if_asked_during_its_exec(start: Start) -> None:
    tree = start(WITHOUT_COMMAND_LINE + "forever()", prefix=guarded("--grace", "0"))
    assert tree.event("nameless").endswith(" ''"), "it has a command line"
    tree.top.send_signal(signal.SIGKILL)
    tree.event("done")
    assert tree.all_gone()


# Each level: one child in a session of its own, one by a double fork; then both again, until there
# are enough.
THICKET = r"""
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
static void grow(int depth, int ready)
{
    for (int i = 0; i < 2 && depth > 0; i++) {
        if (fork() == 0) {
            setsid();
            if (i == 1 && fork() > 0)
                _exit(0);
            grow(depth - 1, ready);
            for (;;)
                pause();
        }
    }
    write(ready, ".", 1);
}
int main(int argc, char **argv)
{
    if (argc > 2)
        signal(SIGTERM, SIG_IGN);
    grow(atoi(argv[1]), 1);
    char byte;
    read(0, &byte, 1);
    return 0;
}
"""
CHASER = r"""
#include <signal.h>
#include <unistd.h>
int main(void)
{
    signal(SIGTERM, SIG_IGN);
    signal(SIGCHLD, SIG_IGN);
    if (fork() > 0) {
        char byte;
        read(0, &byte, 1);
        return 0;
    }
    setsid();
    write(1, ".", 1);
    for (;;) { /* always another process by the time one looks */
        if (fork() > 0)
            _exit(0);
    }
}
"""
BOMB = r"""
#include <signal.h>
#include <unistd.h>
int main(void)
{
    signal(SIGTERM, SIG_IGN);
    if (fork() > 0) {
        char byte;
        read(0, &byte, 1);
        return 0;
    }
    setsid();
    write(1, ".", 1);
    for (;;)
        fork();
}
"""


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("compiled")
    directory.chmod(0o755)
    for part in directory.parents:
        if part.stat().st_uid == os.getuid() and part != Path("/") and str(part).startswith("/tmp/pytest"):
            part.chmod(0o755)
    for name, code in {"thicket": THICKET, "chaser": CHASER, "bomb": BOMB}.items():
        (directory / f"{name}.c").write_text(code)
        made = subprocess.run(["cc", "-O1", "-w", "-o", directory / name, directory / f"{name}.c"], check=False)
        needs(made.returncode == 0, "no C compiler")
    return directory


class Program:
    """A guarded C program: its output, and its end."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def ready(self, count: int) -> None:
        assert len(self.stdout.read(count)) == count

    def ends(self) -> float:
        """In how many seconds, after the command was told to exit."""
        begun = time.monotonic()
        self.stdin.close()
        assert self.process.wait(15 * SLOWNESS) == 0
        assert self.stdout.read() == b""  # EOF: none is left
        self.stdout.close()
        return time.monotonic() - begun


@pytest.mark.parametrize("deaf", [False, True])
def test_a_tree_of_a_thousand(compiled: Path, deaf: bool) -> None:
    """1,023 processes, each in a session of its own, half of them double-forked."""
    deaf_argument = ["deaf"] if deaf else []
    program = Program([*guarded("--grace", "0.2"), str(compiled / "thicket"), "9", *deaf_argument])
    program.ready(1023)
    assert program.ends() < 5


def test_a_chain_that_forks_and_exits(compiled: Path) -> None:
    program = Program([*guarded("--grace", "0.1"), str(compiled / "chaser")])
    program.ready(1)
    assert program.ends() < 8


@pytest.mark.timeout(60 * SLOWNESS)  # a time limit would leave the bomb
def test_a_fork_bomb_is_put_out(compiled: Path) -> None:
    as_user = ["setpriv", "--reuid", "61234", "--regid", "61234", "--clear-groups"] if os.getuid() == 0 else []
    room = 300 if os.getuid() == 0 else 300 + len(os.listdir("/proc"))
    limited = ["sh", "-c", f'ulimit -u {room} 2>/dev/null || ulimit -p {room}; exec "$@"', "sh"]
    reachable = str(shutil.copy(GUARD, compiled))  # by that user
    program = Program([*as_user, *limited, reachable, "--grace", "0.1", str(compiled / "bomb")])
    program.ready(1)
    assert program.ends() < 12 * SLOWNESS


def test_what_only_looks_like_a_tracker_is_ended(start: Start) -> None:
    """A tracker starts no process; this one does so without end."""
    false = "from x.resource_tracker import main\\n:; trap '' TERM; while :; do sleep 0.05; done"
    tree = start(
        f"false = {false!r}\nsubprocess.Popen(['sh', '-c', false], stderr=subprocess.DEVNULL); say('up')",
        prefix=guarded("--grace", "0"),
    )
    tree.event("up")
    assert tree.top.wait(15) == 0
    assert tree.all_gone()


@pytest.mark.usefixtures("root")
def test_the_status_is_the_command_s_and_not_that_of_the_next_with_its_pid() -> None:
    code = """
import os, signal, time
me = os.getpid()
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while os.path.exists(f'/proc/{me}'): os.sched_yield()
    for _ in range(50):
        open('/proc/sys/kernel/ns_last_pid', 'w').write(str(me - 1))
        pid = os.fork()
        if pid == 0: os._exit(0)
        if pid == me: break
        os.waitpid(pid, 0)
    os._exit(0)
os._exit(9)
"""
    namespace = ["unshare", "-pf", "--mount-proc"]
    needs(subprocess.run([*namespace, "true"], check=False).returncode == 0, "needs namespaces")
    assert subprocess.run([*namespace, GUARD, "--grace", "3", sys.executable, "-c", code], check=False).returncode == 9


def test_hundreds_that_end_at_the_same_moment(start: Start) -> None:
    tree = start(
        """
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
reader, writer = os.pipe()
for _ in range(600):
    if os.fork() == 0:
        os.close(writer)
        os.read(reader, 1)  # until the command has ended
        os._exit(0)
say('up')
wait()
""",
        prefix=guarded("--grace", "60", "--signal", "USR1"),
    )
    tree.event("up")
    tree.send()
    assert tree.top.wait(15) == 0
    assert tree.all_gone()
