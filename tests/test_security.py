"""docs/security.md: a user gets no process killed that kill(2) would refuse that user."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Start, needs
from guarding import GUARD, guarded, guards_end, reaper_of  # noqa: F401
from harness import Process, environment, run

import pdeathsig

USER = 12345
AS_USER: dict[str, Any] = {"user": USER, "group": USER, "extra_groups": []}
STATUS = "import pdeathsig; print(pdeathsig.status().armed, *pdeathsig.status().problems, sep='; ')"

# The environment


@pytest.mark.parametrize("option", ["-E", "-I"])
@pytest.mark.parametrize("value", ["TERM:5", "nonsense"])
def test_a_python_that_ignores_its_environment_ignores_ours(option: str, value: str) -> None:
    others = {"PDEATHSIG_SCOPE": "nonsense", "PDEATHSIG_ANCESTORS": "nonsense", "PDEATHSIG_BACKEND": "ctypes"}
    ended = run(STATUS, option, PDEATHSIG=value, PDEATHSIG_PARENT="1:1", **others)
    assert ended.stdout == "False; PDEATHSIG was set, and is ignored: this Python was started with -E or -I\n"
    assert (ended.returncode, ended.stderr) == (0, "")


def test_an_isolated_python_arms_when_the_program_says_so(start: Start) -> None:
    """It arms with the default signal, and prints the notice in spite of PDEATHSIG_QUIET."""
    code = (
        f"import sys; sys.path.append({str(Path(__file__).parent)!r}); from actors import *\n"
        f"import pdeathsig.auto; here('child'); forever()"
    )
    tree = start(
        f"subprocess.Popen([sys.executable, '-I', '-c', {code!r}]); forever()",
        PDEATHSIG="",
        PDEATHSIG_PARENT="1:1",
        PDEATHSIG_SCOPE="nonsense",
        PDEATHSIG_ANCESTORS="nonsense",
        PDEATHSIG_QUIET="1",
    )
    child = tree.process("child")
    tree.kill()
    assert child.dies()
    assert tree.stderr() == f"pdeathsig: parent {tree.top.pid} is gone; SIGKILL to {child.pid}\n"


def test_the_family_goes_on_below_a_python_that_ignores_it(start: Start) -> None:
    """A Python with -I ignores the variables, like Python's own, but hands them on."""
    child = "import pdeathsig; say('child', os.getpid(), pdeathsig.status().armed); forever()"
    middle = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {'from actors import *' + chr(10) + child!r}])"
    )
    tree = start(f"subprocess.Popen([sys.executable, '-I', '-c', {middle!r}]); forever()", PDEATHSIG="KILL")
    pid, armed = tree.event("child").split()
    below = tree.adopt(pid)
    assert armed == "True"
    tree.kill()
    assert below.dies()
    assert tree.all_gone()


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory that every user may enter; pytest's own is private."""
    with tempfile.TemporaryDirectory(prefix="pdeathsig-test-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        needs(
            b"nosuid" not in subprocess.run(["findmnt", "-nT", name], capture_output=True, check=False).stdout, "nosuid"
        )
        yield directory


def set_user_id(directory: Path) -> list[str]:
    """A program that runs a Python with root's rights, whatever user starts it."""
    source = directory / "wrapper.c"
    source.write_text("#include <unistd.h>\nint main(int n, char **v) { return execv(v[n > 1], v + 1); }\n")
    wrapper = directory / "wrapper"
    needs(subprocess.run(["cc", "-o", wrapper, source], check=False).returncode == 0, "no C compiler")
    wrapper.chmod(0o4755)
    return [str(wrapper), sys.executable]


def with_capabilities(directory: Path) -> list[str]:
    """A Python that may read every file."""
    python = directory / "python"
    shutil.copy(os.path.realpath(sys.executable), python)
    needs(shutil.which("setcap") is not None, "no setcap(8)")
    granted = subprocess.run(["setcap", "cap_dac_read_search+ep", python], capture_output=True, check=False)
    needs(granted.returncode == 0, "no file capabilities here")
    return [str(python)]


@pytest.mark.parametrize("privileged", [set_user_id, with_capabilities])
@pytest.mark.parametrize("value", ["KILL", "nonsense"])
def test_a_privileged_python_ignores_the_environment_of_its_starter(
    root: None, reachable: Path, privileged: object, value: str
) -> None:
    """It does not hand it on either: its children may have its rights without AT_SECURE."""
    needs("LD_PRELOAD" not in os.environ, "the loader ignores it there, and a sanitizer needs it")
    code = f"""
import site, sys; site.addsitedir({sysconfig.get_path("platlib")!r})
import os, subprocess, pdeathsig
print(pdeathsig.status().armed, *pdeathsig.status().problems, sep='; ')
print([name for name in os.environ if name.startswith('PDEATHSIG')])
"""
    command = [*privileged(reachable), "-S", "-c", code]  # type: ignore[operator]
    hostile = environment(PDEATHSIG=value, PDEATHSIG_PARENT="1:1", PDEATHSIG_QUIET="1", PYTHONHOME=sys.base_prefix)
    ended = subprocess.run(command, env=hostile, capture_output=True, text=True, check=False, cwd="/", **AS_USER)
    why = "PDEATHSIG was set, and is ignored: this program has more rights than the process that started it (AT_SECURE)"
    assert (ended.stdout, ended.stderr) == (f"False; {why}\n[]\n", "")


def test_the_same_python_with_no_more_rights_follows_it(root: None, reachable: Path) -> None:
    """This is the control of the test above."""
    wrapper, python = set_user_id(reachable)
    os.chmod(wrapper, 0o755)
    ended = subprocess.run(
        [wrapper, python, "-c", STATUS], env=environment(PDEATHSIG="KILL"), capture_output=True, text=True, check=False
    )
    assert ended.stdout == "True\n"


# A forged token


def token(process: Process, later: int = 0) -> str:
    start = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{process.pid}:{int(start) + later}"


MEMBER = "here('member'); forever()"


def test_a_forged_token_ends_only_the_process_that_believes_it(start: Start) -> None:
    """It dies with another process. That process, its parent and the others in its group do not."""
    stranger = start("here('stranger'); forever()")
    other = stranger.process("stranger")
    tree = start(
        f"forged = wait()\nos.environ.update(PDEATHSIG='KILL', PDEATHSIG_PARENT=forged)\npython({MEMBER!r}); forever()"
    )
    tree.send(token(other))
    member = tree.process("member")
    parent = Process(tree.top.pid)
    member.kill()
    assert member.dies()
    assert other.alive() and parent.alive()
    parent.close()
    tree.kill()
    bound = start(MEMBER, PDEATHSIG="KILL", PDEATHSIG_PARENT=token(other)).process("member")
    stranger.kill()
    assert bound.dies()


@pytest.mark.parametrize("forged", ["1:1", "{parent}:1", "{self}:1,{parent}:1", "2147483647:1", "1:1:1:1", "{other}:1"])
def test_no_token_makes_us_signal_another(forged: str) -> None:
    """strace(1) sees every call that sends a signal: the target is always the process itself."""
    needs(shutil.which("strace") is not None, "no strace")
    code = f"""
import os, subprocess, sys
other = subprocess.Popen(['sleep', '1000'])
forged = {forged!r}.format(parent=os.getpid(), other=other.pid, self='$$')
traced = subprocess.run(['strace', '-f', '-qq', '-e',
    'trace=kill,tkill,tgkill,rt_sigqueueinfo,rt_tgsigqueueinfo,pidfd_send_signal',
    'sh', '-c', 'export PDEATHSIG=KILL PDEATHSIG_PARENT=' + forged + '; exec "$0" -c "import os; print(os.getpid())"',
    sys.executable],
    capture_output=True, text=True)
print(other.poll(), traced.stderr)
other.kill()
other.wait()
"""
    ended = run(code)
    alive, _, calls = ended.stdout.partition(" ")
    assert (alive, ended.stderr) == ("None", "")
    for line in calls.splitlines():
        sent = re.match(r"(?:\[pid +\d+\] )?(t?g?kill|\w+info|pidfd_send_signal)\((\d+), (?:\d+, )?(SIG\w+|0)", line)
        if sent:
            said = re.search(r"SIGKILL to (\d+)", calls)
            assert sent[3] == "0" or (said is not None and sent[2] == said[1]), line


# A child that lies


@pytest.mark.parametrize(
    "name", [") Z 1 1 1 1", "a) Z 1", "))))))))))))))", "(", "\n", "sh) R 0 0 0 0", "\\", "\x7f\x01) Z"]
)
@pytest.mark.parametrize("way", ["guard", "kill_tree"])
def test_a_name_that_looks_like_the_rest_of_its_line(start: Start, name: str, way: str) -> None:
    tree = start(
        f"if os.fork() == 0:\n libc.prctl(15, {name.encode()!r})\n"
        f" signal.pthread_sigmask(0, range(1, 65))\n here('named'); forever()\nwait()",
        prefix=guarded("--grace", "0") if way == "guard" else (),
    )
    named = tree.process("named")
    if way == "guard":
        tree.send()
    else:
        assert set(pdeathsig.kill_tree(tree.top, signal.SIGKILL).signalled) == {tree.top.pid, named.pid}
    assert named.dies()
    assert tree.all_gone()


@pytest.mark.parametrize("way", ["guard", "kill_tree"])
def test_a_fake_resource_tracker_gains_two_seconds(start: Start, way: str) -> None:
    """It has a tracker's command line and ignores SIGTERM, but it does nothing and never ends."""
    false = (
        "from multiprocessing.resource_tracker import main; import os, signal; signal.signal(15, 1); "
        "os.write(1, b'tracker %d\\n' % os.getpid()); signal.pause()"
    )
    tree = start(
        f"subprocess.Popen([sys.executable, '-c', {false!r}]); wait()",
        prefix=guarded("--grace", "0") if way == "guard" else (),
    )
    tracker = tree.process("tracker")
    begun = time.monotonic()
    if way == "guard":
        tree.send()
    else:
        pdeathsig.kill_tree(tree.top, signal.SIGKILL)
    assert tracker.dies()
    assert 0.9 < time.monotonic() - begun < 6
    assert tree.all_gone()


HOSTILE = """
import ctypes, errno, os, signal, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def refused(call, *arguments):
    ctypes.set_errno(0)
    if libc.syscall(call, *map(ctypes.c_long, arguments)) >= 0: return 'done'
    return errno.errorcode[ctypes.get_errno()]
def try_all(pid):
    yield 'kill', {refused(62, pid, sig) for sig in [*range(1, 32), 34, 64] if sig != signal.SIGCONT}
    info = ctypes.create_string_buffer(struct.pack('iiiiiiq', 64, 0, -1, 0, int(sys.argv[1]), 0, 1 << 30), 128)
    yield 'rt_sigqueueinfo', {refused(129, pid, 64, ctypes.addressof(info))}
    pidfd = libc.syscall(434, pid, 0)
    yield 'pidfd_send_signal', {refused(424, pidfd, 9, 0, 0)}
    yield 'pidfd_getfd', {refused(438, pidfd, fd, 0) for fd in range(3, 250)}
    yield 'ptrace', {refused(101, request, pid, 0, 0) for request in (16, 0x4206)}
    yield 'prlimit', {refused(302, pid, 7, ctypes.addressof(info), 0)}
    try: os.listdir(f'/proc/{pid}/fd'); yield 'fd', {'done'}
    except PermissionError: yield 'fd', {'EACCES'}
    for file in ('mem', 'fd/3', 'fd/200'):
        try: open(f'/proc/{pid}/{file}', 'r+b', 0); yield file, {'done'}
        except PermissionError: yield file, {'EACCES'}
for pid in map(int, sys.argv[2:]):
    print(pid, [found for found in try_all(pid) if not found[1] <= {'EPERM', 'EACCES'}], flush=True)
print('end', flush=True)
sys.stdin.read()
"""


@pytest.fixture
def user_python() -> str:
    """A Python that an ordinary user may run."""
    for python in ("/usr/bin/python3", sys.executable):
        try:
            if subprocess.run([python, "-c", "import ctypes"], check=False, cwd="/", **AS_USER).returncode == 0:
                return python
        except OSError:
            pass
    pytest.skip("no Python that an ordinary user may run")


needs_x86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="system calls by their numbers")


@needs_x86
def test_a_root_guard_cannot_be_steered_by_its_command_s_user(root: None, user_python: str) -> None:
    """Signals, forged messages, descriptors, memory and limits are refused, for the caller too."""
    dropped = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", user_python, "-c", HOSTILE]
    script = 'read caller monitor reaper; exec "$@" "$monitor" "$caller" "$monitor" "$reaper"'
    pipe = subprocess.PIPE
    with pdeathsig.Popen(
        ["sh", "-c", script, "sh", *dropped], scope="tree", stdin=pipe, stdout=pipe, text=True, cwd="/"
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        monitor = process.guard_pid
        assert monitor is not None
        reaper = reaper_of(monitor)
        process.stdin.write(f"{os.getpid()} {monitor} {reaper}\n")
        process.stdin.flush()
        for pid in (os.getpid(), monitor, reaper):
            assert process.stdout.readline() == f"{pid} []\n"
        assert process.stdout.readline() == "end\n"
        process.stdin.close()
        assert process.wait() == 0


def test_the_same_user_can_only_end_what_is_below(start: Start) -> None:
    """The same user may write to the lifeline if the kernel lets it be opened.

    That ends the caller's guarded trees, as a kill of their guards does, which kill(2) allows as
    well. It ends neither the caller nor any other process.
    """
    tree = start("""
import pdeathsig
script = ('for fd in /proc/$0/fd/*; do [ -p $fd ] && case $(readlink $fd) in "$1"|"$2") ;; *) echo x >$fd;; esac; '
    'done 2>/dev/null; sleep 1000')
mine = [os.readlink('/proc/self/fd/0'), os.readlink('/proc/self/fd/1')]
bystander = subprocess.Popen(['sleep', '1000'])
victim = pdeathsig.Popen(['sleep', '1000'], scope='tree')
hostile = pdeathsig.Popen(['sh', '-c', script, str(os.getpid()), *mine], scope='tree')
say('bystander', bystander.pid)
hostile.wait()
say('ended', hostile.returncode, victim.wait(), bystander.poll())
wait()
bystander.kill()
""")
    bystander = tree.process("bystander")
    assert tree.event("ended") in ("-15 -15 None", "-9 -9 None")
    assert bystander.alive()
    tree.send()
    tree.top.wait(10)


@needs_x86
def test_forged_messages_to_the_guard_reach_no_other_process(start: Start) -> None:
    """The same user may forge the sender (rt_sigqueueinfo(2)). Each guard process gets 300."""
    tree = start(
        """
import random, struct
chance = random.Random(1)
signal.signal(64, signal.SIG_IGN)  # what is no message of theirs is passed on
bystander = int(wait())
reaper = os.getppid()
monitor = int(open(f'/proc/{reaper}/stat').read().rpartition(')')[2].split()[1])
for _ in range(300):
    for target, sender in ((reaper, monitor), (monitor, reaper)):
        # as in c_src/guard/messages.c
        pid = chance.choice([bystander, os.getpid(), 1])
        fields = chance.randrange(8) | chance.randrange(65) << 3 | pid << 10
        info = ctypes.create_string_buffer(struct.pack('iiiiiiII', 64, 0, -64, 0, sender, 0, fields,
            chance.getrandbits(32)), 128)
        libc.syscall(129, target, 64, info)
    libc.syscall(62, monitor, 18)  # whatever has stopped it
say('sent')
forever()
""",
        prefix=guarded("--grace", "0"),
    )
    with subprocess.Popen(["sleep", "1000"]) as bystander:
        tree.send(str(bystander.pid))
        tree.event("sent")
        witness = Process(bystander.pid)
        assert witness.state() == "S"
        witness.close()
        tree.kill(signal.SIGTERM)
        tree.all_gone()
        assert bystander.poll() is None
        bystander.kill()


# A guard that runs as root, above an ordinary user's processes

CROWD = r"""
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>
/* Start that many processes below this one, a hundred to each of its children. They block all signals,
 * and have names like a line of /proc. Half of them have sessions of their own; some are stopped. */
static void be(int i)
{
    static const char *names[] = {") Z 1 1 1", "a) S 0 0", "))))))", "\n\n", "x\\"};
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    prctl(PR_SET_NAME, names[i % 5]);
    if (i % 2)
        setsid();
    write(1, ".", 1);
    if (i % 7 == 0)
        raise(SIGSTOP);
}
static pid_t forked(int of)
{
    pid_t pid = fork();
    for (; pid < 0 && of > 0; of--)
        write(1, "!", 1);
    return pid;
}
int main(int n, char **arguments)
{
    int count = atoi(arguments[1]);
    for (int i = 0; i < count; i += 100) {
        if (forked(100) == 0) {
            for (int j = 1; j < 100; j++) {
                if (forked(1) == 0) {
                    be(j);
                    for (;;) pause();
                }
            }
            be(i / 100 * 2);
            for (;;) pause();
        }
    }
    char byte;
    return read(0, &byte, 1) != 0;
}
"""


def test_five_thousand_hostile_processes_of_another_user(root: None, reachable: Path) -> None:
    (reachable / "crowd.c").write_text(CROWD)
    made = subprocess.run(["cc", "-O1", "-w", "-o", reachable / "crowd", reachable / "crowd.c"], check=False)
    needs(made.returncode == 0, "no C compiler")
    size, pipe = 5000, subprocess.PIPE
    drop = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    with subprocess.Popen(
        [*guarded("--grace", "0"), *drop, str(reachable / "crowd"), str(size)], stdin=pipe, stdout=pipe
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.read(size) == b"." * size, "a fork has failed"
        process.stdin.close()
        assert process.stdout.read() == b"", "EOF: no process is left"
        assert process.wait() == 0


@needs_x86
def test_a_tracer_outside_keeps_no_process_alive_and_the_guard_not_for_long(start: Start) -> None:
    """Only the tracer can reap a dead process that it traces (ptrace(2)), but the process is dead.

    That is enough.
    """
    tree = start(
        "subprocess.Popen(['sh', '-c', 'echo traced $$; exec sleep 1000']); wait()", prefix=guarded("--grace", "0")
    )
    traced = tree.process("traced")
    traced.wait_for_command("sleep")
    seize = f"libc.ptrace(0x4206, {traced.pid}, None, None); say('traced'); wait()"
    tracer = start(seize)
    tracer.event("traced")
    tree.send()
    assert traced.dies()
    assert tree.top.wait(6) == 0
    assert tree.stderr() == ""
    tracer.send()
    tracer.top.wait(10)


def test_the_guard_is_no_set_user_id_program() -> None:
    """It has the rights of the process that starts it, and needs no others."""
    assert os.stat(GUARD).st_mode & 0o7000 == 0
    capabilities = [name for name in os.listxattr(GUARD) if name == "security.capability"]
    assert capabilities == []
