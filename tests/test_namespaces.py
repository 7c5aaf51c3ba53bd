"""PID namespaces and subreapers: PID 1 as parent or as child, a parent outside the namespace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from conftest import Start, needs


@pytest.fixture(params=["own /proc", "outer /proc"])
def new_pid_namespace(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The prefix that runs a command as PID 1 of a new PID namespace."""
    prefix = ["unshare", "--pid", "--fork"]
    prefix += [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    prefix += ["--mount-proc"] if request.param == "own /proc" else []
    tried = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    needs(tried.returncode == 0, f"unshare is not allowed here: {tried.stderr.strip()}")
    return tuple(prefix)


def children(pid: int) -> list[str]:
    """The children of all threads: the kernel lists them by the thread that started them."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as file:
            found += file.read().split()
    return found


def outer_pid(inner: int, init: int) -> str:
    """The PID here of the process ``inner`` in the namespace that has ``init`` as its PID 1."""
    for pid in children(init):
        with open(f"/proc/{pid}/status") as status:
            fields = dict(line.split(":\t", 1) for line in status)
        if fields["NSpid"].split()[-1] == str(inner):
            return pid
    raise AssertionError(f"no child of {init} is {inner} there")


def only_child(pid: int) -> str:
    (child,) = children(pid)
    return child


def test_parent_outside_the_namespace(start: Start, new_pid_namespace: tuple[str, ...]) -> None:
    """getppid() is 0 there before and after. The parent, unshare(1), kills no child itself."""
    tree = start(
        "import pdeathsig; pdeathsig.arm(); "
        "say('pids', os.getpid(), os.getppid(), pdeathsig.status().parent); forever()",
        prefix=new_pid_namespace,
    )
    assert tree.event("pids") == "1 0 0"
    child = tree.adopt(only_child(tree.top.pid))
    tree.kill()
    assert child.dies()
    assert tree.stderr() == "pdeathsig: the parent outside this PID namespace is gone; SIGKILL to 1\n"


def test_a_carrier_signal_forged_inside_the_namespace_is_ignored(
    start: Start, new_pid_namespace: tuple[str, ...]
) -> None:
    """getppid() is no help there, but the sender's PID is: the parent has none inside."""
    tree = start(
        """
import pdeathsig
pdeathsig.arm()
carrier = pdeathsig.status().carrier
for _ in range(100):
    os.kill(os.getpid(), carrier)
if os.fork() == 0:
    os.kill(1, carrier)
    os._exit(0)
os.wait()
say('alive', bool(pdeathsig.status()))
""",
        prefix=new_pid_namespace,
    )
    assert tree.event("alive") == "True"
    tree.top.wait(10)


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1])
def test_pid_1_dies_of_a_signal_that_the_kernel_spares_it(
    start: Start, new_pid_namespace: tuple[str, ...], sig: signal.Signals
) -> None:
    tree = start(f"import pdeathsig; pdeathsig.arm({int(sig)}); say('armed'); forever()", prefix=new_pid_namespace)
    tree.event("armed")
    child = tree.adopt(only_child(tree.top.pid))
    tree.kill()
    assert child.dies()
    assert os.WEXITSTATUS(os.waitpid(child.pid, 0)[1]) == 128 + sig


def test_grace_of_pid_1(start: Start, new_pid_namespace: tuple[str, ...]) -> None:
    """The kernel spares PID 1 the SIGKILL of a timer."""
    tree = start(
        """
import pdeathsig, itertools
signal.signal(signal.SIGTERM, lambda *_: None)
pdeathsig.arm(signal.SIGTERM, grace=0.3)
say('armed')
sum(itertools.repeat(1))
""",
        prefix=new_pid_namespace,
    )
    tree.event("armed")
    child = tree.adopt(only_child(tree.top.pid))
    tree.kill()
    assert child.dies()
    assert os.WEXITSTATUS(os.waitpid(child.pid, 0)[1]) == 128 + signal.SIGKILL


def test_pid_1_as_the_legitimate_parent(start: Start, new_pid_namespace: tuple[str, ...]) -> None:
    """The child lives while PID 1 lives. Only the namespace's end would take its parent away.

    So the control, bound by the kernel alone, is started on a thread of PID 1 that ends.
    """
    tree = start(
        """
def begin():
    python("import pdeathsig; pdeathsig.arm(); signal.signal(signal.SIGUSR1, lambda *_: say('alive')); "
        "say('child', os.getpid(), os.getppid()); forever()")
    python("raw_pdeathsig(); here('raw'); forever()")
    wait()
thread = threading.Thread(target=begin)
thread.start(); thread.join(); forever()
""",
        prefix=new_pid_namespace,
    )
    seen = dict(tree.line().split(" ", 1) for _ in range(2))
    inner, parent = seen["child"].split()
    assert parent == "1"
    init = int(only_child(tree.top.pid))
    child = tree.adopt(outer_pid(int(inner), init))
    raw = tree.adopt(outer_pid(int(seen["raw"]), init))
    tree.send("end the thread")
    assert raw.dies()
    child.kill(signal.SIGUSR1)
    tree.event("alive")
    tree.adopt(str(init)).kill()
    assert child.dies()


def test_family_reaches_into_a_namespace(start: Start, new_pid_namespace: tuple[str, ...]) -> None:
    """A token from outside means nothing inside, and does not make the child an orphan."""
    code = "import pdeathsig; say('armed', bool(pdeathsig.status()), pdeathsig.status().parent); forever()"
    tree = start(
        f"subprocess.Popen([*{new_pid_namespace!r}, sys.executable, '-c', "
        f"'from actors import *\\n' + {code!r}]); forever()",
        PDEATHSIG="TERM",
    )
    assert tree.event("armed") == "True 0"
    unshare = tree.adopt(only_child(tree.top.pid))
    child = tree.adopt(only_child(unshare.pid))
    tree.kill()
    unshare.kill()
    assert child.dies()
    assert tree.all_gone()


@pytest.mark.parametrize("fork", ["os.fork()", "libc.fork()"])
def test_fork_into_a_new_namespace(start: Start, root: None, fork: str) -> None:
    """The parent's PID means nothing to the child."""
    tree = start(f"""
import pdeathsig
assert libc.unshare(0x20000000) == 0
if {fork} == 0:
    pdeathsig.arm()
    say('armed', os.getpid(), pdeathsig.status().parent)
    forever()
forever()
""")
    assert tree.event("armed") == "1 0"
    child = tree.adopt(only_child(tree.top.pid))
    tree.kill()
    assert child.dies()


def test_a_subreaper_that_is_not_pid_1(start: Start) -> None:
    """Every test runs under a subreaper, pytest. This test names it."""
    tree = start(
        "python('import pdeathsig; pdeathsig.arm(signal.SIGTERM); "
        'signal.signal(signal.SIGTERM, lambda *_: say("adopted", os.getppid())); here("child"); '
        "forever()'); forever()"
    )
    child = tree.process("child")
    tree.kill()
    assert tree.event("adopted") == str(os.getpid())
    child.kill()
    assert child.dies()
    assert sys.platform == "linux"


def test_the_death_of_the_reaper_is_no_second_death(start: Start) -> None:
    """The kernel sends the signal again when each later reaper dies."""
    tree = start("""
libc.prctl(36, 1)
python('''
python(\"\"\"
import pdeathsig
signal.signal(signal.SIGUSR1, lambda *_: say("signalled", os.getppid()))
signal.signal(signal.SIGUSR2, lambda *_: say("alive"))
pdeathsig.arm(signal.SIGUSR1)
here("child")
forever()
\"\"\")
here("middle")
forever()
''')
forever()
""")
    seen = dict(tree.line().split() for _ in range(2))
    child = tree.adopt(seen["child"])
    tree.adopt(seen["middle"]).kill()
    assert tree.event("signalled") == str(tree.top.pid)
    tree.kill()
    child.kill(signal.SIGUSR2)
    tree.event("alive")
    child.kill()
    assert child.dies()
