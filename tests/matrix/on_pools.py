"""Libraries with process pools: joblib, loky, billiard, Pebble, MPIRE."""

from __future__ import annotations

import threading
from typing import Any

from rows import compute, main, on_a_thread, row, work


def parallel(tasks: list[Any], **options: Any) -> None:
    """Run the tasks on a thread that stays, because Parallel blocks until they are done."""
    import joblib

    def body() -> None:
        with joblib.parallel_config(**options):
            joblib.Parallel(n_jobs=2)(tasks)

    threading.Thread(target=body, daemon=True).start()


@row("`joblib.Parallel`", 4, needs=("joblib",))
def joblib_loky() -> None:
    import joblib

    parallel([joblib.delayed(work)(n) for n in range(2)])


@row("`joblib.Parallel`, a large array in /dev/shm", 2, needs=("joblib", "numpy"))
def joblib_memmap() -> None:
    import joblib
    import numpy

    array = numpy.zeros(1 << 20)
    parallel([joblib.delayed(compute)(array) for _ in range(2)])


@row('`joblib.Parallel`, `backend="multiprocessing"`', 4, needs=("joblib",))
def joblib_multiprocessing() -> None:
    import joblib

    parallel([joblib.delayed(work)(n) for n in range(2)], backend="multiprocessing")


@row('`joblib.Parallel`, `backend="threading"`: tasks that start programs', 2, needs=("joblib",))
def joblib_threading() -> None:
    import joblib

    parallel([joblib.delayed(work)(n) for n in range(2)], backend="threading")


@row("loky: `get_reusable_executor`", 4, needs=("loky",))
def loky_executor() -> Any:
    import loky

    executor = loky.get_reusable_executor(max_workers=2)
    return executor, [executor.submit(work) for _ in range(2)]


@row("loky: from a `Thread` that ends", 4, needs=("loky",))
def loky_thread() -> Any:
    return on_a_thread(loky_executor)


@row("billiard: `Process`", 2, needs=("billiard",))
def billiard_process() -> Any:
    import billiard

    process = billiard.Process(target=work)
    process.start()
    return process


@row("billiard: `Pool`", 4, needs=("billiard",))
def billiard_pool() -> Any:
    import billiard

    pool = billiard.Pool(2)
    return pool, [pool.apply_async(work) for _ in range(2)]


@row("billiard: `Pool`, from a `Thread` that ends", 4, needs=("billiard",))
def billiard_thread() -> Any:
    return on_a_thread(billiard_pool)


@row("Pebble: `ProcessPool`", 4, needs=("pebble",))
def pebble_pool() -> Any:
    import pebble

    pool = pebble.ProcessPool(max_workers=2)
    return pool, [pool.schedule(work) for _ in range(2)]


@row("MPIRE: `WorkerPool`", 4, needs=("mpire",))
def mpire_pool() -> None:
    import mpire

    def body() -> None:
        with mpire.WorkerPool(2) as pool:
            pool.map(work, range(2), chunk_size=1)

    threading.Thread(target=body, daemon=True).start()


if __name__ == "__main__":
    main()
