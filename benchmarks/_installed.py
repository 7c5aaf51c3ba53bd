"""Virtual environments with pdeathsig installed from a wheel, and with its bytecode written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_FROM_SOURCE = re.compile(r"^# code object from '?(/.*\.py)'?$", re.M)


def environment(**more: str) -> dict[str, str]:
    """This process's environment, without the variables that change how a Python starts."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PDEATHSIG", "VIRTUAL_ENV"))} | more


def venv(directory: Path, *, pip: bool = False) -> Path:
    """Create a virtual environment, and return its python."""
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
        """Create an environment with pdeathsig and its dependencies only, and return its python."""
        python = venv(self._scratch / name)
        self.pip_install(python, self._wheel)
        check_warm(python, "import pdeathsig.auto, pdeathsig._family.membership, ctypes")
        return python

    def pip_install(self, python: Path, what: str | Path) -> None:
        """Install into the environment of ``python``.

        The environment itself needs no pip: with pip comes setuptools, and its .pth costs start-up
        time.
        """
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
    """Run ``code`` twice. The second time nothing may be compiled.

    If the code imports pdeathsig, that must come from the environment.
    """
    for _ in range(2):
        verbose = _run(python, "-v", "-c", code, cwd=python.parent).stderr
    cold = _FROM_SOURCE.findall(verbose)
    if cold:
        raise SystemExit(f"{python}: no bytecode for {', '.join(cold)}: run once as a user with write permission there")
    origin = _run(python, "-c", "import pdeathsig; print(pdeathsig.__file__)", cwd=python.parent).stdout.strip()
    if not Path(origin).is_relative_to(python.parent.parent):
        raise SystemExit(f"{python}: pdeathsig comes from {origin}")


def _run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program that must succeed."""
    quiet = subprocess.DEVNULL
    ran = subprocess.run(command, check=False, env=environment(), cwd=cwd, stdin=quiet, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: exit code {ran.returncode}\n{ran.stdout}{ran.stderr}")
    return ran
