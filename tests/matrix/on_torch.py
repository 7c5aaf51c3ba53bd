"""PyTorch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rows import HERE, compute, main, on_a_thread, row, started, work

needs = ("torch",)
options: dict[str, Any] = {"needs": needs, "limit": 180}


class Items:
    """An endless data set."""

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, index: int) -> Any:
        import torch

        return torch.zeros(1 << 16)


def announce(_: int) -> None:
    import os

    started(os.getpid())


def loader(**options: Any) -> Any:

    from torch.utils.data import DataLoader

    items: Any = Items()
    batches = iter(DataLoader(items, 2, num_workers=2, worker_init_fn=announce, sampler=range(1 << 40), **options))
    next(batches)
    return batches


@row("`DataLoader(num_workers=2)`", 2, **options)
def data_loader() -> Any:
    return loader()


@row("`DataLoader(persistent_workers=True)`", 2, **options)
def persistent() -> Any:
    return loader(persistent_workers=True)


@row("`DataLoader`, from a `Thread` that ends", 2, **options)
def thread() -> Any:
    return on_a_thread(loader)


@row("`DataLoader`, spawn", 2, **options)
def spawned_loader() -> Any:
    return loader(multiprocessing_context="spawn")


@row("`DataLoader`, the file_system sharing strategy (torch_shm_manager)", 2, **options)
def file_system() -> Any:
    import torch.multiprocessing

    torch.multiprocessing.set_sharing_strategy("file_system")
    return loader()


@row("`multiprocessing.spawn`", 4, **options)
def spawn() -> Any:
    import torch.multiprocessing

    return torch.multiprocessing.spawn(work, nprocs=2, join=False)


@row("`multiprocessing.start_processes`, fork", 4, **options)
def fork() -> Any:
    import torch.multiprocessing

    return torch.multiprocessing.start_processes(work, nprocs=2, join=False, start_method="fork")


@row("`torchrun --nproc-per-node 2`", 2, command=True, **options)
def torchrun(directory: Path) -> list[str]:
    options = ["--standalone", "--nproc-per-node", "2"]
    return [sys.executable, "-m", "torch.distributed.run", *options, str(HERE / "on_torch.py"), "rank"]


if __name__ == "__main__":
    if sys.argv[1] == "rank":
        compute()
    main()
