"""How ``pdeathsig demo`` tells: headings, trees of processes, and claims with whether they were seen."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TextIO

from .scene import Entry, Stage

_STATE_COLUMN = 62
_STATES = {"R": "running", "S": "sleeping", "D": "sleeping", "T": "stopped", "t": "stopped"}
_COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32"}
_BOXES = {"yes": "✓", "no": "✗", "fork": "├─ ", "last": "└─ ", "line": "│  "}
_ASCII = {"yes": "[ok]", "no": "[NOT SO]", "fork": "|- ", "last": "`- ", "line": "|  "}


@dataclass
class Node:
    """A line of a tree, and what hangs below it."""

    text: str
    state: str = ""
    below: list["Node"] = field(default_factory=list)


class Story:
    """What is told, and whether all that it claims was seen."""

    def __init__(self, out: TextIO) -> None:
        self.claims: list[bool] = []
        self._out = out
        self._signs = _BOXES if _can_write(out, "".join(_BOXES.values())) else _ASCII
        self._colour = out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    @property
    def true(self) -> bool:
        """Whether something was claimed, and nothing in vain."""
        return bool(self.claims) and all(self.claims)

    def say(self, text: str = "") -> None:
        print(text, file=self._out, flush=True)

    def heading(self, text: str) -> None:
        first, _, rest = text.partition("\n")
        self.say(f"\n\n{self._paint(first, 'bold')}\n{rest}\n")

    def happens(self, what: str) -> None:
        self.say(f"\n   {self._paint(what, 'bold')}\n")

    def aside(self, text: str) -> None:
        self.say(self._paint(f"   {text}", "dim"))

    def claim(self, seen: bool, text: str, otherwise: str = "") -> None:
        """A line that says ``text``, and whether it was seen; if not, then also what that means."""
        self.claims.append(seen)
        sign = self._paint(self._signs["yes"], "green") if seen else self._paint(self._signs["no"], "red")
        self.say(f"   {sign} {text}" + (f": {otherwise}" if otherwise and not seen else ""))

    def draw(self, stage: Stage) -> None:
        """The tree below this process, who is gone from it, and their last words."""
        living = {entry.pid: entry for entry in stage.company() if entry.alive}
        for line in self._lines([_tree(stage, living)], "   ", top=True):
            self.say(line)
        gone = sorted((actor.pid, actor.label) for actor in stage.cast.values() if actor.pid not in living)
        if gone:
            self.aside("gone: " + ", ".join(f"{pid} {label.partition(':')[0]}" for pid, label in gone))
        for line in stage.last_words():
            self.aside(line)

    def _lines(self, nodes: list[Node], indent: str, top: bool = False) -> Iterator[str]:
        for node in nodes:
            last = node is nodes[-1]
            sign, further = ("last", "   ") if last else ("fork", self._signs["line"])
            line = indent + ("" if top else self._signs[sign]) + node.text
            state = self._paint(node.state, "red" if "ORPHAN" in node.state else "dim")
            yield f"{line:{_STATE_COLUMN}}{state}".rstrip()
            yield from self._lines(node.below, indent + ("" if top else further))

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self._colour and text else text


def _tree(stage: Stage, living: dict[int, Entry]) -> Node:
    """This process, and the act's below it."""
    labels = {actor.pid: actor.label for actor in stage.cast.values()}
    root = Node(f"{os.getpid()} this demo")
    nodes = {pid: Node(f"{pid} {labels.get(pid, '?')}", _state(stage, living[pid])) for pid in sorted(living)}
    for pid, node in nodes.items():
        nodes.get(living[pid].parent, root).below.append(node)
    if stage.thread_lives():
        process = nodes[stage.cast["parent"].pid]
        process.below = [Node(f"its thread {stage.thread}", below=process.below)]
    return root


def _state(stage: Stage, entry: Entry) -> str:
    for actor in stage.cast.values():
        if actor.pid == entry.pid and actor.orphaned():
            return f"ORPHAN, adopted by {entry.parent}"
    return _STATES.get(entry.state, entry.state)


def _can_write(out: TextIO, text: str) -> bool:
    try:
        text.encode(out.encoding)
    except UnicodeEncodeError:
        return False
    return True
