"""multiprocessing and concurrent.futures, under each start method."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import shared_memory
from multiprocessing.managers import SharedMemoryManager
from typing import Any

from rows import ROWS, compute, main, on_a_thread, row, started, work

Context = Any


def process(context: Context) -> Any:
    worker = context.Process(target=work)
    worker.start()
    return worker


def process_from_a_thread(context: Context) -> Any:
    return on_a_thread(process, context)


def daemon(context: Context) -> Any:
    worker = context.Process(target=compute, daemon=True)
    worker.start()
    return worker


def pool(context: Context) -> Any:
    workers = context.Pool(2)
    return workers, workers.map_async(work, range(2), chunksize=1)


def pool_max_tasks(context: Context) -> Any:
    """Each worker ends after its first task, and the pool's own thread starts another."""
    workers = context.Pool(2, maxtasksperchild=1)
    workers.map(time.sleep, [0] * 4, chunksize=1)
    return workers, workers.map_async(work, range(2), chunksize=1)


def pool_from_a_thread(context: Context) -> Any:
    return on_a_thread(pool, context)


def executor(context: Context) -> Any:
    workers = ProcessPoolExecutor(2, mp_context=context)
    return workers, [workers.submit(work) for _ in range(2)]


def executor_from_a_thread(context: Context) -> Any:
    """The thread that submits a task starts the worker."""
    return on_a_thread(executor, context)


def executor_max_tasks(context: Context) -> Any:
    workers = ProcessPoolExecutor(2, mp_context=context, max_tasks_per_child=1)
    list(workers.map(time.sleep, [0] * 4))
    return workers, [workers.submit(work) for _ in range(2)]


def manager(context: Context) -> Any:
    server = context.Manager()
    started(server._process.pid)
    return server, server.dict()


def manager_from_a_thread(context: Context) -> Any:
    return on_a_thread(manager, context)


def attach(name: str) -> None:
    block = shared_memory.SharedMemory(name)
    compute(block)


def shared(context: Context) -> Any:
    block = shared_memory.SharedMemory(create=True, size=1 << 20)
    worker = context.Process(target=attach, args=(block.name,))
    worker.start()
    return block, worker


def shared_manager(context: Context) -> Any:
    server = SharedMemoryManager(ctx=context)
    server.start()
    block = server.SharedMemory(1 << 20)
    worker = context.Process(target=attach, args=(block.name,))
    worker.start()
    return server, worker


def semaphores(context: Context) -> Any:
    queue, lock = context.Queue(), context.Lock()
    worker = context.Process(target=compute, args=(queue, lock))
    worker.start()
    return queue, lock, worker


def nest(method: str) -> None:
    started(multiprocessing.current_process().pid or 0)
    context: Context = multiprocessing.get_context(method)
    worker = context.Process(target=work)
    worker.start()
    worker.join()


def nested(context: Context) -> Any:
    worker = context.Process(target=nest, args=(context.get_start_method(),))
    worker.start()
    return worker


KINDS: list[tuple[Callable[[Context], Any], str, int, str]] = [
    (process, "`Process`", 2, ""),
    (process_from_a_thread, "`Process`, from a `Thread` that ends", 2, ""),
    (daemon, "`Process(daemon=True)`, busy", 1, ""),
    (nested, "`Process` of a `Process`", 3, ""),
    (pool, "`Pool`", 4, ""),
    (pool_from_a_thread, "`Pool`, from a `Thread` that ends", 4, ""),
    (pool_max_tasks, "`Pool(maxtasksperchild=1)`, workers replaced", 4, ""),
    (executor, "`ProcessPoolExecutor`", 4, ""),
    (executor_from_a_thread, "`ProcessPoolExecutor`, submitted to by a `Thread` that ends", 4, ""),
    (executor_max_tasks, "`ProcessPoolExecutor(max_tasks_per_child=1)`", 4, ""),
    (manager, "`Manager`", 1, ""),
    (manager_from_a_thread, "`Manager`, from a `Thread` that ends", 1, ""),
    (shared, "`SharedMemory`", 1, ""),
    (shared_manager, "`SharedMemoryManager`", 1, ""),
    (semaphores, "`Queue` and `Lock`", 1, ""),
]


def _add(method: str, kind: Callable[[Context], Any], title: str, announced: int, passing: str) -> None:
    def set_up() -> Any:
        return kind(multiprocessing.get_context(method))

    set_up.__name__ = f"{method}_{kind.__name__}"
    row(f"{method}: {title}", announced, passing=passing, light=True)(set_up)
    assert f"multiprocessing.{set_up.__name__}" in ROWS or __name__ == "__main__"


for _method in ("fork", "spawn", "forkserver"):
    for _kind in KINDS:
        if not (_method == "fork" and _kind[0] is executor_max_tasks):  # Python forbids it
            _add(_method, *_kind)

if __name__ == "__main__":
    main()
