"""multiprocessing: the parent is the process that asked for the worker, under every start method."""

from __future__ import annotations

import pytest
from conftest import Start

SETUP = """
import concurrent.futures, multiprocessing, pdeathsig, pool_tasks
context = multiprocessing.get_context({method!r})
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_die_with_the_process_that_asked_for_them(start: Start, method: str) -> None:
    tree = start(f"""{SETUP.format(method=method)}
pool = concurrent.futures.ProcessPoolExecutor(2, mp_context=context, initializer=pdeathsig.arm)
say('worker', pool.submit(os.getpid).result())
tasks = [pool.submit(pool_tasks.hold_the_gil) for _ in range(2)]
say('at', 'work')
forever()
""")
    worker = tree.process("worker")
    tree.event("at")
    tree.kill()
    assert worker.dies()
    assert tree.all_gone()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_started_from_a_thread_outlive_it(start: Start, method: str) -> None:
    """And the parent is who it should be."""
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
    """multiprocessing.parent_process() is then still the parent's parent."""
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
