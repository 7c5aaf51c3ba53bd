"""import pdeathsig.auto: at the top of a program."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from conftest import Start

STATUS = "import pdeathsig; s = pdeathsig.status(); say(s.armed, s.signal, s.grace, s.inherit)"


@pytest.mark.parametrize(
    "spelling", ["import pdeathsig.auto", "from pdeathsig import auto", "import pdeathsig; import pdeathsig.auto"]
)
def test_auto_arms_with_sigkill(start: Start, spelling: str) -> None:
    tree = start(f"python(\"{spelling}; here('child'); forever()\"); forever()")
    child = tree.process("child")
    tree.kill()
    assert child.dies()
    assert tree.stderr() == f"pdeathsig: parent {tree.top.pid} is gone; SIGKILL to {child.pid}\n"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "True 9 None False"),
        ("TERM:5", "True 15 5.0 True"),
        ("0", "False None None False"),
        ("", "False None None False"),
    ],
)
def test_auto_takes_the_signal_from_the_environment(start: Start, value: str | None, expected: str) -> None:
    site = f"import sys; sys.path += {sys.path!r}; "
    tree = start(f"{site}import pdeathsig.auto; {STATUS}", "-S", PDEATHSIG=value)
    assert tree.line() == expected
    tree.top.wait(10)


def test_auto_leaves_an_earlier_arming_alone(start: Start) -> None:
    tree = start(f"import pdeathsig; pdeathsig.arm(signal.SIGTERM, grace=7); import pdeathsig.auto; {STATUS}")
    assert tree.line() == "True 15 7.0 False"
    tree.top.wait(10)


def test_auto_reads_the_quiet_variable_too(start: Start) -> None:
    tree = start("python(\"import pdeathsig.auto; here('child'); forever()\"); forever()", PDEATHSIG_QUIET="1")
    child = tree.process("child")
    tree.kill()
    assert child.dies()
    assert tree.stderr() == ""


def test_a_refused_arming_by_auto_is_an_error(start: Start) -> None:
    tree = start("""
import seccomp_deny
seccomp_deny.deny('prctl')
try:
    import pdeathsig.auto
except OSError as error:
    say('refused', error)
""")
    assert tree.event("refused") == "[Errno 1] prctl: Operation not permitted"
    tree.top.wait(10)


def test_parent_gone_before_the_import(start: Start) -> None:
    """A forked child knows its parent from the fork, without an import beforehand."""
    tree = start("""
import pdeathsig
if os.fork() == 0:
    here('child')
    before = int(wait())
    while os.getppid() == before: os.sched_yield()
    import pdeathsig.auto
    say('alive')
    forever()
forever()
""")
    child = tree.process("child")
    tree.send(str(tree.top.pid))
    tree.kill()
    assert child.dies()
    assert tree.line() == ""
    assert os.WTERMSIG(os.waitpid(child.pid, 0)[1]) == signal.SIGKILL
