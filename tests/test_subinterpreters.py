"""``site`` runs in each subinterpreter, but PDEATHSIG arms a process once, at its start."""

from __future__ import annotations

import sys

import pytest
from conftest import Start

KINDS = ["legacy", "isolated"]
CREATE = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
def create(kind):
    if sys.version_info >= (3, 13):
        return interpreters.create(kind)
    return interpreters.create(isolated=kind == 'isolated')
def run(kind, code):
    sub = create(kind)
    failed = interpreters.run_string(sub, 'import os\\n' + code)
    if failed:
        say('failed', failed.formatted)
    interpreters.destroy(sub)
"""

# Subinterpreters learn from pdeathsig._quick if the process is armed. The rest of the extension is
# for the main interpreter.
pytestmark = pytest.mark.skipif(sys.implementation.name != "cpython", reason="CPython's subinterpreters")


@pytest.mark.parametrize("kind", KINDS)
def test_the_process_stays_armed_as_it_is(start: Start, kind: str) -> None:
    tree = start(
        f"""python({CREATE!r} + '''
import pdeathsig
before = str(pdeathsig.status())
run({kind!r}, "import pdeathsig; os.write(1, b'armed %d\\\\\\\\n' % pdeathsig._quick.pds_armed())")
say('same', str(pdeathsig.status()) == before)
here('child')
forever()''')
forever()""",
        PDEATHSIG="TERM:5",
        PDEATHSIG_QUIET="1",
    )
    assert tree.event("armed") == "1"
    assert tree.event("same") == "True"
    child = tree.process("child")
    tree.kill()
    assert child.dies()
    assert tree.stderr() == ""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", ["KILL", "nonsense"])
def test_a_value_set_later_is_for_those_that_are_started(start: Start, kind: str, value: str) -> None:
    """A new subinterpreter neither arms this process nor ends it, even without the extension."""
    tree = start(
        CREATE
        + f"""
os.environ['PDEATHSIG'] = {value!r}
run({kind!r}, "os.write(1, b'ran\\\\n')")
import pdeathsig
say('armed', pdeathsig.status().armed)
"""
    )
    assert tree.event("ran") == ""
    assert tree.event("armed") == "False"
    assert tree.top.wait(10) == 0
    assert tree.stderr() == ""


def test_an_isolated_one_is_told_what_it_cannot_load(start: Start) -> None:
    """This is a limit in docs/limits.md. It can arm the process, by the shim alone."""
    if sys.version_info < (3, 12):
        pytest.skip("all are alike before 3.12")
    tree = start(
        CREATE
        + """
run('isolated', '''
import pdeathsig
pdeathsig.arm()
try:
    pdeathsig.status()
except ImportError as error:
    os.write(1, b'%s\\\\n' % str(error).encode())
''')
say('armed', bool(__import__('pdeathsig').status()))
"""
    )
    assert "does not support loading in subinterpreters" in tree.line()
    assert tree.event("armed") == "True"
    assert tree.top.wait(10) == 0


@pytest.mark.skipif(sys.version_info < (3, 14), reason="needs Python 3.14: concurrent.interpreters")
def test_a_pool_of_interpreters(start: Start) -> None:
    tree = start(
        """python('''
from concurrent.futures import InterpreterPoolExecutor
with InterpreterPoolExecutor(2) as pool:
    say('sums', *pool.map(sum, [(1, 2), (3, 4)]))
from concurrent import interpreters
sub = interpreters.create()
sub.exec("import os, pdeathsig; os.write(1, b'armed %d\\\\\\\\n' % pdeathsig._quick.pds_armed())")
here('child')
forever()''')
forever()""",
        PDEATHSIG="KILL",
        PDEATHSIG_QUIET="1",
    )
    assert tree.event("sums") == "3 7"
    assert tree.event("armed") == "1"
    child = tree.process("child")
    tree.kill()
    assert child.dies()
    assert tree.stderr() == ""
