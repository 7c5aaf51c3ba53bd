"""pdeathsig-run: the command is as it would be without it."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from conftest import Start
from guarding import GUARD, guard, guarded, guards_end  # noqa: F401
from harness import TESTS

FATAL = [
    getattr(signal, "SIG" + name)
    for name in [
        "HUP",
        "INT",
        "QUIT",
        "ILL",
        "TRAP",
        "ABRT",
        "BUS",
        "FPE",
        "KILL",
        "USR1",
        "SEGV",
        "USR2",
        "PIPE",
        "ALRM",
        "TERM",
        "XCPU",
        "XFSZ",
        "VTALRM",
        "PROF",
        "IO",
        "PWR",
        "SYS",
    ]
]


def test_exit_statuses_are_mirrored() -> None:
    """All of them; several at once, to be quick."""
    for first in range(0, 256, 32):
        statuses = range(first, first + 32)
        running = [subprocess.Popen([GUARD, "sh", "-c", f"exit {status}"]) for status in statuses]
        assert [process.wait(10) for process in running] == list(statuses)


@pytest.mark.parametrize("sig", [*FATAL, signal.SIGRTMIN, signal.SIGRTMAX], ids=lambda sig: f"{int(sig)}")
def test_a_death_by_signal_is_repeated(sig: int) -> None:
    """Without the environment: a preloaded AddressSanitizer would catch some in the shell."""
    assert guard("sh", "-c", f"kill -{int(sig)} $$", env={"PATH": os.environ["PATH"]}).returncode == -sig


def test_the_guard_dumps_no_core_of_its_own(tmp_path: Path) -> None:
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern.startswith(("|", "/")):
        pytest.skip(f"cores go to {pattern}")
    unlimited = resource.getrlimit(resource.RLIMIT_CORE)[1]
    done = guard(
        "sh", "-c", "ulimit -c 0; kill -SEGV $$", cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (unlimited, unlimited)),
    )  # fmt: skip
    assert done.returncode == -signal.SIGSEGV
    assert list(tmp_path.iterdir()) == []


def test_not_found(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    for name in ["no-such-command-anywhere", missing]:
        done = guard(name)
        assert (done.returncode, done.stdout) == (127, "")
        assert done.stderr == f"pdeathsig-run: {name}: No such file or directory\n"


def test_not_executable(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("exit 0\n")
    for name, why in [
        (str(file), "Permission denied"),
        (str(tmp_path), "Permission denied"),
        (f"{file}/x", "Not a directory"),
    ]:
        done = guard(name)
        assert done.returncode == 126
        assert done.stderr == f"pdeathsig-run: {name}: {why}\n"


def test_a_file_without_permission_hides_no_later_one_in_path(tmp_path: Path) -> None:
    for name in "one", "two":
        (tmp_path / name).mkdir()
        (tmp_path / name / "prog").write_text("#!/bin/sh\necho two\n")
    (tmp_path / "two" / "prog").chmod(0o755)
    path = f"{tmp_path}/none:{tmp_path}/one:{tmp_path}/two"
    assert guard("prog", env={"PATH": path}).stdout == "two\n"
    (tmp_path / "two" / "prog").unlink()
    assert guard("prog", env={"PATH": path}).returncode == 126


def test_a_command_in_the_working_directory_by_an_empty_path(tmp_path: Path) -> None:
    (tmp_path / "prog").write_text("#!/bin/sh\necho here\n")
    (tmp_path / "prog").chmod(0o755)
    assert guard("prog", env={"PATH": ":/nowhere"}, cwd=tmp_path).stdout == "here\n"
    assert guard("prog", env={"PATH": "/nowhere"}, cwd=tmp_path).returncode == 127


def test_without_path_the_usual_places_are_searched() -> None:
    assert guard("echo", "found", env={}).stdout == "found\n"


def test_a_script_without_an_interpreter_is_read_by_sh(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('echo "$0" "$@"\n')
    script.chmod(0o755)
    assert guard(str(script), "a b", "c").stdout == f"{script} a b c\n"
    assert guard("script", "d", env={"PATH": str(tmp_path)}).stdout == f"{script} d\n"


def test_an_empty_command() -> None:
    done = guard("")
    assert (done.returncode, done.stderr) == (127, "pdeathsig-run: : No such file or directory\n")


PICTURE = """
import os, resource, signal, sys
show = {}
with open('/proc/self/status') as status:
    wanted = ('Sig', 'Uid', 'Groups', 'CapEff', 'Seccomp')
    show.update(line.rstrip('\\n').split(':\\t') for line in status if line.startswith(wanted))
del show['SigQ']
show['cwd'], show['group'], show['sid'] = os.getcwd(), os.getpgrp(), os.getsid(0)
show['environ'], show['argv'] = dict(os.environ), sys.argv
show['umask'] = os.umask(0)
show['limits'] = [resource.getrlimit(number) for number in range(16)]
show['nice'], show['affinity'] = os.nice(0), os.sched_getaffinity(0)
with os.scandir('/proc/self/fd') as entries:
    links = [(int(entry.name), os.readlink(entry.path)) for entry in entries]
    show['descriptors'] = sorted(link for link in links if not link[1].endswith('/fd'))
print(sorted(show.items()))
"""


def unusual() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGRTMIN + 3])
    os.umask(0o027)
    os.nice(3)
    resource.setrlimit(resource.RLIMIT_NOFILE, (99, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


@pytest.mark.parametrize("prepare", [None, unusual])
def test_all_that_a_command_inherits_passes_unchanged(prepare: Callable[[], None] | None, tmp_path: Path) -> None:
    extra = os.open("/dev/zero", os.O_RDONLY)
    os.set_inheritable(extra, True)
    command = [sys.executable, "-S", "-c", PICTURE, "an argument", ""]
    environment = {"A": "1", "EMPTY": "", "PATH": os.environ["PATH"]}

    def picture(*prefix: str) -> str:
        return subprocess.run(
            [*prefix, *command], cwd=tmp_path, env=environment, preexec_fn=prepare, close_fds=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=null, text=True, check=True, timeout=15,
        ).stdout  # fmt: skip

    null = os.open("/dev/null", os.O_WRONLY)
    try:
        with_it, without = picture(GUARD), picture()
    finally:
        os.close(extra)
        os.close(null)
    pipe = re.compile(r"pipe:\[\d+\]")  # each run has its own stdout
    assert pipe.sub("", with_it) == pipe.sub("", without)


@pytest.mark.parametrize("closed", [c for n in range(4) for c in combinations((0, 1, 2), n)], ids=str)
def test_closed_standard_descriptors_stay_closed(closed: tuple[int, ...], tmp_path: Path) -> None:
    report = tmp_path / "report"
    look = f"""
import os
seen = [fd for fd in range(9) if os.path.exists(f'/proc/self/fd/{{fd}}')]
open({str(report)!r}, 'w').write(str(seen))
os._exit(7)
"""
    shut = " ".join(f"{fd}>&-" for fd in closed)
    seen = []
    for prefix in [GUARD], []:
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {shut}', "sh", *prefix, sys.executable, "-S", "-c", look], check=False
        )
        assert done.returncode == 7
        seen.append(report.read_text())
    assert seen[0] == seen[1]


def test_eof_comes_when_the_command_closes_though_the_guard_lives(start: Start) -> None:
    reading, writing = os.pipe()
    tree = start(
        f"here('command'); os.close({writing}); os.close(2); wait(); say('done')",
        prefix=guarded(),
        options={"pass_fds": [writing]},
    )
    os.close(writing)
    tree.process("command")
    assert os.read(reading, 1) == b""
    assert tree.stderr() == ""
    assert tree.top.poll() is None
    os.close(reading)
    tree.send()
    tree.event("done")


def test_sigpipe_comes_when_the_command_closes_its_stdin(start: Start) -> None:
    tree = start("os.close(0); here('command'); forever()", prefix=guarded())
    tree.process("command")
    with pytest.raises(BrokenPipeError):
        tree.send("into a closed pipe")
    tree.kill()
    assert tree.all_gone()


def test_sigpipe_of_the_command_when_the_reader_goes() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{GUARD} yes | head -n 1; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert done.stdout == f"y\n{128 + signal.SIGPIPE}\n"


def test_the_working_directory_is_not_held(start: Start, tmp_path: Path) -> None:
    """A guard that waits keeps no file system busy."""
    tree = start("os.chdir('/'); here('command'); forever()", prefix=guarded())
    tree.process("command")
    for pid in tree.top.pid, *map(int, Path(f"/proc/{tree.top.pid}/task/{tree.top.pid}/children").read_text().split()):
        assert os.readlink(f"/proc/{pid}/cwd") in ("/", str(TESTS))  # the monitor may not have got there yet
    tree.kill()
    assert tree.all_gone()
