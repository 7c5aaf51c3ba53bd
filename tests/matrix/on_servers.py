"""Servers and process managers: what a user types at a shell. Also the programs that they run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rows import SHELL, SLEEP, row, started

PYTHON = sys.executable
WORKER = f"{PYTHON} -c 'from rows import work; work()'"


def program() -> subprocess.Popen[bytes]:
    process = subprocess.Popen(SLEEP)
    started(os.getpid(), process.pid)
    return process


def wsgi() -> Callable[..., Iterable[bytes]]:
    """The application that gunicorn serves: each worker starts a program."""
    kept = program()

    def application(_: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        start("200 OK", [])
        return [str(kept.pid).encode()]

    return application


async def asgi(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """The application that uvicorn serves."""
    assert scope["type"] == "lifespan"
    await receive()
    kept = program()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    kept.kill()


def command(title: str, announced: int, **options: Any) -> Callable[..., Any]:
    return row(title, announced, command=True, **options)


def gunicorn(directory: Path, *options: str) -> list[str]:
    bind = f"unix:{directory}/socket"
    return [PYTHON, "-m", "gunicorn", "--bind", bind, "--workers", "2", *options, "on_servers:wsgi()"]


@command("gunicorn, sync", 4, needs=("gunicorn",))
def gunicorn_sync(directory: Path) -> list[str]:
    return gunicorn(directory)


@command("gunicorn, gthread", 4, needs=("gunicorn",))
def gunicorn_gthread(directory: Path) -> list[str]:
    return gunicorn(directory, "--worker-class", "gthread", "--threads", "2")


@command("gunicorn, `--preload`", 2, needs=("gunicorn",))
def gunicorn_preload(directory: Path) -> list[str]:
    return gunicorn(directory, "--preload")


def uvicorn(directory: Path, *options: str) -> list[str]:
    return [PYTHON, "-m", "uvicorn", *options, "on_servers:asgi"]


@command("uvicorn", 2, needs=("uvicorn",))
def uvicorn_one(directory: Path) -> list[str]:
    return uvicorn(directory, "--uds", f"{directory}/socket")


@command("uvicorn `--workers 2`", 4, needs=("uvicorn",))
def uvicorn_workers(directory: Path) -> list[str]:
    return uvicorn(directory, "--port", "0", "--workers", "2")


@command("uvicorn `--reload`", 2, needs=("uvicorn",))
def uvicorn_reload(directory: Path) -> list[str]:
    return uvicorn(directory, "--port", "0", "--reload", "--reload-dir", str(directory))


@command("watchfiles", 2, needs=("watchfiles",))
def watchfiles(directory: Path) -> list[str]:
    return [PYTHON, "-m", "watchfiles", "--target-type", "command", WORKER, str(directory)]


@command("honcho", 3, needs=("honcho",))
def honcho(directory: Path) -> list[str]:
    (directory / "Procfile").write_text(f"web: {WORKER}\nshell: sh -c '{SHELL}'\n")
    return [PYTHON, "-m", "honcho", "start", "--app-root", str(directory)]


@command("supervisord", 3, needs=("supervisor",))
def supervisord(directory: Path) -> list[str]:
    (directory / "worker").write_text(SHELL)
    (directory / "supervisord.conf").write_text(
        "[supervisord]\nnodaemon=true\n"
        f"[program:python]\ncommand={WORKER}\n[program:shell]\ncommand=sh {directory}/worker\n"
    )
    return [PYTHON, "-m", "supervisor.supervisord", "-c", f"{directory}/supervisord.conf"]
