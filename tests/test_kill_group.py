"""kill_group ends the whole process group, and never the caller's own."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any

import pytest
from conftest import Start
from harness import WITHOUT_COMMAND_LINE, Process, line

import pdeathsig

EMPTY = ((), (), ())


def shell(code: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["bash", "-c", code], stdout=subprocess.PIPE, start_new_session=True, **options)


def test_communicate_returns_because_no_process_holds_the_pipe() -> None:
    with shell("echo up; watch -n 1000 true & sleep 1000 | sleep 1000; :") as process:
        assert line(process) == "up"
        assert process.pid in pdeathsig.kill_group(process).signalled
        assert process.returncode == -signal.SIGTERM
        process.communicate()  # until the end of the pipe to which watch(1) writes


def test_a_process_that_ignores_it_is_killed_after_the_grace(start: Start) -> None:
    tree = start(
        """
import pdeathsig
script = "(trap '' TERM; echo deaf $BASHPID; exec sleep 1000) & kill -STOP $$; :"
p = subprocess.Popen(['bash', '-c', script], start_new_session=True)
wait()
ended = pdeathsig.kill_group(p, grace=0.2)
say('ended', p.pid in ended.signalled, len(ended.signalled), *ended.killed, *ended.left)
""",
    )
    deaf = tree.process("deaf")
    deaf.wait_for_command("sleep")
    tree.send()
    assert tree.event("ended") == f"True 2 {deaf.pid}"
    assert tree.all_gone()


def test_the_background_job_of_a_reaped_shell() -> None:
    with shell("sleep 1000 & echo $!") as process:
        sleep = Process(int(line(process)))
        process.wait()
        assert sleep.alive()
        assert pdeathsig.kill_group(process) == ((sleep.pid,), (), ())
        assert not sleep.alive()
        assert pdeathsig.kill_group(process) == EMPTY
        sleep.close()


def test_a_recycled_number_is_left_alone() -> None:
    with shell("exit 0") as process:
        process.wait()
        with shell("echo; exec sleep 1000") as other:
            line(other)
            process.pid = other.pid  # as if the PID had been reused
            assert pdeathsig.kill_group(process) == EMPTY
            assert other.poll() is None
            other.kill()


def test_the_caller_s_own_group_is_refused() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        for target in (process, process.pid, os.getpid()):
            with pytest.raises(ValueError, match="^target: .* is the process group of this process itself"):
                pdeathsig.kill_group(target)
        assert process.poll() is None
        process.kill()


def test_an_empty_group_is_an_error() -> None:
    with shell("exit 0") as process:
        process.wait()
    with pytest.raises(ProcessLookupError):
        pdeathsig.kill_group(process.pid)


def test_sigkill_gives_resource_trackers_two_seconds() -> None:
    """A tracker is in the group of the program that it serves."""
    import sys
    from pathlib import Path

    code = (
        "from multiprocessing import shared_memory as m; import signal; "
        "s = m.SharedMemory(create=True, size=9); print(s.name, flush=True); signal.pause()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        name = Path("/dev/shm", line(process).lstrip("/"))
        assert name.exists()
        assert pdeathsig.kill_group(process, signal.SIGKILL) == ((process.pid,), (), ())
        assert not name.exists()


def test_sigkill_gives_a_resource_tracker_during_its_exec_two_seconds(start: Start) -> None:
    program = f"from actors import *\n{WITHOUT_COMMAND_LINE}forever()"
    tree = start(
        f"""
import pdeathsig
p = subprocess.Popen([sys.executable, '-c', {program!r}], start_new_session=True)
wait()
say('ended', *pdeathsig.kill_group(p, signal.SIGKILL))
""",
    )
    assert tree.event("nameless").endswith(" ''"), "it has a command line"
    tree.send()
    tree.event("done")
    assert tree.event("ended").endswith(",) () ()")
    assert tree.all_gone()
