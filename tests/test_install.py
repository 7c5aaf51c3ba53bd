"""install(): every program that this process starts is bound."""

from __future__ import annotations

import _posixsubprocess
import multiprocessing
import os
import posix
import signal
import subprocess
import sys

import pytest
from conftest import Start

import pdeathsig

SPAWNS = {
    "subprocess": "p = subprocess.Popen(command)",
    "close_fds=False": "p = subprocess.Popen([os.path.join('/bin', 'sleep'), '1000'], close_fds=False)",
    "asyncio": """
import asyncio
loop = asyncio.new_event_loop()
p = loop.run_until_complete(asyncio.create_subprocess_exec(*command))
""",
    "preexec_fn": "p = subprocess.Popen(command, preexec_fn=lambda: None)",
    "multiprocessing spawn": """
import multiprocessing, time
p = multiprocessing.get_context('spawn').Process(target=time.sleep, args=(1000,))
p.start()
""",
    "multiprocessing fork": """
import multiprocessing, time
p = multiprocessing.get_context('fork').Process(target=time.sleep, args=(1000,))
p.start()
""",
}


@pytest.mark.parametrize("how", SPAWNS)
@pytest.mark.parametrize("thread", [False, True], ids=["main", "thread"])
def test_every_child_dies_with_the_installing_process(start: Start, how: str, thread: bool) -> None:
    if how == "asyncio" and thread and sys.version_info < (3, 12):
        pytest.skip("asyncio's own child watcher")
    body = "\n".join(f"    {line}" for line in SPAWNS[how].strip().splitlines())
    tree = start(f"""
import pdeathsig, warnings
warnings.simplefilter('ignore')
pdeathsig.install()
command = ['sleep', '1000']
keep = []
def spawn():
{body}
    say('child', p.pid)
    keep.append(locals())
worker = threading.Thread(target=spawn)
if {thread}: worker.start(); worker.join()
else: spawn()
say('started')
wait()
say('alive', os.waitpid(keep[0]['p'].pid, os.WNOHANG)[0])
forever()
""")
    child = tree.process("child")
    tree.event("started")
    tree.send()
    assert tree.event("alive") == "0"
    tree.kill()
    assert child.dies()
    assert tree.all_gone()


@pytest.mark.parametrize("by", ["pdeathsig.Popen", "subprocess.Popen"])
@pytest.mark.parametrize("scope", ["child", "group", "tree"])
def test_a_preexec_fn_that_arms_for_its_thread(start: Start, by: str, scope: str) -> None:
    """Ray has such a function. On a thread that ends, it would bind the child to that thread."""
    how = f", scope={scope!r}" if by == "pdeathsig.Popen" else ""
    tree = start(f"""
import pdeathsig
pdeathsig.install(scope={scope!r})
def spawn():
    p = {by}(['sh', '-c', 'echo child $$; exec sleep 1000'], preexec_fn=raw_pdeathsig{how})
    pdeathsig.Popen([sys.executable, '-c', "from actors import *; raw_pdeathsig(); here('raw'); forever()"],
        pdeathsig=None)
    wait()
worker = threading.Thread(target=spawn)
worker.start(); worker.join()
forever()
""")
    seen = dict(tree.line().split() for _ in range(2))
    child, raw = tree.adopt(seen["child"]), tree.adopt(seen["raw"])
    child.wait_for_command("sleep")
    tree.send("end the thread")
    assert raw.dies()
    assert child.alive()
    tree.kill()
    assert child.dies()
    assert tree.all_gone()


def test_scope_tree_keeps_the_background_jobs_of_a_program(start: Start) -> None:
    tree = start("""
import pdeathsig
pdeathsig.install(scope='tree')
say('returncode', subprocess.call(['sh', '-c',
    'setsid sh -c "echo server \\$\\$; exec sleep 1000" & read _; exit 4'], stdin=0))
forever()
""")
    server = tree.process("server")
    tree.send()
    assert tree.event("returncode") == "4"
    assert server.alive()
    tree.kill()
    assert server.dies()
    assert tree.all_gone()


def test_grace_for_any_program(start: Start) -> None:
    tree = start("""
import pdeathsig
pdeathsig.install(grace=0.1)
python('signal.signal(signal.SIGTERM, lambda *_: say("term")); here("child"); forever()')
forever()
""")
    child = tree.process("child")
    tree.kill()
    tree.event("term")
    assert child.dies()


def test_the_signal_can_be_chosen(start: Start) -> None:
    tree = start("""
import pdeathsig
pdeathsig.install(signal.SIGKILL)
pdeathsig.install(signal.SIGTERM)
python('signal.signal(signal.SIGTERM, lambda *_: (say("term"), os._exit(0))); here("child"); forever()')
forever()
""")
    child = tree.process("child")
    tree.kill()
    tree.event("term")
    assert child.dies()


def test_resource_trackers_outlive_their_parent(start: Start) -> None:
    """They unlink what their parent left in /dev/shm, and then end."""
    tree = start("""
import pdeathsig
pdeathsig.install()
from multiprocessing import shared_memory, resource_tracker
block = shared_memory.SharedMemory(create=True, size=10)
say('tracker', resource_tracker._resource_tracker._pid)
say('block', block.name)
forever()
""")
    tracker = tree.process("tracker")
    name = tree.event("block")
    tree.kill()
    assert tracker.dies()
    assert not os.path.exists(f"/dev/shm/{name}")


def test_workers_of_a_fork_server_arm_themselves(start: Start) -> None:
    tree = start("""
import pdeathsig
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
pdeathsig.install()
with ProcessPoolExecutor(1, multiprocessing.get_context('forkserver'), initializer=pdeathsig.arm) as pool:
    say('worker', pool.submit(os.getpid).result())
    from multiprocessing.forkserver import _forkserver
    say('server', _forkserver._forkserver_pid)
    from multiprocessing.resource_tracker import _resource_tracker
    say('tracker', _resource_tracker._pid)
    forever()
""")
    worker, server, tracker = tree.process("worker"), tree.process("server"), tree.process("tracker")
    tree.kill()
    assert worker.dies()
    assert server.dies()
    assert tracker.dies()


def test_uninstall_puts_everything_back() -> None:
    before = (vars(subprocess).copy(), vars(_posixsubprocess).copy())
    pdeathsig.install()
    pdeathsig.install()
    assert vars(_posixsubprocess) != before[1]
    pdeathsig.uninstall()
    pdeathsig.uninstall()
    assert (vars(subprocess), vars(_posixsubprocess)) == before
    assert subprocess.call(["true"]) == 0


def test_a_replacement_of_cpython_s_function_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mock or a tracer replaces the function, before or after install(), or below Popen."""
    module, name = (subprocess, "_fork_exec") if hasattr(subprocess, "_fork_exec") else (_posixsubprocess, "fork_exec")
    calls = []

    def put_in_place() -> None:
        beneath = getattr(module, name)

        def replacement(*args: object) -> object:
            calls.append(args)
            return beneath(*args)

        monkeypatch.setattr(module, name, replacement)

    with monkeypatch.context():
        put_in_place()
        assert pdeathsig.call(["true"]) == 0
        assert len(calls) == 1
        pdeathsig.install()
        assert subprocess.call(["true"]) == 0
        assert len(calls) == 2
        put_in_place()
        assert subprocess.call(["true"]) == 0
        assert len(calls) == 4
        assert pdeathsig.call(["true"]) == 0
        assert len(calls) == 6
        pdeathsig.uninstall()
        assert subprocess.call(["true"]) == 0
        assert len(calls) == 8
        pdeathsig.install()
        assert subprocess.call(["true"]) == 0
        assert len(calls) == 10
        pdeathsig.uninstall()
    monkeypatch.undo()
    assert getattr(subprocess, "_fork_exec", _posixsubprocess.fork_exec) is _posixsubprocess.fork_exec


def test_install_again_after_other_code_has_taken_it_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mock that began before install() and ends after it restores what was there at first."""
    module, name = (subprocess, "_fork_exec") if hasattr(subprocess, "_fork_exec") else (_posixsubprocess, "fork_exec")
    original = getattr(module, name)

    def mock(*arguments: object) -> object:
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, mock)
        pdeathsig.install()
    assert getattr(module, name) is original
    pdeathsig.install()
    pdeathsig.uninstall()
    pdeathsig.install()
    try:
        assert getattr(module, name) is not original
        assert subprocess.call(["true"]) == 0
    finally:
        pdeathsig.uninstall()
    assert getattr(module, name) is original


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="^sig: "):
        pdeathsig.install(1000)
    with pytest.raises(ValueError, match="^sig: "):
        pdeathsig.install("TERMINATE")
    with pytest.raises(ValueError, match="^sig: to a group only"):
        pdeathsig.install(15, scope="group")
    with pytest.raises(ValueError, match="^scope: "):
        pdeathsig.install(scope="all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^grace: nothing survives SIGKILL for that long; give sig="):
        pdeathsig.install(signal.SIGKILL, grace=5)
    assert subprocess.Popen(["true"]).wait() == 0
    assert os.posix_spawn is posix.posix_spawn
    assert multiprocessing.active_children() == []


def test_an_import_that_fails_leaves_nothing_half_installed(start: Start) -> None:
    tree = start("""
import pdeathsig
sys.modules['multiprocessing.util'] = None
try:
    pdeathsig.install()
except ImportError:
    say('refused')
del sys.modules['multiprocessing.util']
pdeathsig.install()
say('child', subprocess.Popen(['sleep', '1000']).pid)
forever()
""")
    tree.event("refused")
    child = tree.process("child")
    tree.kill()
    assert child.dies()
