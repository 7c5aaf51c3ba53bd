"""Clusters that other programs started: the driver is killed, and the cluster has to live.

The cluster (a scheduler and two workers on this machine) is in no family. The driver is a program
of its own. Its tasks start a shell with a program. Only the driver gets SIGKILL. The shells and
programs must not survive it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rows import SHELL, cluster, main, row, say, started

OUTSIDE = {"PDEATHSIG": "0"}
SCHEDULER_FILE = "scheduler.json"


def shell(*_: object) -> None:
    """A task."""
    process = subprocess.Popen(SHELL, shell=True)
    started(process.pid)
    process.wait()


def driver(name: str) -> Any:
    process = subprocess.Popen([sys.executable, __file__, name, "driver"])
    say(f"kill {process.pid}")
    return process


def dask_cluster() -> Any:
    options = ["--scheduler-file", SCHEDULER_FILE]
    scheduler = ["dask_scheduler", "--port", "0", "--no-dashboard", *options]
    worker = ["dask_worker", "--nthreads", "1", "--no-dashboard", *options]
    return [
        subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{command[0]}", *command[1:]], env={**os.environ, **OUTSIDE}
        )
        for command in (scheduler, worker, worker)
    ]


def dask_tasks(*plugins: Any) -> None:
    import distributed

    client = distributed.Client(scheduler_file=SCHEDULER_FILE)
    client.wait_for_workers(2)
    for plugin in plugins:
        client.register_plugin(plugin)
    cluster()
    client.gather(client.map(shell, range(2), pure=False))


@row("Dask: a scheduler, two workers and their nannies", 4, needs=("distributed",), known=("family", "run"))
def dask() -> Any:
    if sys.argv[2:] == ["driver"]:
        dask_tasks()
    return dask_cluster(), driver("dask")


@row("the same with the plugin of docs/frameworks.md", 4, needs=("distributed",), passing="spawn_main|resource_tracker")
def dask_plugin() -> Any:
    if sys.argv[2:] == ["driver"]:
        from on_frameworks import recipe

        code: dict[str, Any] = {"__name__": "plugin"}
        exec(recipe("A Dask cluster"), code)
        dask_tasks(*code["plugins"])
    return dask_cluster(), driver("dask_plugin")


def ray_cluster() -> None:
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--num-cpus", "2", "--port", "0"]
    options = ["--include-dashboard", "false", "--object-store-memory", str(100 << 20)]
    subprocess.run([*command, *options], env={**os.environ, **OUTSIDE}, check=True)


def ray_tasks(**options: Any) -> None:
    import ray

    address = Path(os.environ["TMPDIR"], "ray", "ray_current_cluster").read_text().strip()
    ray.init(address=address, log_to_driver=False, **options)
    cluster()
    ray.get([ray.remote(shell).remote() for _ in range(2)])


# The workers of a finished job may end.
ray_options: dict[str, Any] = {"needs": ("ray",), "limit": 180, "passing": r"^ray::(IDLE|shell)|default_worker"}


@row("Ray: `ray start --head`", 4, **ray_options)
def ray() -> Any:
    if sys.argv[2:] == ["driver"]:
        ray_tasks()
    ray_cluster()
    return driver("ray")


@row('the same with `runtime_env={"env_vars": {"PDEATHSIG": "KILL"}}`', 4, **ray_options)
def ray_environment() -> Any:
    if sys.argv[2:] == ["driver"]:
        ray_tasks(runtime_env={"env_vars": {"PDEATHSIG": "KILL"}})
    ray_cluster()
    return driver("ray_environment")


if __name__ == "__main__":
    main()
