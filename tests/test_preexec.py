"""preexec(): binding for code that must use subprocess."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import Start

import pdeathsig


def test_any_program_dies_with_its_parent(start: Start) -> None:
    tree = start(
        "import pdeathsig; p = subprocess.Popen(['sleep', '1000'], preexec_fn=pdeathsig.preexec()); "
        "say('child', p.pid); forever()"
    )
    child = tree.process("child")
    tree.kill()
    assert child.dies()
    assert tree.all_gone()


@pytest.mark.parametrize("handler", ["signal.SIG_IGN", "lambda *_: None", "signal.SIG_DFL"])
def test_another_signal_is_made_deliverable(start: Start, handler: str) -> None:
    tree = start(f"""
import pdeathsig
signal.signal(signal.SIGTERM, {handler})
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
p = subprocess.Popen(['sleep', '1000'], preexec_fn=pdeathsig.preexec(signal.SIGTERM))
say('child', p.pid)
forever()
""")
    child = tree.process("child")
    tree.kill()
    assert child.dies()


@pytest.mark.parametrize("handler", ["signal.SIG_IGN", "lambda *_: None", "signal.SIG_DFL"])
def test_parent_gone_between_fork_and_arming(start: Start, handler: str) -> None:
    """Then the program must not start."""
    tree = start(f"""
import pdeathsig
signal.signal(signal.SIGTERM, {handler})
parent = os.getpid()
def orphaned():
    here('child')
    while os.getppid() == parent: os.sched_yield()
subprocess.Popen(['echo', 'began'], preexec_fn=pdeathsig.preexec(signal.SIGTERM, then=orphaned))
""")
    child = tree.process("child")
    tree.kill()
    assert child.dies()
    assert tree.line() == ""
    assert tree.stderr() == f"pdeathsig: parent {tree.top.pid} is gone; SIGTERM to {child.pid}\n"


def test_made_in_one_process_used_in_another(start: Start) -> None:
    """A forked child uses its parent's function, and its own child is bound to the forked child."""
    tree = start("""
import pdeathsig
bind = pdeathsig.preexec()
if os.fork() == 0:
    p = subprocess.Popen(['sleep', '1000'], preexec_fn=bind)
    say('middle', os.getpid())
    say('child', p.pid)
    forever()
forever()
""")
    middle, child = tree.process("middle"), tree.process("child")
    assert child.alive()
    middle.kill()
    assert child.dies()


def test_armed_after_user_and_group_changes(start: Start, root: None) -> None:
    tree = start("""
import pdeathsig
p = subprocess.Popen(['sleep', '1000'], preexec_fn=pdeathsig.preexec(), user=65534, group=65534, extra_groups=[])
say('child', p.pid)
forever()
""")
    child = tree.process("child")
    tree.kill()
    assert child.dies()


def test_the_other_callable_comes_first(start: Start, root: None) -> None:
    """It may change credentials, which would clear the kernel's setting."""
    tree = start("""
import pdeathsig
p = subprocess.Popen(['sleep', '1000'], preexec_fn=pdeathsig.preexec(then=lambda: (os.setsid(), os.setuid(65534))))
say('child', p.pid)
forever()
""")
    child = tree.process("child")
    tree.kill()
    assert child.dies()


def test_in_an_armed_and_inheriting_parent(start: Start) -> None:
    tree = start("""
import pdeathsig
pdeathsig.arm(inherit=True)
p = subprocess.Popen(['sleep', '1000'], preexec_fn=pdeathsig.preexec())
say('child', p.pid)
forever()
""")
    child = tree.process("child")
    tree.kill()
    assert child.dies()


def test_warns_on_a_thread_other_than_the_main_one(start: Start) -> None:
    tree = start("""
import pdeathsig, warnings
def make():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pdeathsig.preexec()
    say(len(caught), *(f"{w.category.__name__} {w.message}" for w in caught))
make()
thread = threading.Thread(target=make); thread.start(); thread.join()
""")
    assert tree.line() == "0"
    warning = tree.line()
    assert warning.startswith("1 RuntimeWarning pdeathsig.preexec() on a thread other than the main one")
    assert "pdeathsig.Popen" in warning
    tree.top.wait(10)


def test_refused_prctl_is_reported_and_nothing_is_started(start: Start) -> None:
    tree = start("""
import pdeathsig, seccomp_deny
bind = pdeathsig.preexec()
seccomp_deny.deny('prctl')
try:
    subprocess.Popen(['echo', 'began'], preexec_fn=bind)
except subprocess.SubprocessError as error:
    say('refused', error)
""")
    assert tree.event("refused") == "Exception occurred in preexec_fn."
    tree.top.wait(10)
    assert tree.line() == ""


@pytest.mark.parametrize(("arguments", "error"), [((0,), ValueError), (("KILLED",), ValueError), ((9, 9), TypeError)])
def test_bad_argument_is_named(arguments: tuple[object, ...], error: type[Exception]) -> None:
    with pytest.raises(error, match="^(sig|then): "):
        pdeathsig.preexec(*arguments)  # type: ignore[arg-type]


def test_repr() -> None:
    assert repr(pdeathsig.preexec()) == "pdeathsig.preexec(9)"
    assert repr(pdeathsig.preexec(15, print)) == "pdeathsig.preexec(15, then=<built-in function print>)"


def test_the_childs_output_is_its_own() -> None:
    out = subprocess.run(
        [sys.executable, "-c", "print('hello')"], preexec_fn=pdeathsig.preexec(), capture_output=True, check=True
    )
    assert (out.stdout, out.stderr) == (b"hello\n", b"")
