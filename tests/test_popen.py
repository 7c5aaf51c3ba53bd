"""Popen, run and the others: like subprocess, and the child dies with this process."""

from __future__ import annotations

import errno
import gc
import inspect
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Start
from harness import run

import pdeathsig


def test_any_program_dies_with_its_parent(start: Start) -> None:
    tree = start("import pdeathsig; say('child', pdeathsig.Popen(['sleep', '1000']).pid); forever()")
    child = tree.process("child")
    tree.kill()
    assert child.dies()
    assert tree.all_gone()


@pytest.mark.parametrize("call", ["run", "call", "check_call", "check_output"])
def test_the_functions_bind_too(start: Start, call: str) -> None:
    tree = start(f"""
import pdeathsig
command = [sys.executable, '-c', 'import actors; actors.CHANNEL = 2; actors.here("child"); actors.forever()']
pdeathsig.{call}(command, stderr=os.dup(1))
""")
    child = tree.process("child")
    tree.kill()
    assert child.dies()
    assert tree.all_gone()


def test_pdeathsig_none_binds_nothing(start: Start) -> None:
    tree = start("""
import pdeathsig
pdeathsig.install()
say('child', pdeathsig.Popen([sys.executable, '-c', 'from actors import *; say("up"); wait(); say("alive")'],
    pdeathsig=None).pid)
forever()
""")
    child = tree.process("child")
    tree.event("up")
    tree.kill()
    tree.send()
    tree.event("alive")
    assert child.dies()


@pytest.mark.parametrize("inherited", ["signal.SIG_IGN", "lambda *_: None", "signal.SIG_DFL"])
def test_another_signal_is_made_deliverable(start: Start, inherited: str) -> None:
    tree = start(f"""
import pdeathsig
signal.signal(signal.SIGTERM, {inherited})
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
p = pdeathsig.Popen([sys.executable, '-c', '''
from actors import *
signal.signal(signal.SIGTERM, lambda *_: (say('term'), os._exit(0)))
here('child')
forever()
'''], pdeathsig=signal.SIGTERM)
forever()
""")
    child = tree.process("child")
    tree.kill()
    tree.event("term")
    assert child.dies()


def test_bound_after_user_and_group_changes(start: Start, root: None) -> None:
    tree = start("""
import pdeathsig
p = pdeathsig.Popen(['sleep', '1000'], user=65534, group=65534, extra_groups=[65533])
say('child', p.pid)
forever()
""")
    child = tree.process("child")
    status = dict(line.split(":", 1) for line in Path(f"/proc/{child.pid}/status").read_text().splitlines())
    assert status["Uid"].split() == ["65534"] * 4
    assert status["Gid"].split() == ["65534"] * 4
    assert status["Groups"].split() == ["65533"]
    tree.kill()
    assert child.dies()


def test_another_user_takes_nothing_from_the_parent(root: None) -> None:
    """In shared memory, the child's change of user would make the parent undumpable for ever."""
    code = """
import ctypes, pdeathsig
PR_GET_DUMPABLE = 3
before = ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)
pdeathsig.run(['true'], user=65534, check=True)
print(before, ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0))
"""
    assert run(code).stdout == "1 1\n"


def test_a_callers_preexec_fn_still_works(start: Start) -> None:
    tree = start("""
import pdeathsig
p = pdeathsig.Popen(['sleep', '1000'], preexec_fn=lambda: say('preexec', os.getpid()))
say('child', p.pid)
forever()
""")
    child = tree.adopt(tree.event("preexec"))
    assert int(tree.event("child")) == child.pid
    tree.kill()
    assert child.dies()
    assert tree.all_gone()


def test_a_preexec_fn_may_change_credentials(start: Start, root: None) -> None:
    tree = start("""
import pdeathsig
p = pdeathsig.Popen(['sleep', '1000'], preexec_fn=lambda: os.setuid(65534))
say('child', p.pid)
forever()
""")
    child = tree.process("child")
    tree.kill()
    assert child.dies()


def test_a_set_user_id_program_is_not_bound(start: Start, root: None, tmp_path: Path) -> None:
    """Its exec clears the kernel's setting: docs/limits.md. With scope="group" it stays bound."""
    tmp_path.chmod(0o755)
    program = tmp_path / "sleep"
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o4755)
    for directory in tmp_path.parents:
        if directory.owner() == "root" and not directory.stat().st_mode & 0o001:
            directory.chmod(directory.stat().st_mode | 0o011)
    tree = start(f"""
import pdeathsig
pdeathsig.Popen  # which that user may not read
os.setgid(65534), os.setuid(65534)
lost = pdeathsig.Popen(['{program}', '1000'])
bound = pdeathsig.Popen(['{program}', '1000'], scope='group')
say('lost', lost.pid)
say('bound', bound.pid)
forever()
""")
    lost, bound = tree.process("lost"), tree.process("bound")
    assert "\nUid:\t65534\t0\t0\t0\n" in Path(f"/proc/{lost.pid}/status").read_text()
    tree.kill()
    assert bound.dies()
    assert lost.alive()


def test_the_program_is_what_subprocess_would_start() -> None:
    """Its descriptors, signals, mask, groups, directory, umask and environment are the same."""
    look = """
import os, signal, sys, resource
print(sorted((fd, os.readlink(f'/proc/self/fd/{fd}').partition(':')[0])
    for fd in map(int, os.listdir('/proc/self/fd')) if os.path.exists(f'/proc/self/fd/{fd}')))
status = dict(line.split(':', 1) for line in open('/proc/self/status'))
print([(k, status[k]) for k in ('SigBlk', 'SigIgn', 'SigCgt', 'Umask', 'Groups', 'Cpus_allowed', 'CapEff', 'Uid')])
print(os.getcwd(), os.environ.get('X'), sys.argv, os.nice(0), os.getpgid(0) == os.getpid(),
    os.getsid(0) == os.getpid(), os.getppid())
"""
    code = f"""
import os, signal, subprocess, sys, pdeathsig
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
signal.signal(signal.SIGUSR2, lambda *_: None)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
os.putenv('X', 'putenv')
subprocess._USE_POSIX_SPAWN = False  # by that, os.environ would count instead
os.nice(3)
high = os.dup2(os.open('/dev/zero', os.O_RDONLY), 150)
inherited = os.dup2(os.open('/dev/null', os.O_RDONLY), 160, inheritable=True)
command = [sys.executable, '-c', {look!r}, 'argument', '']
for options in ({{}}, dict(close_fds=False), dict(pass_fds=[high]), dict(cwd='/'), dict(env={{'X': 'env'}}),
    dict(umask=0o77),
        dict(restore_signals=False), dict(start_new_session=True), dict(stderr=subprocess.STDOUT),
        dict(stdin=subprocess.DEVNULL),
        dict(executable=sys.executable), dict(process_group=0) if sys.version_info > (3, 11) else {{}}):
    plain = subprocess.run(command, stdout=subprocess.PIPE, **options).stdout
    ours = pdeathsig.run(command, stdout=subprocess.PIPE, **options).stdout
    assert plain == ours and plain.count(b'\\n') == 3, (options,
        *[pair for pair in zip(plain.split(b'('), ours.split(b'(')) if pair[0] != pair[1]])
print('alike')
"""
    done = run(code)
    assert done.stdout == "alike\n", done.stderr


def outcome(popen: Any, *args: Any, **options: Any) -> tuple[Any, ...]:
    try:
        popen(*args, **options).communicate()
    except BaseException as error:
        return type(error), error.args, getattr(error, "filename", None)
    raise AssertionError("it started")


def missing_interpreter(tmp_path: Path) -> Path:
    script = tmp_path / "script"
    script.write_text("#!/nowhere/interpreter\n")
    script.chmod(0o755)
    return script


in_cpython_text = pytest.mark.skipif(sys.implementation.name == "pypy", reason="PyPy words this error differently")


@pytest.mark.parametrize(
    ("args", "options"),
    [
        (["nowhere"], {}),
        (["./nowhere"], {}),
        (["/nowhere"], {"close_fds": False}),
        (["nowhere"], {"scope": "group"}),
        (["/etc/passwd"], {}),
        (["/"], {}),
        (["true"], {"cwd": "/nowhere"}),
        (["true"], {"cwd": "/etc/passwd"}),
        (["nowhere"], {"cwd": "/nowhere"}),
        (["true", "x" * 200_000], {}),
        (["true", "a\0b"], {}),
        pytest.param(["tr\0ue"], {}, marks=in_cpython_text),
        pytest.param(["true"], {"env": {"A": "\0"}}, marks=in_cpython_text),
        (["true"], {"env": {"A=B": "C"}}),
        (["true"], {"cwd": "a\0b"}),
        (["true", 1], {}),
        ([1], {}),
        pytest.param(["true"], {"preexec_fn": lambda: 1 / 0}, id="preexec_fn"),
        pytest.param(["true"], {"user": 2**64}, marks=in_cpython_text),
        (["true"], {"user": -1}),
        pytest.param(["true"], {"group": 2**64}, marks=in_cpython_text),
        pytest.param(["true"], {"extra_groups": [2**64]}, marks=in_cpython_text),
        (["true"], {"extra_groups": [-1]}),
        (["true"], {"pass_fds": [-1]}),
        (["true"], {"pass_fds": [9999]}),
        (["true"], {"pass_fds": [2**31]}),
        pytest.param(["true"], {"umask": "0"}, marks=in_cpython_text),
        (["true"], {"env": {"PATH": "/nowhere:/etc"}, "executable": "passwd"}),
        ([], {}),
        (["true"], {"start_new_session": True, "process_group": 0}),
        (["true"], {"process_group": 2**30}),
    ],
    ids=repr,
)
def test_errors_are_those_of_subprocess(args: list[Any], options: dict[str, Any]) -> None:
    if "process_group" in options and sys.version_info < (3, 11):
        pytest.skip("no process_group before 3.11")
    plain = {k: v for k, v in options.items() if k != "scope"}
    assert outcome(pdeathsig.Popen, args, **options) == outcome(subprocess.Popen, args, **plain)


def test_errors_of_a_script_and_of_another_user(tmp_path: Path) -> None:
    script = missing_interpreter(tmp_path)
    assert outcome(pdeathsig.Popen, [str(script)]) == outcome(subprocess.Popen, [str(script)])
    if os.getuid() != 0:
        assert outcome(pdeathsig.Popen, ["true"], user=0) == outcome(subprocess.Popen, ["true"], user=0)
        assert outcome(pdeathsig.Popen, ["true"], extra_groups=[0]) == outcome(
            subprocess.Popen, ["true"], extra_groups=[0]
        )


@pytest.mark.parametrize("thread", [False, True], ids=["main", "thread"])
def test_without_room_for_a_process_popen_is_an_error(thread: bool) -> None:
    """The error is EAGAIN, and neither a child nor a descriptor is left."""
    code = f"""
import os, resource, subprocess, sys, threading, pdeathsig
pdeathsig.Popen, pdeathsig.arm
if os.getuid() == 0:
    os.setgroups([]), os.setgid(54321), os.setuid(54321)
pdeathsig.run(['true'])
def spawn(popen):
    try: popen(['true'])
    except OSError as error:
        args = error.args[:2] if sys.implementation.name == 'pypy' else error.args
        return type(error), args, error.filename
def main():
    before = os.listdir('/proc/self/fd')
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    theirs, ours = spawn(subprocess.Popen), spawn(pdeathsig.Popen)
    assert theirs == ours and theirs is not None, (theirs, ours)
    group = spawn(lambda args: pdeathsig.Popen(args, scope='group'))
    assert group == ours, group
    assert len(os.listdir('/proc/self/fd')) - len(before) == 1  # the lifeline
    print(ours[1])
if {thread}:
    worker = threading.Thread(target=main)
    worker.start(), worker.join()
else: main()
"""
    done = run(code)
    assert done.stdout == f"({errno.EAGAIN}, {os.strerror(errno.EAGAIN)!r})\n", done.stderr


@pytest.mark.parametrize("scope", ["child", "group"])
def test_without_free_descriptors_popen_is_an_error(scope: Any) -> None:
    """With each number of free descriptors it works, or fails with EMFILE and leaves nothing."""
    pdeathsig.run(["true"], scope=scope)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        while True:
            held.append(os.open("/", os.O_RDONLY))
    except OSError:
        pass
    seen: list[int] = []
    try:
        for _ in range(14):
            try:
                # No pipes: subprocess of 3.10.13 and 3.11.2 leaks those that it has when it gets no
                # more.
                with pdeathsig.Popen(["true"], scope=scope) as process:
                    pass
                assert process.returncode == 0
                seen.append(0)
            except OSError as error:
                assert error.errno == errno.EMFILE
                seen.append(error.errno)
            os.close(held.pop())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in held:
            os.close(fd)
    assert seen == sorted(seen, reverse=True) and {0, errno.EMFILE} == set(seen)


def test_standard_descriptors_may_be_closed() -> None:
    code = """
import os, subprocess, pdeathsig
r, w = os.pipe(); os.dup2(w, 100); keep = os.dup2(r, 101); os.close(r); os.close(w)
for closed in ([0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]):
    saved = {fd: os.dup2(fd, 110 + fd, inheritable=False) for fd in closed}
    for fd in closed: os.close(fd)
    try:
        done = pdeathsig.run(['sh', '-c', 'cat; echo err >&2'], input=b'in', capture_output=True)
        assert (done.stdout, done.stderr) == (b'in', b'err\\n'), (closed, done)
    finally:
        for fd, copy in saved.items(): os.dup2(copy, fd); os.close(copy)
print('fine')
"""
    done = run(code)
    assert done.stdout == "fine\n", done.stderr


@pytest.mark.parametrize(
    ("options", "name", "kind"),
    [
        ({"pdeathsig": 0}, "pdeathsig", ValueError),
        ({"pdeathsig": 1000}, "pdeathsig", ValueError),
        ({"pdeathsig": -9}, "pdeathsig", ValueError),
        ({"pdeathsig": "KILLED"}, "pdeathsig", ValueError),
        ({"pdeathsig": True}, "pdeathsig", TypeError),
        ({"scope": "tribe"}, "scope", ValueError),
        ({"scope": 1}, "scope", ValueError),
        ({"scope": "group", "pdeathsig": None}, "scope", ValueError),
        ({"scope": "group", "pdeathsig": signal.SIGTERM}, "pdeathsig", ValueError),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], name: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=f"^{name}: "):
        pdeathsig.Popen(["true"], **options)


def test_a_group_with_another_signal_is_told_which_scope_has_it() -> None:
    with pytest.raises(ValueError, match="scope='child'"):
        pdeathsig.Popen(["true"], scope="group", pdeathsig=signal.SIGTERM)


def test_subprocess_itself_is_unchanged(start: Start) -> None:
    """The import alone leaves subprocess as it was."""
    tree = start("""
import pdeathsig
real = vars(subprocess).copy()
pdeathsig.run(['true'])
assert vars(subprocess) == real
subprocess.Popen([sys.executable, '-c', 'from actors import *; here("child"); wait(); say("alive")'])
forever()
""")
    child = tree.process("child")
    tree.kill()
    tree.send()
    tree.event("alive")
    assert child.dies()


class Collects:
    """A file and a path that collects garbage when subprocess uses it."""

    def fileno(self) -> int:
        gc.collect()
        return 0

    def __fspath__(self) -> str:
        gc.collect()
        return "true"


@pytest.mark.parametrize("sig", [signal.SIGKILL, None])
def test_a_garbage_collection_during_a_start_is_harmless(sig: Any) -> None:
    """subprocess's functions run as copies, to which only the running call refers."""
    collects: Any = Collects()
    for _ in range(3):
        assert pdeathsig.run([collects], stdin=collects, pdeathsig=sig).returncode == 0
        assert pdeathsig.check_output([collects], stdin=collects, pdeathsig=sig) == b""


def test_it_is_a_subclass_with_the_same_arguments() -> None:
    assert issubclass(pdeathsig.Popen, subprocess.Popen)
    ours = inspect.signature(pdeathsig.Popen.__init__).parameters
    assert ours["pdeathsig"].default == signal.SIGKILL
    with pdeathsig.Popen(["cat"], -1, None, -1, -1, text=True) as process:
        assert process.communicate("typed") == ("typed", None)
    assert pdeathsig.check_output("echo $0", shell=True, text=True) == "/bin/sh\n"
    with pytest.raises(subprocess.CalledProcessError) as caught:
        pdeathsig.check_call(["false"])
    assert caught.value.returncode == 1
    with pytest.raises(subprocess.TimeoutExpired):
        pdeathsig.run(["sleep", "1000"], timeout=0.05)


def test_interrupted_while_starting_leaves_no_child(start: Start) -> None:
    """A signal handler raises before the caller has the Popen object."""
    tree = start("""
import pdeathsig
gate = os.path.join('/tmp', f'pdeathsig-{os.getpid()}')
os.mkfifo(gate)
def interrupt(*_): raise KeyboardInterrupt
signal.signal(signal.SIGUSR1, interrupt)
real_read = os.read
def read(fd, n):  # Popen waits for the exec here
    os.kill(os.getpid(), signal.SIGUSR1)
    return real_read(fd, n)
os.read = read
try: pdeathsig.Popen(['sleep', '1000'])
except KeyboardInterrupt: say('interrupted')
os.read = real_read
os.unlink(gate)
try: os.waitpid(-1, os.WNOHANG)
except ChildProcessError: say('childless')
""")
    tree.event("interrupted")
    tree.event("childless")
    assert tree.all_gone()


@pytest.mark.parametrize("how", ["", "user=65534", "preexec_fn=lambda: None"])
def test_refused_arming_is_an_error_and_no_child(how: str) -> None:
    if "user" in how and os.getuid() != 0:
        pytest.skip("needs root: changes credentials")
    code = f"""
import os, sys, subprocess
sys.path.insert(0, '.')
import pdeathsig, seccomp_deny
pdeathsig.Popen
seccomp_deny.deny('prctl')
try: pdeathsig.Popen(['echo', 'began'], {how})
except (OSError, subprocess.SubprocessError) as error: print(type(error).__name__, error)
try: os.waitpid(-1, os.WNOHANG)
except ChildProcessError: print('childless')
"""
    done = run(code)
    first, second = done.stdout.splitlines()
    assert second == "childless", done
    if not how:
        assert first == "PermissionError [Errno 1] prctl: Operation not permitted"
    else:
        assert first.startswith(("PermissionError", "SubprocessError"))


@pytest.mark.parametrize("denied", ["close_range", "close_range openat"])
def test_without_close_range(denied: str) -> None:
    """Before Linux 5.9 there is none; nor can open descriptors be listed without /proc."""
    code = f"""
import os, sys
sys.path.insert(0, '.')
import pdeathsig, seccomp_deny
high = os.dup2(os.open('/dev/zero', os.O_RDONLY), 150)
for fd in (60, 61, 70): os.dup2(high, fd, inheritable=True)
command = [sys.executable, '-c', 'import os; print([fd for fd in map(int, os.listdir("/proc/self/fd")) if fd > 50])']
pdeathsig.run(['true'])
print(pdeathsig.check_output(command, pass_fds=[61]))
for name in {denied!r}.split()[:1]: seccomp_deny.deny(name)
print(pdeathsig.check_output(command, pass_fds=[61]))
"""
    done = run(code)
    assert done.stdout == "b'[61]\\n'\n" * 2, done


@pytest.mark.parametrize("change", ["os.seteuid(65534)", "os.setegid(65534)"])
def test_bound_while_effective_and_real_identity_differ(start: Start, root: None, change: str) -> None:
    """Then each exec clears the kernel's setting, so a lifeline binds the child."""
    tree = start(f"""
import pdeathsig
pdeathsig.Popen
{change}
say('child', pdeathsig.Popen(['sleep', '1000']).pid)
forever()
""")
    child = tree.process("child")
    tree.kill()
    assert child.dies()


def test_a_preexec_fn_that_hangs_is_bound(start: Start) -> None:
    tree = start("""
import pdeathsig
pdeathsig.Popen(['true'], preexec_fn=lambda: (here('child'), forever()))
""")
    child = tree.process("child")
    tree.kill()
    assert child.dies()


@pytest.mark.timeout(120)
def test_interrupted_at_every_bytecode_leaves_no_child() -> None:
    """A signal handler raises at each bytecode of pdeathsig's code and of CPython's around it."""
    code = """
import dis, os, signal, sys, pdeathsig
def interrupt(*_): raise KeyboardInterrupt
signal.signal(signal.SIGUSR1, interrupt)
before = {}
def looks_for_signals(frame):
    now = dis.opname[frame.f_code.co_code[frame.f_lasti]]
    previous, before[frame] = before.get(frame, 'RESUME'), now
    return previous.startswith(('CALL', 'RESUME', 'JUMP'))
pdeathsig.run(['true'])
tried = 0
while True:
    left = tried
    before.clear()
    def trace(frame, event, argument):
        global left
        if '/pdeathsig/' not in frame.f_code.co_filename and frame.f_code.co_name != '_execute_child': return trace
        frame.f_trace_opcodes = True
        if event == 'opcode' and looks_for_signals(frame):
            left -= 1
            if left == 0: signal.raise_signal(signal.SIGUSR1)
        return trace
    process = None
    sys.settrace(trace)
    try: process = pdeathsig.Popen(['sleep', '1000'])
    except KeyboardInterrupt: pass
    finally: sys.settrace(None)
    if process is not None:
        process.kill(); process.wait()
        if left > 0: break
    try: os.waitpid(-1, os.WNOHANG)
    except ChildProcessError: pass
    else: print('a child is left', tried)
    tried += 1
print('tried', tried > 50)
"""
    assert run(code).stdout == "tried True\n"


def test_a_thread_that_changes_the_user_meanwhile(root: None) -> None:
    """setuid(3) waits for every thread, also for one that starts a spawner thread."""
    code = """
import os, threading, pdeathsig
pdeathsig.Popen
done = False
def change():
    while not done: os.setresuid(0, 0, 0)
thread = threading.Thread(target=change); thread.start()
def spawn(): pdeathsig.run(['true'])
for _ in range(100):
    if os.fork() == 0:
        worker = threading.Thread(target=spawn)
        setter = threading.Thread(target=lambda: [os.setresuid(0, 0, 0) for _ in range(200)])
        worker.start(); setter.start(); worker.join(); setter.join()
        os._exit(0)
    os.wait()
done = True
print('no deadlock')
"""
    assert run(code).stdout == "no deadlock\n"
