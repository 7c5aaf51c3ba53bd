"""Virtual environments with pdeathsig as users have it: installed from a wheel, its bytecode written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_FROM_SOURCE = re.compile(r"^# code object from '?(/.*\.py)'?$", re.M)


def environment(**more: str) -> dict[str, str]:
    """Ours, without what would change how a Python starts."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PDEATHSIG", "VIRTUAL_ENV"))} | more


def venv(directory: Path, *, pip: bool = False) -> Path:
    """A new virtual environment; returns its python."""
    _run(sys.executable, "-m", "venv", *([] if pip else ["--without-pip"]), directory)
    return directory / "bin" / "python"


class Wheel:
    """A wheel of pdeathsig, and environments in which it is installed."""

    def __init__(self, scratch: Path, wheel: Path | None) -> None:
        """:param wheel: None: build one from this checkout, under ``scratch``."""
        self._scratch = scratch
        self._builder = venv(scratch / "builder", pip=True)
        self._wheel = wheel or self._built()

    def python(self, name: str = "pdeathsig") -> Path:
        """The python of a new environment that has pdeathsig and what it depends on, and nothing else."""
        python = venv(self._scratch / name)
        self.pip_install(python, self._wheel)
        check_warm(python, "import pdeathsig.auto, pdeathsig._family.membership, ctypes")
        return python

    def pip_install(self, python: Path, what: str | Path) -> None:
        """Into the environment of ``python``, which needs no pip for that: one would bring a setuptools along, whose
        own .pth has a start-up cost too."""
        self._pip("--python", python, "install", what)

    def _built(self) -> Path:
        self._pip("wheel", "--no-deps", "-w", self._scratch, ROOT)
        (wheel,) = self._scratch.glob("*.whl")
        return wheel

    def _pip(self, *command: str | Path) -> None:
        _run(self._builder, "-m", "pip", "--quiet", "--disable-pip-version-check", *command)


def site_packages(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('platlib'))"
    return Path(_run(python, "-c", code).stdout.strip())


def check_warm(python: Path, code: str) -> None:
    """Run ``code``, which may import pdeathsig, twice: the second time nothing may be compiled. And pdeathsig must come
    from the environment."""
    for _ in range(2):
        verbose = _run(python, "-v", "-c", code, cwd=python.parent).stderr
    cold = _FROM_SOURCE.findall(verbose)
    if cold:
        raise SystemExit(f"{python}: no bytecode for {', '.join(cold)}: run once as a user who may write there")
    origin = _run(python, "-c", "import pdeathsig; print(pdeathsig.__file__)", cwd=python.parent).stdout.strip()
    if not Path(origin).is_relative_to(python.parent.parent):
        raise SystemExit(f"{python}: pdeathsig comes from {origin}")


def _run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A program that must succeed."""
    quiet = subprocess.DEVNULL
    ran = subprocess.run(command, check=False, env=environment(), cwd=cwd, stdin=quiet, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: exit code {ran.returncode}\n{ran.stdout}{ran.stderr}")
    return ran
