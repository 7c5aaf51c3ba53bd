"""The results in words, and as the table of docs/matrix.md."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path

import rows
from one import Result

BEGIN, END = "<!-- made by make matrix -->\n", "<!-- until here -->\n"
HEADINGS = {"subprocess": "subprocess", "os": "os, pty"}


def is_bad(result: Result) -> bool:
    return bool(result.error or result.gone < 0 or result.shm or result.false_kills)


def cell(result: Result | None) -> str:
    """The survivors after 1 s, or after 0.2, 1 and 3 s if these differ; then what else is wrong."""
    if result is None:
        return "not run"
    if result.error:
        return "error"
    early, one, late = result.survivors
    words = [str(one) if early == one == late else f"{early} → {one} → {late}"]
    words += [f"gone after {result.gone:.1f} s"] * bool(late and result.gone >= 0)
    words += [f"{len(result.shm)} in /dev/shm"] * bool(result.shm)
    words += [f"**{len(result.false_kills)} killed alive**"] * bool(result.false_kills)
    return ", ".join(words)


def survivors(result: Result | None) -> str:
    if result is None:
        return ""
    return ", ".join(name if count == 1 else f"{count} {name}" for name, count in sorted(result.names.items()))


def line(result: Result) -> str:
    """A line for the terminal."""
    mark = "  " if not is_bad(result) else "! "
    text = f"{mark}{result.row:45} {result.way:8} of {result.processes:3}: {cell(result)}"
    text += f"  [{survivors(result)}]" if result.names else ""
    for title, items in (("killed alive", result.false_kills), ("ended by design", result.passed), ("shm", result.shm)):
        text += "".join(f"\n      {title}: {item}" for item in items)
    if result.error:
        text += "\n      " + result.error.strip().replace("\n", "\n      ")
    return text


def write(path: Path, wanted: list[rows.Row], results: dict[tuple[str, str], Result]) -> None:
    """Replace the table in the page."""
    text = path.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(before + BEGIN + made(wanted, results) + END + after)


def made(wanted: list[rows.Row], results: dict[tuple[str, str], Result]) -> str:
    lines = [
        "",
        f"{datetime.date.today()}, Python {platform.python_version()}, Linux {platform.release().partition('-')[0]}, "
        f"{platform.machine()}, {os.cpu_count()} CPUs. {versions()}.",
        "",
        totals(wanted, results),
        "",
        "| set-up | processes | nothing | family | run | what stays without pdeathsig |",
        "|---|---|---|---|---|---|",
    ]
    file = ""
    for row in wanted:
        if row.file != file:
            file = row.file
            lines.append(f"| **{HEADINGS.get(file, file)}** | | | | | |")
        nothing, family, run = (results.get((row.id, way)) for way in ("nothing", "family", "run"))
        count = nothing.processes if nothing else ""
        cells = [row.title, str(count), cell(nothing), cell(family), cell(run), survivors(nothing)]
        lines.append("| " + " | ".join(text.replace("|", "\\|") for text in cells) + " |")
    return "\n".join([*lines, ""])


def totals(wanted: list[rows.Row], results: dict[tuple[str, str], Result]) -> str:
    parts = []
    for way in ("nothing", "family", "run"):
        found = [results[row.id, way] for row in wanted if (row.id, way) in results]
        surviving = sum(1 for result in found if any(result.survivors[1:2]))
        shm = sum(1 for result in found if result.shm)
        false_kills = sum(1 for result in found if result.false_kills)
        parts.append(
            f"{way}: {surviving} with survivors after 1 s, {shm} with something in /dev/shm,"
            f" {false_kills} with a false kill"
        )
    return f"Of {len(wanted)} set-ups: " + "; ".join(parts) + "."


def versions() -> str:
    names = (Path(__file__).parent / "requirements.txt").read_text().split()
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in (n.partition("==")[0] for n in names))
