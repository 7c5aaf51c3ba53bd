"""Run all benchmarks, and write their output into docs/benchmarks.md, and the plots beside it.

_page.py [--quick] [--page FILE]: --quick makes fewer runs; --page names another file, and the plots
go into its folder. --quick needs --page.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SCRIPTS = ("startup", "arm", "spawn", "golang", "latency", "guard", "ending")
PLOTS = {
    "spawn": "time to start and await /bin/true, over the parent's memory",
    "ending": "time until a tree of Python processes is gone, over its size",
}
HEAD = """# Benchmarks

Written by `make bench`; README quotes from here. Variants run side by side, in a new order every round; the ratios are
of the same round, so that whatever else the machine does slows both. 95 %: the confidence interval of a median by the
sign test. IQR: the interquartile range."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks.md")
    options = parser.parse_args()
    if options.quick and options.page == parser.get_default("page"):
        parser.error("--quick: its figures are not for docs/benchmarks.md; give a --page")
    return options


def machine() -> str:
    """A description of the machine, as far as the scripts do not print it."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    memory = re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(), re.M)
    processor = model[1] if model else "unknown processor"
    size = f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "unknown memory"
    virtual = "a virtual machine with " if "hypervisor" in Path("/proc/cpuinfo").read_text() else ""
    return f"{virtual}{os.cpu_count()} CPUs ({processor}), {size}"


def wheel(scratch: Path) -> Path:
    """Build one wheel for all scripts."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel", "--no-deps"]
    subprocess.run([*pip, "-w", scratch, ROOT], check=True, cwd=scratch)
    (built,) = scratch.glob("*.whl")
    return built


def output(script: str, options: list[str]) -> str:
    """Run a script, show its output as it comes, and return it."""
    lines = []
    command: list[str | Path] = [sys.executable, "-u", HERE / f"{script}.py", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        raise SystemExit(f"{script}.py: exit code {process.returncode}")
    return "".join(lines)


def as_markdown(printed: str) -> Iterator[str]:
    """Keep the tables; turn headings into paragraphs, and goals into a list."""
    for line in printed.splitlines():
        yield f"- {line}" if line.startswith("goal: ") else line


def section(script: str, printed: str) -> str:
    about = ast.get_docstring(ast.parse((HERE / f"{script}.py").read_text())) or ""
    paragraphs = [text for text in about.split("\n\n") if not text.startswith("Run it as")]
    plot = [f"![{PLOTS[script]}]({script}.svg)"] if script in PLOTS else []
    return "\n\n".join([f"## {script}.py", *paragraphs, *plot, "\n".join(as_markdown(printed)).strip()])


def main() -> None:
    options = arguments()
    begun = time.monotonic()
    sections = []
    with tempfile.TemporaryDirectory(prefix="pdeathsig-bench-") as scratch:
        common = ["--wheel", str(wheel(Path(scratch))), *["--quick"] * options.quick]
        for script in SCRIPTS:
            print(f"\n=== {script}.py\n", flush=True)
            plot = ["--svg", str(options.page.with_name(f"{script}.svg"))] if script in PLOTS else []
            sections.append(section(script, output(script, [*common, *plot])))
    minutes = (time.monotonic() - begun) / 60
    head = f"{HEAD}\n\nOn {machine()}; the whole run took {minutes:.0f} minutes."
    options.page.write_text("\n\n".join([head, *sections]) + "\n")
    print(f"\n{options.page}: {minutes:.1f} minutes")


if __name__ == "__main__":
    main()
