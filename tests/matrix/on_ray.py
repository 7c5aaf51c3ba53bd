"""Ray, started by the program itself."""

from __future__ import annotations

from typing import Any

from rows import main, on_a_thread, row, started_below, work

needs = ("ray",)
# Ray starts spare workers in advance, and ends them unused.
options: dict[str, Any] = {"needs": needs, "limit": 240, "passing": r"ray::IDLE|default_worker\.py"}


def init() -> Any:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    started_below()
    return ray


@row("`ray.init`", 3, **options)
def plain() -> Any:
    return init()


@row("`ray.init` on a `Thread` that ends", 3, **options, known=("run",))
def thread() -> Any:
    return on_a_thread(init)


@row("tasks that start programs", 8, **options)
def tasks() -> Any:
    ray = init()
    return [ray.remote(work).remote(n) for n in range(2)]


@row("actors that start programs", 8, **options)
def actors() -> Any:
    ray = init()

    class Worker:
        def work(self) -> None:
            work()

    kept = [ray.remote(Worker).remote() for _ in range(2)]
    return kept, [actor.work.remote() for actor in kept]


if __name__ == "__main__":
    main()
