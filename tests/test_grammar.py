"""One grammar: what names a signal means the same at every door, and a bad value is told so."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Start
from harness import run

import pdeathsig

SLEEP = ["sleep", "1000"]
FORMS = ["TERM", "SIGTERM", "term", "SigTerm", 15, "15", signal.SIGTERM]
NO_SIGNALS = ["TERMINATE", "SIG", "SIG_DFL", "", " TERM", "0", 0, -15, 65, "65", 10**30, "9" * 99]
END_NO_PROCESS = ["CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "WINCH", signal.SIGCHLD, int(signal.SIGSTOP)]


DOORS: dict[str, tuple[str, Callable[[Any], object]]] = {
    "Popen": ("pdeathsig", lambda sig: pdeathsig.Popen(SLEEP, pdeathsig=sig)),
    "run, tree": ("pdeathsig", lambda sig: pdeathsig.run(SLEEP, pdeathsig=sig, scope="tree")),
    "install": ("sig", pdeathsig.install),
    "guarded": ("sig", lambda sig: pdeathsig.guarded(SLEEP, sig)),
    "preexec": ("sig", pdeathsig.preexec),
    "arm": ("sig", pdeathsig.arm),
    "arm, thread": ("sig", lambda sig: pdeathsig.arm(sig, parent="thread")),
    "kill_tree": ("sig", lambda sig: pdeathsig.kill_tree(2**30, sig)),
    "kill_group": ("sig", lambda sig: pdeathsig.kill_group(2**30, sig)),
}


@pytest.mark.parametrize("sig", FORMS, ids=str)
def test_a_signal_by_name_or_number(start: Start, sig: Any) -> None:
    sig = sig if isinstance(sig, str) else int(sig)
    tree = start(f"""
import pdeathsig
pdeathsig.arm({sig!r})
say(pdeathsig.status().signal)
pdeathsig.disarm()
say(pdeathsig.preexec({sig!r}).sig, pdeathsig.guarded(['true'], {sig!r})[1:3])
trap = ['sh', '-c', 'trap "echo term; exit" TERM; echo up; while :; do sleep 0.01; done']
for scope in ('child', 'tree'):
    with pdeathsig.Popen(trap, stdout=subprocess.PIPE, pdeathsig={sig!r}, scope=scope) as p:
        p.stdout.readline()
        p.kill()
    say('started', scope)
pdeathsig.install({sig!r})
say('child', subprocess.Popen(
    [sys.executable, '-c', 'from actors import *; import time\\n'
     'signal.signal(signal.SIGTERM, lambda *_: (say("got term"), os._exit(0)))\\nsay("ready"); time.sleep(1000)'],
).pid)
forever()
""")
    assert [tree.line() for _ in range(4)] == ["15", "15 ['--signal', 'TERM']", "started child", "started tree"]
    seen = sorted(tree.line() for _ in range(2))
    assert seen[1] == "ready", seen
    child = tree.adopt(seen[0].split()[1])
    tree.kill()
    assert tree.line() == "got term"
    assert child.dies()


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("sig", [*NO_SIGNALS, *END_NO_PROCESS], ids=lambda sig: str(sig)[:12])
def test_what_is_no_signal_to_end_by_is_refused_by_name(door: str, sig: Any) -> None:
    name, call = DOORS[door]
    with pytest.raises(ValueError, match=f"^{name}: .*; give ") as caught:
        call(sig)
    assert repr(sig) in str(caught.value)
    assert not pdeathsig.status().armed


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("sig", [True, 9.0, b"TERM", ["TERM"]], ids=str)
def test_what_is_neither_name_nor_number_is_refused_by_name(door: str, sig: Any) -> None:
    name, call = DOORS[door]
    with pytest.raises(TypeError, match=f"^{name}: .*{type(sig).__name__}; give "):
        call(sig)
    assert not pdeathsig.status().armed


@pytest.mark.parametrize("value", ["", "0", "off", "OFF", "no", "No", "false", "False"])
def test_pdeathsig_off(value: str) -> None:
    code = """
import os, pdeathsig.auto
s = pdeathsig.status()
print(s.armed, s.problems, os.environ.get('PDEATHSIG_PARENT'))
"""
    ended = run(code, PDEATHSIG=value, PDEATHSIG_PARENT="1:1")
    assert (ended.stdout, ended.stderr) == ("False () None\n", "")


@pytest.mark.parametrize("value", ["TERM", "term", "SIGTERM", "15", "Term:5", "15:5"])
def test_pdeathsig_by_name_or_number(value: str) -> None:
    ended = run("import pdeathsig; s = pdeathsig.status(); print(s.signal, s.grace)", PDEATHSIG=value)
    assert (ended.stdout, ended.stderr) == (f"15 {5.0 if ':' in value else None}\n", "")


@pytest.mark.parametrize("value", ["1", "true", "True", "yes", "on", "1:5"])
def test_pdeathsig_that_names_no_signal_is_refused_with_what_to_write(value: str) -> None:
    ended = run("print('still running')", PDEATHSIG=value)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert ended.stderr.startswith(f"pdeathsig: PDEATHSIG={value!r}: ")
    assert "write KILL, TERM, TERM:5" in ended.stderr


@pytest.mark.parametrize("value", [*filter(None, (sig for sig in NO_SIGNALS if isinstance(sig, str))), "CHLD", "stop"])
def test_pdeathsig_that_is_no_signal_is_refused(value: str) -> None:
    if value == "0":
        pytest.skip("off")
    ended = run("print('still running')", PDEATHSIG=value)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert ended.stderr.startswith(f"pdeathsig: PDEATHSIG={value!r}: ")


@pytest.mark.parametrize("value", ["off", "no", "FALSE"])
def test_a_child_with_pdeathsig_off_leaves_the_family(start: Start, value: str) -> None:
    tree = start(
        f"""
say('child', subprocess.Popen(['sleep', '1000'], env={{**os.environ, 'PDEATHSIG': {value!r}}}).pid)
forever()
""",
        PDEATHSIG="KILL",
    )
    child = tree.process("child")
    tree.kill()
    assert tree.top.wait(10) is not None
    assert child.alive()
    child.kill()
    assert child.dies()


def test_quiet_takes_the_same_words(start: Start) -> None:
    said = {}
    for value in ("off", "1", "yes"):
        ended = run("import os, pdeathsig; pdeathsig.arm(parent=4194303)", PDEATHSIG_QUIET=value)
        said[value] = bool(ended.stderr)
        assert ended.returncode == -signal.SIGKILL, sys.platform
    assert said == {"off": True, "1": False, "yes": False}
