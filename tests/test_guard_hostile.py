"""pdeathsig-run in a strange environment: it runs the command as without it, or says why not."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
from guarding import GUARD, guard, guarded, guards_end  # noqa: F401

# A thread that Python does not know, ours, is why os.fork() warns (3.12), on 3.15 as an error here.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


def test_an_environment_of_more_than_a_megabyte() -> None:
    """All that execve(2) lets through reaches the command."""
    many = {f"V{i}": "x" * 100_000 for i in range(12)} | {f"W{i}": "" for i in range(5000)}
    done = guard("sh", "-c", "env | wc -c", env={**many, "PATH": "/usr/bin:/bin"})
    plain = subprocess.check_output(["sh", "-c", "env | wc -c"], env={**many, "PATH": "/usr/bin:/bin"}, text=True)
    assert (done.stdout, done.stderr, done.returncode) == (plain, "", 0)


@pytest.mark.parametrize(
    "path", [None, "", ":", "::/bin", "/nowhere::", ":/bin:", "/" + "x" * 5000 + ":", "relative:."]
)
def test_path_is_read_as_execvp_reads_it(path: str | None, tmp_path: Path) -> None:
    """No PATH: /bin:/usr/bin. An empty entry: the current directory."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 7\n")
    program.chmod(0o755)
    env = {} if path is None else {"PATH": path}
    here = path is not None and ("" in path.split(":") or "." in path.split(":"))
    done = guard("program", env=env, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        (7, "") if here else (127, "pdeathsig-run: program: No such file or directory\n")
    )
    assert guard("true", env={}, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    "environment", [["PATH"], ["=", "==", "PATH=/bin"], ["PATH=/bin", "PATH=/nowhere"], [""], ["\xff=\x01"]]
)
def test_entries_that_are_no_variables(environment: list[str]) -> None:
    libc = ctypes.CDLL(None)
    argv = (ctypes.c_char_p * 3)(GUARD.encode(), b"/bin/true", None)
    envp = (ctypes.c_char_p * (len(environment) + 1))(*(entry.encode("latin-1") for entry in environment), None)
    pid = os.fork()
    if pid == 0:
        libc.execve(GUARD.encode(), argv, envp)
        os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_no_arguments_at_all() -> None:
    """argc is 0, since Linux 5.18 argv[0] is empty. The environment is not taken for arguments."""
    reader, writer = os.pipe()
    envp = (ctypes.c_char_p * 2)(b"true", None)
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 2)
        ctypes.CDLL(None).execve(GUARD.encode(), (ctypes.c_char_p * 1)(None), envp)
        os._exit(99)
    os.close(writer)
    with open(reader, encoding="ascii") as said:
        assert said.read() == "pdeathsig-run: command: none given\nTry 'pdeathsig-run --help'.\n"
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 125


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(closed: str) -> None:
    """They are closed in the command too: nothing of the guard's has taken their place."""
    count = (
        "ls -l /proc/$$/fd | grep -c pdeathsig; "
        'for fd in 0 1 2; do [ -e /proc/$$/fd/$fd ] || set -- "$@" $fd; done; exit $((10 + $#))'
    )
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *guarded(), "sh", "-c", count], check=False, capture_output=True
    )
    assert done.returncode == 10 + closed.count("-")
    failing = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *guarded("--grace", "no"), "true"], check=False, capture_output=True
    )
    assert failing.returncode == 125


LIMITS = ["CORE", "CPU", "DATA", "FSIZE", "LOCKS", "MEMLOCK", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME", "SIGPENDING"]


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_of_zero(limit: str) -> None:
    """For the guard alone, as it would end the command too. The guard still ends what is left."""
    number = {
        "CPU": 0,
        "FSIZE": 1,
        "DATA": 2,
        "CORE": 4,
        "MEMLOCK": 8,
        "LOCKS": 10,
        "SIGPENDING": 11,
        "MSGQUEUE": 12,
        "NICE": 13,
        "RTPRIO": 14,
        "RTTIME": 15,
    }[limit]
    code = f"""
import ctypes, os, subprocess, sys
below = subprocess.Popen(['sleep', '1000'])
reaper = os.getppid()
monitor = int(open(f'/proc/{{reaper}}/stat').read().rpartition(')')[2].split()[1])
soft = 3600 if {number} == 0 else 0  # seconds of processor time: 0 means 1 there, and then SIGXCPU
for pid in (reaper, monitor):
    assert ctypes.CDLL(None).prlimit(pid, {number}, (ctypes.c_ulong * 2)(soft, soft), None) == 0
os._exit(3)
"""
    done = guard("--grace", "0.2", sys.executable, "-c", code)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")
