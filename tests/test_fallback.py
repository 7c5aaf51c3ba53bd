"""Without the compiled extension, ctypes calls libc's prctl() or the system call.

The kernel's semantics apply then: the child is bound to a thread.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import Start
from harness import environment

import pdeathsig

BACKENDS = ["ctypes", "syscall"]
CHILD = "import pdeathsig; pdeathsig.arm({args}); here('child'); forever()"


@pytest.mark.parametrize("backend", BACKENDS)
def test_child_dies_with_its_parent(start: Start, backend: str) -> None:
    tree = start(f"python({CHILD.format(args='')!r}); forever()", PDEATHSIG_BACKEND=backend)
    child = tree.process("child")
    tree.kill()
    assert child.dies()


@pytest.mark.parametrize("backend", BACKENDS)
def test_status_says_which_semantics(start: Start, backend: str) -> None:
    tree = start(
        "import pdeathsig; pdeathsig.arm(signal.SIGTERM); s = pdeathsig.status(); "
        "say(bool(s), s.backend, s.mechanism, s.signal, s.kernel_signal); "
        "print(s, file=sys.stderr); pdeathsig.disarm(); "
        "say(bool(pdeathsig.status()), pdeathsig.status().kernel_signal)",
        PDEATHSIG_BACKEND=backend,
    )
    assert tree.line() == f"True {backend} thread 15 15"
    assert tree.line() == "False 0"
    tree.top.wait(10)
    assert "also when only the thread that started us exits" in tree.stderr()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sig", [9, 15])
def test_parent_gone_before_arming(start: Start, backend: str, sig: int) -> None:
    tree = start(
        f"""
import pdeathsig
pdeathsig.status()
if os.fork() == 0:
    here('child')
    before = int(wait())
    while os.getppid() == before: os.sched_yield()
    pdeathsig.arm({sig})
    say('alive')
    forever()
forever()
""",
        PDEATHSIG_BACKEND=backend,
    )
    child = tree.process("child")
    tree.send(str(tree.top.pid))
    tree.kill()
    assert child.dies()
    assert tree.line() == ""
    assert f"parent {tree.top.pid} is gone" in tree.stderr()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "call", ["arm(signal.SIGTERM, grace=5)", "arm(parent=1)", "kill_tree(os.getppid())", "kill_group(os.getppid())"]
)
def test_what_a_backend_cannot_do_is_a_clear_error(start: Start, backend: str, call: str) -> None:
    tree = start(
        f"""
import pdeathsig
try:
    pdeathsig.{call}
except NotImplementedError as error:
    say('refused', error)
say('armed', pdeathsig.status().armed, pdeathsig.status().kernel_signal)
""",
        PDEATHSIG_BACKEND=backend,
    )
    assert "needs the compiled extension" in tree.event("refused")
    assert tree.event("armed") == "False 0"
    tree.top.wait(10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_arming_from_a_thread_is_a_clear_error(start: Start, backend: str) -> None:
    tree = start(
        """
import pdeathsig
def arm():
    try:
        pdeathsig.arm()
    except NotImplementedError as error:
        say('refused', error)
thread = threading.Thread(target=arm); thread.start(); thread.join()
""",
        PDEATHSIG_BACKEND=backend,
    )
    assert "needs the compiled extension" in tree.event("refused")
    tree.top.wait(10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_preexec_auto_and_inherit(start: Start, backend: str) -> None:
    tree = start(
        """
import pdeathsig
p = subprocess.Popen(['sleep', '1000'], preexec_fn=pdeathsig.preexec(signal.SIGTERM))
say('sleep', p.pid)
python("import pdeathsig.auto; here('auto'); forever()")
pdeathsig.arm(inherit=True)
if os.fork() == 0:
    here('fork')
    forever()
forever()
""",
        PDEATHSIG_BACKEND=backend,
    )
    seen = dict(tree.line().split() for _ in range(3))
    processes = [tree.adopt(seen[name]) for name in ("sleep", "auto", "fork")]
    tree.kill()
    assert all(process.dies() for process in processes)


@pytest.mark.parametrize("backend", BACKENDS)
def test_refused_prctl_is_named(start: Start, backend: str) -> None:
    tree = start(
        """
import pdeathsig, seccomp_deny
pdeathsig.status()
seccomp_deny.deny('prctl')
try:
    pdeathsig.arm()
except OSError as error:
    say('refused', error)
""",
        PDEATHSIG_BACKEND=backend,
    )
    assert tree.event("refused") == "[Errno 1] prctl: Operation not permitted"
    tree.top.wait(10)


def test_unknown_backend_is_named(start: Start) -> None:
    tree = start(
        """
try:
    import pdeathsig; pdeathsig.arm()
except ImportError as error:
    say(error)
""",
        PDEATHSIG_BACKEND="magic",
    )
    assert tree.line() == "PDEATHSIG_BACKEND='magic': not one of compiled, ctypes, syscall"
    tree.top.wait(10)


@pytest.mark.parametrize(("machine", "bits"), [("pdp11", 64), ("x86_64", 32)])
def test_a_machine_with_an_unknown_system_call_number_is_named(start: Start, machine: str, bits: int) -> None:
    tree = start(
        f"""
from types import SimpleNamespace
os.uname, sys.maxsize = lambda: SimpleNamespace(machine={machine!r}), 2 ** {bits - 1} - 1
import pdeathsig
try:
    pdeathsig.arm()
except NotImplementedError as error:
    say(error)
""",
        PDEATHSIG_BACKEND="syscall",
    )
    assert f"prctl(2) on {machine!r} is not known" in tree.line()
    tree.top.wait(10)


def test_another_platform(start: Start) -> None:
    """The import works, and arming names what is missing."""
    tree = start("""
sys.platform = 'darwin'
import pdeathsig
say(pdeathsig.supported(), pdeathsig.status().armed)
for what in (pdeathsig.arm, lambda: pdeathsig.arm(parent='thread'), pdeathsig.disarm, pdeathsig.preexec,
    lambda: __import__('pdeathsig.auto')):
    try:
        what()
    except NotImplementedError as error:
        say(error)
""")
    assert tree.line() == "False False"
    for name in ("arm()", "arm()", "disarm()", "preexec()", "arm()"):
        assert tree.line() == f"pdeathsig.{name} needs Linux's prctl(2); this is darwin"
    tree.top.wait(10)


def test_an_uncompiled_source_tree_is_not_used_like_a_build_without_the_extension(start: Start, tmp_path: Path) -> None:
    """Otherwise every program in its directory would run with the kernel's thread semantics."""
    shutil.copytree(Path(pdeathsig.__file__).parent, tmp_path / "pdeathsig", ignore=shutil.ignore_patterns("*.so"))
    tmp_path.joinpath("build_ffi.py").touch()
    code = """
import pdeathsig
try:
    pdeathsig.arm()
except ImportError as error:
    say(error)
"""
    path = f"{tmp_path}:{environment()['PYTHONPATH']}"
    tree = start(code, PYTHONPATH=path)
    assert "not compiled" in tree.line()
    tree.top.wait(10)
    tmp_path.joinpath("build_ffi.py").unlink()
    tree = start(code + "\nsay(pdeathsig.status().backend)", PYTHONPATH=path)
    assert tree.line() == "ctypes"
    tree.top.wait(10)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", ["", "scope='group'", "preexec_fn=lambda: None", "pdeathsig=signal.SIGTERM"])
@pytest.mark.parametrize("thread", [False, True], ids=["main", "thread"])
def test_popen_uses_a_preexec_fn(start: Start, backend: str, options: str, thread: bool) -> None:
    """There, too, the child is bound to the process: from a thread, by a descriptor."""
    tree = start(
        f"""
import pdeathsig
def spawn(): say('child', pdeathsig.Popen(['sh', '-c', 'read line; echo alive; read line'], {options}).pid)
worker = threading.Thread(target=spawn)
if {thread}: worker.start(); worker.join()
else: spawn()
forever()
""",
        PDEATHSIG_BACKEND=backend,
    )
    child = tree.process("child")
    tree.send()
    tree.event("alive")
    tree.kill()
    assert child.dies()


def test_a_forked_child_has_a_lifeline_of_its_own(start: Start) -> None:
    tree = start(
        """
import pdeathsig
say('first', pdeathsig.Popen(['sleep', '1000'], scope='group').pid)
if os.fork() == 0:
    here('sibling')
    say('second', pdeathsig.Popen(['sleep', '1000'], scope='group').pid)
    forever()
forever()
""",
        PDEATHSIG_BACKEND="ctypes",
    )
    first, sibling, second = tree.process("first"), tree.process("sibling"), tree.process("second")
    tree.kill()
    assert first.dies()
    assert second.alive()
    sibling.kill()
    assert second.dies()
