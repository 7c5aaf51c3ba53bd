"""The session in README works as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from conftest import needs
from harness import TESTS, environment

README = TESTS.parent / "README.md"

# Replacements for three programs. timeout(1) kills after a second; this one kills once the child is
# at work, on a slow machine too, and waits for the child if that has to die. pgrep(1) and pkill(1)
# search the whole machine; these search this folder.
TIMEOUT = """
import subprocess, sys
assert sys.argv[1:5] == ["--foreground", "-s", "KILL", "1"]
parent = subprocess.Popen(sys.argv[5:], stdout=subprocess.PIPE)
print(parent.stdout.readline().decode(), end="", flush=True)
parent.kill()
parent.wait()
if "pdeathsig" in open("child.py").read():
    parent.stdout.read()
"""
FIND = """
import os, signal, sys
assert sys.argv[1:] == ["-f", "child.py"]
def here(pid):
    try:
        here = os.readlink(f"/proc/{pid}/cwd") == os.getcwd()
        return here and b"child.py\\0" in open(f"/proc/{pid}/cmdline", "rb").read()
    except OSError:
        return False
found = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and int(pid) != os.getpid() and here(pid)]
"""
COMMANDS = {
    "timeout": TIMEOUT,
    "pgrep": FIND + "print(*found, sep='\\n', end='\\n' if found else '')",
    "pkill": FIND + "for pid in found: os.kill(pid, signal.SIGTERM)",
}


def test_the_figures_are_those_of_the_benchmarks() -> None:
    """A script printed each number in the table of costs, here rounded to as many digits."""
    page = README.parent / "docs" / "benchmarks.md"
    needs(page.exists(), "`make bench` has not been run")
    sections = dict(re.findall(r"^## (\w+)\.py\n(.*?)(?=^## |\Z)", page.read_text(), re.S | re.M))
    costs = README.read_text().partition("\n## Cost\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\|.*\| ([^|]*) \| `benchmarks/(\w+)\.py` \|$", costs, re.M)
    assert len(rows) >= 16
    missing = []
    for cell, script in rows:
        measured = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", sections[script])]
        for number in re.findall(r"\d+(?:\.\d+)?", cell):
            digits = len(number.partition(".")[2])
            if not any(f"{value:.{digits}f}" == number for value in measured):
                missing.append((script, cell, number))
    assert not missing, "README quotes what no benchmark has said"


def test_the_session(tmp_path: Path) -> None:
    (session,) = re.findall(r"^```console\n(.*?)^```", README.read_text(), re.S | re.M)
    for name, text in re.findall(r"^\$ cat (\S+)\n(.*?)(?=^\$ )", session, re.S | re.M):
        tmp_path.joinpath(name).write_text(text)
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, code in COMMANDS.items():
        commands.joinpath(name).write_text(f"#!{sys.executable}\n{code}\n")
        commands.joinpath(name).chmod(0o755)
    script = "".join(f"echo {'$ ' + command!r}\n{command}\n" for command in re.findall(r"^\$ (.*)$", session, re.M))
    with open(tmp_path / "seen", "w+") as seen:
        subprocess.run(
            ["bash", "-s"],
            input=script,
            cwd=tmp_path,
            env=environment(PATH=f"{commands}:{Path(sys.executable).parent}:/usr/bin:/bin"),
            stdout=seen,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        seen.seek(0)
        assert re.sub(r"\d{2,}", "N", seen.read()) == re.sub(r"\d{2,}", "N", session)
