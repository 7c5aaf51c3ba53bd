"""The command pdeathsig, by its installed script and by python -m."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from guarding import GUARD
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


def bare_copy(tmp_path: Path) -> list[str]:
    """The command of a package that was installed without a compiler."""
    ignored = shutil.ignore_patterns("*.so", "pdeathsig-run")
    shutil.copytree(Path(pdeathsig.__file__).parent, tmp_path / "pdeathsig", ignore=ignored)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from pdeathsig.cli import main; sys.exit(main())"
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(
    "arguments", [["true"], ["--grace", "5", "--", "sh", "-c", "exit 3"], ["missing"], ["--help"], []]
)
def test_run_without_a_guard_is_not_started(arguments: list[str], tmp_path: Path) -> None:
    done = run(bare_copy(tmp_path), "run", *arguments)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == (
        "pdeathsig run: the guard was not built with this pdeathsig; reinstall it with a C compiler: "
        f"{tmp_path}/pdeathsig/pdeathsig-run\n"
    )


def test_run_of_a_guard_that_cannot_be_executed(tmp_path: Path) -> None:
    bare = bare_copy(tmp_path)
    (tmp_path / "pdeathsig" / "pdeathsig-run").write_bytes(b"\x7fELF")
    (tmp_path / "pdeathsig" / "pdeathsig-run").chmod(0o755)
    done = run(bare, "run", "true")
    assert (done.returncode, done.stdout, done.stderr) == (125, "", "pdeathsig run: Exec format error: pdeathsig-run\n")


def test_run_where_it_cannot_work() -> None:
    code = "import sys; sys.platform = 'darwin'; from pdeathsig import cli; sys.exit(cli.main(['run', 'true']))"
    done = run([sys.executable, "-c", code])
    assert (done.returncode, done.stdout, done.stderr) == (125, "", "pdeathsig run: needs Linux; this is darwin\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["true"],
        ["sh", "-c", "exit 3"],
        ["sh", "-c", "kill -9 $$"],
        ["no-such-command-anywhere"],
        ["/"],
        ["--timeout", "100ms", "sleep", "1000"],
        ["--grace", "soon", "true"],
        ["-h"],
        [],
    ],
    ids=" ".join,
)
def test_run_says_and_ends_as_the_guard_does(command: list[str], arguments: list[str]) -> None:
    ours, guards = run(command, "run", *arguments), run([GUARD], *arguments)
    assert (ours.returncode, ours.stdout, ours.stderr) == (guards.returncode, guards.stdout, guards.stderr)
