"""The command pdeathsig, by its installed script and by python -m."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from harness import TESTS, environment

import pdeathsig

SCRIPT = str(Path(sys.executable).parent / "pdeathsig")
COMMANDS = {"script": [SCRIPT], "module": [sys.executable, "-m", "pdeathsig"]}


@pytest.fixture(params=COMMANDS)
def command(request: pytest.FixtureRequest) -> list[str]:
    return COMMANDS[request.param]


def run(command: list[str], *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *args], cwd=TESTS, env=environment(), capture_output=True, text=True, timeout=15, check=False
    )


def test_version(command: list[str]) -> None:
    done = run(command, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"pdeathsig {pdeathsig.__version__}\n", "")


def test_no_verb_is_an_error_that_shows_the_help(command: list[str]) -> None:
    done = run(command)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == run(command, "--help").stdout
    assert "demo" in done.stderr


def test_unknown_verb_is_an_error(command: list[str]) -> None:
    done = run(command, "dance")
    assert done.returncode == 2
    assert "dance" in done.stderr


def test_demo_runs(command: list[str]) -> None:
    done = run(command, "demo")
    assert done.returncode == 0, done.stdout + done.stderr


def test_demo_takes_no_arguments(command: list[str]) -> None:
    assert run(command, "demo", "more").returncode == 2


def test_the_demo_is_only_imported_to_run_it() -> None:
    code = "import sys, pdeathsig.cli; print([name for name in sys.modules if '_demo' in name])"
    assert run([sys.executable, "-c", code]).stdout == "[]\n"


def test_where_it_cannot_work_the_demo_says_so() -> None:
    code = "import sys; sys.platform = 'darwin'; from pdeathsig import cli; sys.exit(cli.main(['demo']))"
    done = run([sys.executable, "-c", code])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "pdeathsig demo: needs Linux; this is darwin\n"
