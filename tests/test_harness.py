"""The helpers of the tests notice what they have to notice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Start
from harness import TESTS, Process, environment


def test_a_process_that_lives_is_not_dead(start: Start) -> None:
    tree = start("here('child'); forever()")
    child = tree.process("child")
    assert not child.dies(within=0.05)
    assert child.alive()
    child.kill()
    assert child.dies()


def test_a_zombie_is_dead() -> None:
    zombie = subprocess.Popen(["true"])
    process = Process(zombie.pid)
    assert process.dies()
    assert process.state() == "Z"
    zombie.wait()
    assert process.state() == "X"
    process.close()


def test_a_process_that_holds_the_pipe_is_noticed(start: Start) -> None:
    tree = start("say('orphan', subprocess.Popen(['sleep', '1000'], start_new_session=True).pid)")
    orphan = tree.process("orphan")
    tree.top.wait()
    assert not tree.all_gone(within=0.05)
    orphan.kill()
    assert tree.all_gone()


def test_an_unexpected_event_is_reported_with_stderr(start: Start) -> None:
    tree = start("raise SystemExit('what went wrong')")
    tree.top.wait()
    with pytest.raises(AssertionError, match="what went wrong"):
        tree.event("child")


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("subprocess.Popen(['sleep', '1000'])", "processes left behind: {.*sleep 1000"),
        ("subprocess.run(['setsid', '-f', 'sleep', '1000'], check=True)", "processes left behind: {.*sleep 1000"),
        ("os.dup(0)", "descriptors left open"),
        ("subprocess.run(['true'], check=True)", None),
    ],
)
def test_what_a_test_leaves_behind_fails_it(tmp_path: Path, body: str, complaint: str | None) -> None:
    for name in ("conftest.py", "harness.py", "actors.py"):
        shutil.copy(TESTS / name, tmp_path)
    tmp_path.joinpath("test_it.py").write_text(f"import os, subprocess\ndef test_it(): {body}\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--import-mode=importlib",
        "-o",
        f"pythonpath={tmp_path}",
        ".",
    ]
    ended = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == (1 if complaint else 0), ended.stdout
    if complaint:
        import re

        assert re.search(complaint, ended.stdout.replace("\n", " "))


def test_raw_pdeathsig_kills_when_the_thread_ends(start: Start) -> None:
    """Many tests use it as a control: it kills at the end of the thread, while the parent lives."""
    tree = start("""
t = threading.Thread(target=lambda: (python("raw_pdeathsig(); here('raw'); forever()"), wait()))
t.start(); t.join(); forever()
""")
    raw = tree.process("raw")
    tree.send("end the thread")
    assert raw.dies()
    assert tree.top.poll() is None
    os.kill(tree.top.pid, signal.SIGKILL)
