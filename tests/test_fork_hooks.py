"""Functions given to os.register_at_fork and preexec_fn run as they do without pdeathsig."""

from __future__ import annotations

import pytest
from harness import run

HOOKS = """
from actors import *
import multiprocessing
ran = []
os.register_at_fork(
    before=lambda: ran.append('before'),
    after_in_parent=lambda: ran.append('parent'),
    after_in_child=lambda: ran.append('child'),
)
def tell(where):
    say(where, *ran)
    ran.clear()
def preexec():
    tell('preexec_fn')
    os.close(0)
def all_ways():
    if os.fork() == 0:
        tell('forked')
        os._exit(0)
    os.wait()
    tell('fork')
    subprocess.run(['sh', '-c', 'test -e /proc/self/fd/0 || echo closed'], preexec_fn=preexec, check=True)
    tell('subprocess')
    subprocess.run(['true'], check=True)
    if hasattr(os, 'posix_spawn'):
        os.posix_spawn('/bin/true', ['true'], os.environ)
        os.wait()
    os.system('true')
    tell('no fork')
    worker = multiprocessing.get_context('fork').Process(target=tell, args=('worker',))
    worker.start()
    worker.join()
    tell('multiprocessing')
all_ways()
thread = threading.Thread(target=all_ways)
thread.start()
thread.join()
"""


@pytest.mark.parametrize("way", ["install", "family"])
def test_hooks_at_fork_run_when_and_where_they_do_without_pdeathsig(way: str) -> None:
    bare = run(HOOKS).stdout
    assert "preexec_fn before child\nclosed\nsubprocess before parent\nno fork\n" in bare
    assert bare.count("worker before child") == 2
    if way == "install":
        assert run("import pdeathsig; pdeathsig.install()\n" + HOOKS).stdout == bare
    else:
        assert run(HOOKS, PDEATHSIG="KILL").stdout == bare
