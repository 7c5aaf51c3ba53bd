"""A share of `make fuzz`: 20,000 inputs for each harness in tests/fuzz."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import needs
from harness import TESTS


@pytest.mark.timeout(180)
def test_a_share_of_the_fuzzing() -> None:
    needs(shutil.which("cc") is not None, "no C compiler")
    needs("LD_PRELOAD" not in os.environ, "it has sanitizers of its own")
    with tempfile.TemporaryDirectory(prefix="pdeathsig-fuzz-") as directory:
        probe = Path(directory, "probe.c")
        probe.touch()
        sanitizers = ["cc", "-fsanitize=address,undefined", "-shared", "-o", f"{directory}/probe", str(probe)]
        needs(subprocess.run(sanitizers, capture_output=True, check=False).returncode == 0, "no sanitizers")
        ran = subprocess.run(
            ["sh", str(TESTS / "fuzz" / "run.sh"), sys.executable, "60", "20000"],
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    inputs = dict(re.findall(r"^(\w+): (\d+) inputs$", ran.stdout, re.M))
    assert {"options", "command", "proc"} <= inputs.keys()
    assert all(int(number) >= 20000 for number in inputs.values())
