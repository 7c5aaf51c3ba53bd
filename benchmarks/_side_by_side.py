"""Run variants side by side, and print medians, differences and a table.

The variants run in turn, in a new order every round, so that the other load of the machine slows
all of them alike.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import random
import statistics
import subprocess
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)
Sample = TypeVar("Sample")

_Z = 1.96  # 95 %


def arguments(about: str | None, **paths: str) -> argparse.Namespace:
    """Parse ``--quick`` and ``--wheel``, which every benchmark has, and the given path options.

    :param paths: the name and the help of each option that takes a path.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a light share of the runs")
    parser.add_argument("--wheel", type=_existing, help="measure this wheel, not one built from this checkout")
    for name, help_text in paths.items():
        parser.add_argument(f"--{name}", type=Path, metavar="PATH", help=help_text)
    return parser.parse_args()


def _existing(path: str) -> Path:
    return Path(path).resolve(strict=True)


def alternate(variants: Mapping[Name, Callable[[], Sample]], rounds: int, seed: int = 1) -> dict[Name, list[Sample]]:
    """Run every variant once a round. The i-th samples of all variants are from the same round."""
    order = random.Random(seed)
    names = list(variants)
    samples: dict[Name, list[Sample]] = {name: [] for name in names}
    for _ in range(rounds):
        order.shuffle(names)
        for name in names:
            samples[name].append(variants[name]())
    return samples


def spread(samples: Sequence[float]) -> float:
    """The interquartile range."""
    lower, _, upper = statistics.quantiles(samples, n=4)
    return upper - lower


def differences(samples: Iterable[float], base: Iterable[float]) -> list[float]:
    return [one - other for one, other in zip(samples, base, strict=True)]


def ratios(samples: Iterable[float], base: Iterable[float]) -> list[float]:
    return [one / other for one, other in zip(samples, base, strict=True)]


def interval(samples: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval of the median by the sign test: it assumes no distribution."""
    ranked = sorted(samples)
    below = max(0, math.floor(len(ranked) / 2 - _Z * math.sqrt(len(ranked)) / 2) - 1)
    return ranked[below], ranked[-1 - below]


def median_and_interval(samples: Sequence[float], digits: int) -> str:
    """``1.23 [1.20, 1.26]``."""
    low, high = interval(samples)
    return f"{statistics.median(samples):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table; the first column is text, the others numbers."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    lines.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    for line in lines:
        first, *numbers = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        print(f"| {' | '.join([first.strip().ljust(widths[0]), *numbers])} |")


def goal(what: str, value: float, limit: float, unit: str, digits: int = 2) -> None:
    """Print whether ``value`` is at most ``limit``."""
    verdict = "reached" if value <= limit else "missed"
    print(f"goal: {what}: {value:.{digits}f}{unit}, at most {limit:.{digits}f}{unit}: {verdict}")


def heading(text: str) -> None:
    print(f"\n{text}\n", flush=True)


def machine(python: Path) -> str:
    """A line about the machine and the Python."""
    version = subprocess.run([python, "-V"], check=True, capture_output=True, text=True).stdout.strip()
    load = " ".join(f"{load:.1f}" for load in os.getloadavg())
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return f"{version}, {system}, {os.cpu_count()} CPUs, load {load}, uid {os.getuid()}"


def compiled(source: Path, directory: Path) -> Path:
    """Compile a C program, and return its path."""
    program = directory / source.stem
    subprocess.run(["cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-o", program, source], check=True)
    return program
