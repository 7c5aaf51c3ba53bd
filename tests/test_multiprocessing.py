"""multiprocessing: a worker's parent is the process that asked for it, under every start method."""

from __future__ import annotations

import os
import sys

import pytest
from conftest import Start

SETUP = """
import concurrent.futures, multiprocessing, pdeathsig, pool_tasks
context = multiprocessing.get_context({method!r})
"""


# Each defines ask(task). It returns at once, with a function that waits for the result.
KINDS = {
    "ProcessPoolExecutor": """
pool = concurrent.futures.ProcessPoolExecutor(2, mp_context=context, initializer=initializer)
def ask(task): return pool.submit(task).result
""",
    "ProcessPoolExecutor, max_tasks_per_child": """
pool = concurrent.futures.ProcessPoolExecutor(
    2, mp_context=context, initializer=initializer, max_tasks_per_child=1
)
def ask(task): return pool.submit(task).result
""",
    "Pool": """
pool = context.Pool(2, initializer=initializer)
def ask(task): return pool.apply_async(task).get
""",
    "Pool, maxtasksperchild": """
pool = context.Pool(2, initializer=initializer, maxtasksperchild=1)
def ask(task): return pool.apply_async(task).get
""",
    "Process": """
ours, theirs = context.Pipe()
process = context.Process(target=pool_tasks.answer, args=(theirs, initializer))
process.start()
def ask(task):
    ours.send(task)
    return ours.recv
""",
    "Manager": """
from multiprocessing.managers import SyncManager
manager = SyncManager(ctx=context)
manager.start(initializer=initializer)
def ask(task): return lambda: manager.list([manager._process.pid])[0]
""",
}
# A worker is armed by its initializer or by the family. Then come the names in /dev/shm.
BEGIN = """
import concurrent.futures, multiprocessing, pdeathsig, pool_tasks, warnings
from multiprocessing import shared_memory, synchronize
warnings.simplefilter('ignore')
context = multiprocessing.get_context({method!r})
initializer = {initializer}
names = []
def make_name(real=synchronize.SemLock._make_name):
    names.append('sem.' + (name := real())[1:])
    return name
synchronize.SemLock._make_name = staticmethod(make_name)
block = shared_memory.SharedMemory(create=True, size=1)
names.append(block.name)
lock = context.Lock()
"""
WAYS = {"initializer": ("pdeathsig.arm", None), "family": ("None", "KILL")}


def begin(method: str, kind: str, way: str) -> tuple[str, dict[str, str | None]]:
    if "max_tasks" in kind and (method == "fork" or sys.version_info < (3, 11)):
        pytest.skip("concurrent.futures refuses")
    initializer, value = WAYS[way]
    return BEGIN.format(method=method, initializer=initializer), {"PDEATHSIG": value, "PDEATHSIG_QUIET": "1"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_die_with_a_killed_parent(start: Start, method: str, kind: str, way: str) -> None:
    """No worker is left, though each holds the GIL. The trackers clean up /dev/shm, and end too."""
    code, environment = begin(method, kind, way)
    tree = start(
        f"""{code}{KINDS[kind]}
worker = ask(os.getpid)()
say('worker', worker, os.getpid())
ask(pool_tasks.hold_the_gil)
say('names', *names)
forever()
""",
        **environment,
    )
    worker, parent = tree.event("worker").split()
    assert worker != parent
    names = tree.event("names").split()
    assert os.path.exists(f"/dev/shm/{names[0]}")
    tree.kill()
    assert tree.all_gone()
    assert [name for name in names if os.path.exists(f"/dev/shm/{name}")] == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_outlive_the_thread_that_asked_for_them(start: Start, method: str, kind: str, way: str) -> None:
    """They answer; and they are the same ones, unless the pool replaces workers."""
    code, environment = begin(method, kind, way)
    body = "\n".join(f"    {line}" for line in KINDS[kind].strip().splitlines())
    tree = start(
        f"""{code}
keep = {{}}
def begin():
    python("raw_pdeathsig(); here('raw'); forever()", env={{**os.environ, 'PDEATHSIG': '0'}})
{body}
    keep.update(locals())
    say('worker', ask(os.getpid)())
    wait()
thread = threading.Thread(target=begin); thread.start(); thread.join()
wait()
say('workers', *{{keep['ask'](os.getpid)() for _ in range(5)}})
forever()
""",
        **environment,
    )
    seen = dict(tree.line().split() for _ in range(2))
    worker, raw = seen["worker"], tree.adopt(seen["raw"])
    tree.send("end the thread")
    assert raw.dies()
    tree.send("ask")
    workers = tree.event("workers").split()
    if "per" in kind:
        assert worker not in workers
    else:
        assert tree.adopt(worker).alive()
    tree.kill()
    assert tree.all_gone()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_started_from_a_thread_outlive_it(start: Start, method: str) -> None:
    """Their parent is the process that started them."""
    tree = start(f"""{SETUP.format(method=method)}
def begin():
    global process
    process = context.Process(target=pool_tasks.arm_and_answer)
    process.start()
    python("raw_pdeathsig(); here('raw'); forever()")
    wait()
thread = threading.Thread(target=begin); thread.start(); thread.join()
forever()
""")
    seen = dict(tree.line().split(" ", 1) for _ in range(2))
    pid, parent, watching = seen["worker"].split()
    worker, raw = tree.adopt(pid), tree.adopt(seen["raw"])
    assert (watching if method == "forkserver" else parent) == str(tree.top.pid)
    tree.send("end the thread")
    assert raw.dies()
    worker.kill(10)
    tree.event("alive")
    tree.kill()
    assert worker.dies()
    assert tree.all_gone()


def test_a_fork_of_a_fork_server_child_is_bound_to_that(start: Start) -> None:
    """There, multiprocessing.parent_process() is still the parent's parent."""
    tree = start(f"""{SETUP.format(method="forkserver")}
process = context.Process(target=pool_tasks.fork_and_arm)
process.start()
forever()
""")
    seen = dict(tree.line().split(" ", 1) for _ in range(2))
    worker = tree.adopt(seen["worker"])
    pid, parent = seen["forked"].split()
    forked = tree.adopt(pid)
    assert parent == str(worker.pid)
    worker.kill()
    assert forked.dies()
    tree.kill()
    assert tree.all_gone()


def test_parent_gone_before_the_fork_servers_child_arms(start: Start) -> None:
    tree = start(f"""{SETUP.format(method="forkserver")}
process = context.Process(target=pool_tasks.arm_when_orphaned)
process.start()
forever()
""")
    worker = tree.process("worker")
    tree.kill()
    assert worker.dies()
    assert tree.all_gone()
