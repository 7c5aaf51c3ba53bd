"""The recipes of docs/frameworks.md, each as a program, with and without the lines that bind.

The way ``nothing`` means here: nothing but the recipe.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from on_celery import delay
from rows import row

DOCUMENT = Path(__file__).parents[2] / "docs" / "frameworks.md"
SECTIONS = [section.partition("\n") for section in DOCUMENT.read_text().split("\n## ")[1:]]
OURS = r"pdeathsig\.(arm|install)\(.*?\)"
PYTHON = sys.executable

Command = Callable[[Path, str], list[str]]


def recipe(title: str) -> str:
    """The code under that heading."""
    (text,) = (text for heading, _, text in SECTIONS if heading == title)
    (code,) = re.findall(r"^```\w+\n(.*?)^```", text, re.S | re.M)
    return str(code)


def script(directory: Path, code: str) -> list[str]:
    wait = "\nif __name__ == '__main__':\n    import signal\n    signal.pause()\n"
    (directory / "app.py").write_text(f"from rows import work\n{code}{wait}")
    return [PYTHON, "app.py"]


def gunicorn(directory: Path, code: str) -> list[str]:
    (directory / "gunicorn.conf.py").write_text(code)
    return [PYTHON, "-m", "gunicorn", "--bind", f"unix:{directory}/socket", "--workers", "2", "on_servers:wsgi()"]


def uvicorn(*options: str) -> Command:
    def command(directory: Path, code: str) -> list[str]:
        (directory / "app.py").write_text(code)
        return [PYTHON, "-m", "uvicorn", "--port", "0", *options, "app:app"]

    return command


def celery(directory: Path, code: str) -> list[str]:
    (directory / "broker").mkdir()
    folders = {"data_folder_in": "broker", "data_folder_out": "broker", "control_folder": "control"}
    settings = f"app.conf.update(broker_transport_options={folders!r})\n"
    (directory / "app.py").write_text(f"from rows import work\n{code}{settings}")
    delay(directory, "app")
    return [PYTHON, "-m", "celery", "-A", "app", "worker", "--beat", "--concurrency", "2"]


def pytest(directory: Path, code: str) -> list[str]:
    (directory / "conftest.py").write_text(code)
    (directory / "test_work.py").write_text("from rows import work\ntest_one = test_two = lambda: work()\n")
    return [PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "-n", "2"]


def supervisord(directory: Path, code: str) -> list[str]:
    (directory / "supervisord.conf").write_text(code)
    return [PYTHON, "-m", "supervisor.supervisord", "-c", "supervisord.conf"]


def add(
    title: str, announced: int, command: Command, needs: str, ours: str = OURS, theirs: str = "None", **more: Any
) -> None:
    code = recipe(title.partition(": ")[0])
    without = re.sub(ours, theirs, code).replace("import pdeathsig.auto", "pass")
    assert without != code
    for suffix, text, expects in (("", code, "none"), ("_without", without, "some")):

        def set_up(directory: Path, text: str = text) -> list[str]:
            return command(directory, text)

        set_up.__name__ = re.sub(r"\W+", "_", title.lower()) + suffix
        row(title + suffix, announced, command=True, needs=(needs,), expects=expects, **more)(set_up)


add("concurrent.futures", 4, script, "pdeathsig")
add("loky", 4, script, "loky")
add("joblib", 4, script, "joblib")
add("Dask, LocalCluster", 4, script, "distributed")
add("Ray", 4, script, "ray", "os.environ.*", "pass", limit=180, passing="ray::IDLE|default_worker")
add("Celery", 4, celery, "celery")
add("billiard", 4, script, "billiard")
add("gunicorn", 4, gunicorn, "gunicorn")
add("uvicorn: one", 2, uvicorn(), "uvicorn")
add("uvicorn: workers", 4, uvicorn("--workers", "2"), "uvicorn")
add("uvicorn: reload", 2, uvicorn("--reload"), "uvicorn")
add("DataLoader", 4, script, "torch", limit=180)
add("torch.multiprocessing.spawn", 4, script, "torch", limit=180)
add("pytest-xdist", 4, pytest, "xdist")
add("Jupyter kernels", 2, script, "jupyter_client", '"PDEATHSIG": "KILL"', "")
add("supervisord", 2, supervisord, "supervisor", "pdeathsig-run -- ", "")
