"""A small line chart in SVG, legible on white and on black.

It has a logarithmic scale, and names at the ends of the lines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 680, 320
LEFT, RIGHT, TOP, BOTTOM = 52, 528, 44, 268
LABEL = 17  # the least distance between the names of two lines
INK = "#768390"


class Line(NamedTuple):
    name: str
    values: Sequence[float]
    colour: str


def chart(title: str, below: str, positions: Sequence[float], lines: Sequence[Line]) -> str:
    """Draw the chart. All positions are equally spaced. The last line is on top."""
    everything = [value for line in lines for value in line.values]
    least, most = math.log10(min(everything)) - 0.2, math.log10(max(everything)) + 0.1

    def across(index: int) -> float:
        return LEFT + 14 + index * (RIGHT - LEFT - 28) / (len(positions) - 1)

    def up(value: float) -> float:
        return BOTTOM - (math.log10(value) - least) / (most - least) * (BOTTOM - TOP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"',
        f'  role="img" font-family="system-ui, sans-serif" font-size="13" fill="{INK}">',
        f"<title>{escape(title)}</title>",
        f'<text x="{LEFT - 40}" y="20" font-weight="600">{escape(title)}</text>',
    ]
    for value in (10.0**power for power in range(math.ceil(least), math.floor(most) + 1)):
        parts.append(f'<path d="M{LEFT} {up(value):.1f}H{RIGHT}" stroke="{INK}" stroke-opacity=".3"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{up(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    parts.append(f'<path d="M{LEFT} {BOTTOM}H{RIGHT}" stroke="{INK}"/>')
    for index, position in enumerate(positions):
        parts.append(f'<text x="{across(index):.1f}" y="{BOTTOM + 19}" text-anchor="middle">{position:g}</text>')
    parts.append(f'<text x="{(LEFT + RIGHT) / 2:.1f}" y="{BOTTOM + 40}" text-anchor="middle">{escape(below)}</text>')
    for line in lines:
        points = " ".join(f"{across(index):.1f},{up(value):.1f}" for index, value in enumerate(line.values))
        parts.append(f'<g stroke="{line.colour}" fill="{line.colour}" stroke-width="2">')
        parts.append(f'<polyline points="{points}" fill="none" stroke-linejoin="round"/>')
        parts += [f'<circle cx="{xy[0]}" cy="{xy[1]}" r="2"/>' for xy in (point.split(",") for point in points.split())]
        parts.append("</g>")
    for line, y in zip(lines, _apart([up(line.values[-1]) for line in lines]), strict=True):
        name = f"{escape(line.name)} {_short(line.values[-1])}"
        parts.append(f'<text x="{RIGHT + 2}" y="{y + 4:.1f}" fill="{line.colour}" font-weight="600">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _apart(heights: Sequence[float]) -> list[float]:
    """Move the names apart where they would touch, then all of them up into the chart again."""
    moved: dict[int, float] = {}
    last = -math.inf
    for index in sorted(range(len(heights)), key=lambda index: heights[index]):
        last = moved[index] = max(heights[index], last + LABEL)
    over = max(0.0, last - BOTTOM)
    return [moved[index] - over for index in range(len(heights))]


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
