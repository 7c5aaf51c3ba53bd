"""The README's session, run as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from harness import TESTS, environment

README = TESTS.parent / "README.md"


def blocks() -> list[str]:
    return re.findall(r"^```console\n(.*?)^```", README.read_text(), re.S | re.M)


def test_the_session(tmp_path: Path) -> None:
    (session,) = blocks()
    for name, text in re.findall(r"^\$ cat (\S+)\n(.*?)(?=^\$ )", session, re.S | re.M):
        tmp_path.joinpath(name).write_text(text)
    commands = re.findall(r"^\$ (.*)$", session, re.M)
    script = "".join(f"echo {'$ ' + command!r}\n{command}\n" for command in commands)
    ended = subprocess.run(
        ["bash", "-s"],
        input=script.replace("'1i import", "'1i import"),
        cwd=tmp_path,
        env=environment(PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert re.sub(r"\d{2,}", "N", ended.stdout) == re.sub(r"\d{2,}", "N", session)
