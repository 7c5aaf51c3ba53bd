"""Dask distributed."""

from __future__ import annotations

import threading
from typing import Any

from rows import main, on_a_thread, row, work

needs = ("distributed",)


def cluster(**options: Any) -> Any:
    import distributed

    client = distributed.Client(
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, **options)
    )
    return client, client.map(work, range(2), pure=False)


@row("`LocalCluster`: nannies, workers, tasks that start programs", 4, needs=needs)
def local() -> Any:
    return cluster()


@row("`LocalCluster`, from a `Thread` that ends", 4, needs=needs)
def thread() -> Any:
    return on_a_thread(cluster)


@row("`LocalCluster(processes=False)`: workers are threads, tasks start programs", 2, needs=needs)
def threads() -> Any:
    return cluster(processes=False)


@row('`dask.config.set(scheduler="processes")`', 4, needs=needs)
def scheduler_processes() -> None:
    import dask

    def body() -> None:
        dask.compute(*[dask.delayed(work)(n) for n in range(2)], scheduler="processes", num_workers=2, chunksize=1)

    threading.Thread(target=body, daemon=True).start()


if __name__ == "__main__":
    main()
