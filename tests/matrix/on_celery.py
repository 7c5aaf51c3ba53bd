"""Celery, with a directory as broker. The workers import the application from here, too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rows import HERE, row, work


def application(directory: str) -> Any:
    import celery

    app = celery.Celery("matrix", broker="filesystem://", set_as_current=True)
    app.conf.update(
        broker_transport_options={
            "data_folder_in": directory,
            "data_folder_out": directory,
            "control_folder": f"{directory}/control",
        },
        beat_schedule_filename=f"{directory}/schedule",
    )
    app.task(work, name="work")
    return app


if "MATRIX_BROKER" in os.environ:
    app = application(os.environ["MATRIX_BROKER"])


def worker(directory: Path, *options: str) -> list[str]:
    """Queue two tasks, then return the command of a worker.

    The order matters: a worker that reads from this broker during a write may see half a message.
    """
    settings = f"MATRIX_BROKER={directory}/broker"
    (directory / "broker").mkdir()
    delay(directory, "on_celery", settings)
    return ["env", settings, sys.executable, "-m", "celery", "-A", "on_celery", "worker", "--beat", *options]


def delay(directory: Path, module: str, *settings: str) -> None:
    """Queue two tasks of that application."""
    code = f"import {module} as m; task = m.app.tasks['work']; task.delay(); task.delay()"
    path = f"PYTHONPATH={HERE}"
    subprocess.run(["env", path, *settings, sys.executable, "-c", code], cwd=directory, check=True)


@row("worker, prefork, beat; tasks that start programs", 4, command=True, needs=("celery",))
def prefork(directory: Path) -> list[str]:
    return worker(directory, "--concurrency", "2")


@row("worker, threads", 3, command=True, needs=("celery",))
def threads(directory: Path) -> list[str]:
    return worker(directory, "--pool", "threads", "--concurrency", "2")
