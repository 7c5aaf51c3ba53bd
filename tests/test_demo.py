"""pdeathsig demo shows what it promises, leaves no process, and fails if a promise is broken."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import descendants, needs
from harness import TESTS, environment
from seccomp_deny import possible

from pdeathsig._demo.acts import Report

DEMO = [sys.executable, "-m", "pdeathsig", "demo"]
CLAIMS, PROCESSES = 17, 15


def demo(command: list[str] = DEMO, **changes: str | None) -> subprocess.CompletedProcess[str]:
    changes.setdefault("PYTHONIOENCODING", "utf-8")
    return subprocess.run(
        command, cwd=TESTS, env=environment(**changes), capture_output=True, encoding="utf-8", timeout=15, check=False
    )


def after(code: str) -> list[str]:
    """The demo with a short patience, after that code."""
    return [
        sys.executable,
        "-c",
        f"""
import sys, pdeathsig._demo.acts as demo, pdeathsig._demo.scene as scene
scene.PATIENCE = 0.3
{code}
sys.exit(demo.main())
""",
    ]


def claims(text: str, sign: str) -> list[str]:
    return [line.strip().removeprefix(sign).strip() for line in text.splitlines() if line.strip().startswith(sign)]


def shown(text: str) -> set[int]:
    """The PIDs of all processes in the trees, but for the demo's own."""
    return {int(pid) for pid in re.findall(r"[├└]─ (\d+) ", text)}


def test_every_claim_is_seen() -> None:
    began = time.monotonic()
    done = demo()
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - began < 15
    assert len(claims(done.stdout, "✓")) == CLAIMS
    assert not claims(done.stdout, "✗")
    assert not done.stderr


def test_it_draws_orphans_and_the_process_that_adopted_them() -> None:
    text = demo().stdout
    me = re.search(r"^ +(\d+) this demo$", text, re.M)
    assert me is not None
    act_1, act_2, act_3, act_4 = re.split(r"^\d\. ", text, flags=re.M)[1:]
    orphan = rf"[├└]─ \d+ (\w+).* ORPHAN, adopted by {me[1]}$"
    assert re.findall(orphan, act_1, re.M) == ["child", "shell"]
    assert re.findall(orphan, act_2, re.M) == []
    assert not re.findall(orphan, act_3 + act_4, re.M)
    assert re.search(r"└─ its thread \d+\n +├─ \d+ our child.*\n +└─ \d+ the recipe's child", act_4)


def test_each_process_that_pdeathsig_kills_says_why() -> None:
    text = demo().stdout
    assert len(re.findall(r"^pdeathsig: parent \d+ is gone; SIGKILL to \d+$", text, re.M)) == 4


def test_it_leaves_no_process_behind() -> None:
    before = descendants(os.getpid())
    pids = shown(demo().stdout)
    assert len(pids) == PROCESSES
    assert descendants(os.getpid()) == before
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_all_is_seen_where_the_user_has_set_pdeathsig() -> None:
    done = demo(PDEATHSIG="TERM:5", PDEATHSIG_QUIET="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pdeathsig: parent" in done.stdout


def test_all_is_seen_where_sigchld_is_ignored() -> None:
    done = demo(["sh", "-c", 'trap "" CHLD; exec "$@"', "sh", *DEMO])
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_a_terminal_it_is_narrow_and_colourless() -> None:
    text = demo().stdout
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text


def test_where_boxes_cannot_be_written_it_uses_ascii() -> None:
    done = demo(PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert len(claims(done.stdout, "[ok]")) == CLAIMS


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_interrupted_during_an_act_it_leaves_no_process_behind(number: int) -> None:
    """The pipe holds one page, and this test stops reading: so the demo waits in an act."""
    before = descendants(os.getpid())
    process = subprocess.Popen(
        after("import signal\nfor number in scene.INTERRUPTS: signal.signal(number, signal.SIG_DFL)"),
        stdout=subprocess.PIPE,
        pipesize=4096,
        cwd=TESTS,
        env=environment(PYTHONIOENCODING="utf-8"),
        encoding="utf-8",
        bufsize=1,
    )
    with process:
        assert process.stdout is not None
        assert any("kill -KILL" in line for line in process.stdout)
        # Some processes are there: it is not between two acts.
        assert any(set(descendants(os.getpid())) - {process.pid, *before} for _ in process.stdout)
        process.send_signal(number)
        assert "All of this" not in process.stdout.read()
    assert process.returncode == 128 + number
    assert descendants(os.getpid()) == before


def test_broken_pipe_ends_it_quietly() -> None:
    done = demo(["sh", "-c", '{ "$@"; echo $? >&2; } | head -1', "sh", *DEMO])
    assert done.stderr == f"{128 + signal.SIGPIPE}\n"
    assert done.stdout.startswith("pdeathsig demo: ")


def test_it_fails_where_the_kernel_does_nothing() -> None:
    needs(possible(), "the number of prctl(2) is not known here")
    done = demo(
        after("""
from seccomp_deny import deny
scene.become_subreaper()
demo.become_subreaper = lambda: None
deny("prctl", 0)
""")
    )
    assert done.returncode == 1
    assert "the child has died with its parent" in claims(done.stdout, "✗")
    assert "the home-made recipe has killed its healthy child: a false kill" in claims(done.stdout, "✗")
    assert "the child is orphaned, and still at work: it answers" in claims(done.stdout, "✓")


def test_it_fails_where_the_kernel_refuses() -> None:
    needs(possible(), "the number of prctl(2) is not known here")
    done = demo(after("from seccomp_deny import deny\ndeny('prctl')"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "pdeathsig demo: [Errno 1] prctl: Operation not permitted\n"


def test_it_fails_where_the_thread_kills_our_child_too() -> None:
    """Without the compiled extension there is only the kernel's own meaning of "parent"."""
    done = demo(after(""), PDEATHSIG_BACKEND="ctypes")
    assert done.returncode == 1
    assert "the child with pdeathsig lives: it answers" in claims(done.stdout, "✗")


def test_it_fails_where_no_process_is_orphaned() -> None:
    done = demo(
        after("""
start = scene.Scene.start
scene.Scene.start = lambda self, act, *kind, **more: start(self, act, *("auto" for _ in kind), **more)
""")
    )
    assert done.returncode == 1
    assert "the child is orphaned, and still at work: it answers" in claims(done.stdout, "✗")
    # No claim about the shell: it has its SIGKILL too, but may still be there on a busy machine.


def test_it_fails_at_once_where_a_process_does_not_start() -> None:
    done = demo(after("import os; os.environ['PATH'] = '/nonexistent'"))
    assert done.returncode == 1
    assert "this can be shown: parent: FileNotFoundError: [Errno 2] No such file or directory: 'sh'" in claims(
        done.stdout, "✗"
    )


def printed(*seen: bool) -> tuple[bool, str]:
    """Whether all these claims were seen, and what is printed."""
    file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    report = Report(file)
    for truth in seen:
        report.claim(truth, "so it is", "it is not")
    file.seek(0)
    return report.all_seen, file.read()


def test_all_is_seen_only_if_each_claim_is() -> None:
    assert printed(True, True) == (True, "   ✓ so it is\n" * 2)
    assert printed(False, True) == (False, "   ✗ so it is: it is not\n   ✓ so it is\n")
