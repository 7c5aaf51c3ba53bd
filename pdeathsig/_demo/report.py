"""What ``pdeathsig demo`` prints: trees of processes, and claims with whether they were seen."""

import os
from collections import defaultdict
from typing import TextIO

from .scene import Scene

_COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32"}
_ASCII = {"✓": "[ok]", "✗": "[NOT SO]", "├": "|", "└": "`", "│": "|", "─": "-"}
_STATE_COLUMN = 62


class Report:
    """Prints, and keeps whether each claim was seen."""

    def __init__(self, out: TextIO) -> None:
        self.claims: list[bool] = []
        self._out = out
        self._colour = out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        signs = "".join(_ASCII)
        can_write_signs = signs.encode(out.encoding, "replace").decode(out.encoding) == signs
        self._replacements = {} if can_write_signs else str.maketrans(_ASCII)

    @property
    def all_seen(self) -> bool:
        return bool(self.claims) and all(self.claims)

    def say(self, text: str = "", colour: str = "") -> None:
        print(self._paint(text, colour).translate(self._replacements), file=self._out, flush=True)

    def claim(self, seen: bool, text: str, otherwise: str = "") -> None:
        """Print a claim and whether it was seen; if it was not, also ``otherwise``."""
        self.claims.append(seen)
        sign = self._paint("✓", "green") if seen else self._paint("✗", "red")
        self.say(f"   {sign} {text}" + (f": {otherwise}" if otherwise and not seen else ""))

    def draw(self, scene: Scene) -> None:
        """Print the tree below this process, the processes that are gone, and their stderr."""
        this = os.getpid()
        living = {pid: process for pid, process in scene.members().items() if process.alive}
        texts = {process.pid: f"{process.pid} {process.label}" for process in scene.processes.values()}
        orphans = {process.pid for process in scene.processes.values() if process.orphaned()}
        children = defaultdict(list)
        for pid, process in sorted(living.items()):
            children[process.parent if process.parent in living else this].append(pid)
        thread = scene.processes.get("thread")
        if thread and thread.alive():
            parent = scene.processes["parent"].pid
            texts[thread.pid] = f"its thread {thread.pid}"
            children[thread.pid], children[parent] = children[parent], [thread.pid]

        def draw_children(parent: int, indent: str) -> None:
            for pid in children[parent]:
                last = pid == children[parent][-1]
                state = f"ORPHAN, adopted by {living[pid].parent}" if pid in orphans else ""
                line = f"{indent}{'└─' if last else '├─'} {texts.get(pid, f'{pid} ?')}"
                self.say(f"{line:{_STATE_COLUMN}}{self._paint(state, 'red')}".rstrip())
                draw_children(pid, indent + ("   " if last else "│  "))

        self.say(f"   {this} this demo")
        draw_children(this, "   ")
        gone = sorted((process.pid, role) for role, process in scene.processes.items() if not process.alive())
        if gone:
            self.say(f"   gone: {', '.join(f'{pid} {role}' for pid, role in gone)}", "dim")
        self.quote_stderr(scene)
        self.say()

    def quote_stderr(self, scene: Scene) -> None:
        for line in scene.read_stderr():
            self.say(f"   {line}", "dim")

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self._colour and text and colour else text
