"""The contract of the rooms: which file may use which, in pdeathsig/ and in c_src/.

Figures: ``python tests/test_layers.py [CHECKOUT]``, also of an older checkout.
import-linter checks layers of imports, but sees neither module names in strings nor #includes.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FACES = ""  # the room of pdeathsig/*.py that users import
PYTHON_LAYERS = [["_base"], ["_child", "_kill"], ["_spawn"], ["_family"], ["_demo", "_pytest"], [FACES]]
C_LAYERS = [["", "proc"], ["base"], ["arm", "kill", "spawn"], ["guard", "module"]]  # "": pdeathsig.h, what cffi reads
MAY_USE_THE_EXTENSION = {"_ffi": {"_base.native"}, "_quick": {"_base.native", "__init__", "auto"}}
FILES_IN_A_FOLDER = 12


@dataclass
class House:
    """The files of one language, and what each uses of the others."""

    layers: list[list[str]]
    uses: dict[str, set[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)  # names in strings, users of the extension

    def room(self, name: str) -> str:
        raise NotImplementedError

    def floor(self, room: str) -> int | None:
        return next((floor for floor, rooms in enumerate(self.layers) if room in rooms), None)

    def rooms(self) -> list[str]:
        return sorted({self.room(name) for name in self.uses})

    def without_a_room(self) -> list[str]:
        return sorted(name for name in self.uses if self.floor(self.room(name)) is None)

    def arrows_up(self) -> list[str]:
        return sorted(f"{a} -> {b}" for a in self.uses for b in self.uses[a] if not self._may_use(a, b))

    def _may_use(self, a: str, b: str) -> bool:
        rooms = self.room(a), self.room(b)
        here, there = map(self.floor, rooms)
        return rooms[0] == rooms[1] or here is None or there is None or here > there

    def circles(self) -> list[list[str]]:
        """The strongly connected components of more than one file, the largest first."""
        return sorted((sorted(one) for one in components(self.uses) if len(one) > 1), key=len, reverse=True)

    def floors(self) -> int:
        """The longest chain of uses; the files of a circle share a floor."""
        height: dict[str, int] = {}
        for one in components(self.uses):  # what is used comes before its users
            below = [height[used] for name in one for used in self.uses[name] if used not in one]
            height.update(dict.fromkeys(one, 1 + max(below, default=0)))
        return max(height.values())


def components(uses: dict[str, set[str]]) -> Iterator[set[str]]:
    """Strongly connected components, each after all that it uses (Tarjan's algorithm)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    found: list[set[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        path.append(name)
        for used in sorted(uses[name]):
            if used not in order:
                visit(used)
            if used in path:
                low[name] = min(low[name], low[used])
        if low[name] == order[name]:
            found.append(set(path[path.index(name) :]))
            del path[path.index(name) :]

    for name in sorted(uses):
        if name not in order:
            visit(name)
    return iter(found)


class PythonHouse(House):
    """``_child.arm`` is pdeathsig/_child/arm.py, ``__init__`` is pdeathsig/__init__.py."""

    def __init__(self, root: Path) -> None:
        super().__init__(PYTHON_LAYERS)
        folder = root / "pdeathsig"
        files = {".".join(file.relative_to(folder).with_suffix("").parts): file for file in folder.rglob("*.py")}
        self.uses = {name: set() for name in files}
        for name, file in files.items():
            tree = ast.parse(file.read_text("utf-8"))
            docstrings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            for node in at_run_time(tree):
                if node not in docstrings or not isinstance(node, ast.Constant):
                    self._look_at(name, node)
            self.uses[name].discard(name)

    def room(self, name: str) -> str:
        first, dot, _ = name.partition(".")
        private = name.startswith("_") and not name.startswith("__")
        return (first if dot else f"{first}.py") if private else FACES  # _x.py beside the rooms is in none

    def _look_at(self, name: str, node: ast.AST) -> None:
        here = f"{name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            for alias in node.names:
                self._imports(name, here, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            above = ["pdeathsig", *name.split(".")][: -node.level] if node.level else []
            for alias in node.names:
                self._imports(name, here, [*above, *(node.module or "").split("."), alias.name])
        elif isinstance(node, ast.Attribute):
            self._touches(name, here, node.attr)
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if called in ("__import__", "import_module") and name != "__init__":
                self.wrong.append(f"{here}: {called}()")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            self._names(name, here, node.value)
        elif isinstance(node, ast.Dict) and name == "__init__":  # the table of lazy public names
            for value in ast.walk(node):
                if isinstance(value, ast.Constant) and value.value in self.uses:
                    self.uses[name].add(value.value)

    def _imports(self, name: str, here: str, path: list[str]) -> None:
        path = [part for part in path if part]
        if path[0] == "pdeathsig":
            if not {*path[1:2]} & {*MAY_USE_THE_EXTENSION}:  # which is beneath all rooms
                self.uses[name] |= {module} if (module := self._module(path[1:])) else set()
            for part in path[1:]:
                self._touches(name, here, part)

    def _touches(self, name: str, here: str, part: str) -> None:
        if name not in MAY_USE_THE_EXTENSION.get(part, {name}):
            self.wrong.append(f"{here}: uses {part}")

    def _names(self, name: str, here: str, text: str) -> None:
        """A private module anywhere in a string; in a room, a public one by exactly its name."""
        for match in re.finditer(r"\bpdeathsig((?:\.\w+)+)", text):
            module = self._module(match[1].split(".")[1:])
            if module is None or name == "__init__":
                continue
            private = self.room(module) != FACES
            if private or (self.room(name) != FACES and match[0] == text and module != "__init__"):
                self.uses[name].add(module)
                self.wrong.append(f"{here}: names {match[0]} in a string")

    def _module(self, path: list[str]) -> str | None:
        """The module that a dotted path leads to, a name in it left out."""
        for end in range(len(path), -1, -1):
            for name in (".".join(path[:end]), ".".join([*path[:end], "__init__"])):
                if name in self.uses:
                    return name
        return None


def at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """All below a node but what `if TYPE_CHECKING:` holds and annotations."""
    for name, value in ast.iter_fields(node):
        typing_only = name == "body" and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not typing_only and name not in ("annotation", "returns"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield child
                    yield from at_run_time(child)


class CHouse(House):
    """``arm/arm.c`` is c_src/arm/arm.c.

    A file uses what it includes, and the files that define the functions it names.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(C_LAYERS)
        folder = root.resolve() / "c_src"
        files = {str(file.relative_to(folder)): file for file in folder.rglob("*.[ch]")}
        code = {name: without_comments(file.read_text("utf-8")) for name, file in files.items()}
        self.uses = {name: set() for name in files}
        defined = {name: functions(text) for name, text in code.items() if name.endswith(".c")}
        for name, file in files.items():
            for included in re.findall(r'^#include "(.*)"', code[name], re.M):
                paths = [path.resolve() for path in (file.parent / included, folder / included)]
                found = next((path for path in paths if path in files.values()), None)
                self.uses[name].update([str(found.relative_to(folder))] if found else [])
        includes = {name: self._included(name) for name in defined}
        for name in defined:
            for header in includes[name]:
                for word in words(code[header]) & words(code[name]) - defined[name]:
                    self.uses[name] |= {
                        other for other in defined if word in defined[other] and header in includes[other]
                    }

    def _included(self, name: str) -> set[str]:
        found: set[str] = set()
        todo = [name]
        while todo:
            new = {used for used in self.uses[todo.pop()] if used.endswith(".h")} - found
            found |= new
            todo += new
        return found

    def room(self, name: str) -> str:
        return name.rpartition("/")[0]

    def headers(self) -> dict[str, int]:
        return Counter(self.room(name) for name in self.uses if name.endswith(".h"))


def without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)


def words(code: str) -> set[str]:
    return set(re.findall(r"\w+", re.sub(r'"(\\.|[^"\\\n])*"|\b(?:struct|enum) \w+', "", code)))


def functions(code: str) -> set[str]:
    """Those that the file defines for others."""
    heads = re.findall(r"^(?!static\b)[a-z_][\w *]*?\b(\w+)\([^;{}]*\)\n?\s*\{", code, re.M)
    return set(heads) - {"if", "for", "while", "switch", "main"}


def folders(root: Path) -> dict[str, int]:
    """How many files each folder of pdeathsig/ and c_src/ holds."""
    found = [file for top in ("pdeathsig", "c_src") for file in (root / top).rglob("*.*") if file.is_file()]
    sources = [file for file in found if file.suffix not in (".pyc", ".so")]
    return Counter(str(file.parent.relative_to(root)) for file in sources)


def lines(root: Path, top: str, kinds: tuple[str, ...] = (".py", ".c", ".h", ".sh", ".start")) -> int:
    return sum(len(file.read_bytes().splitlines()) for file in (root / top).rglob("*") if file.suffix in kinds)


def figures(root: Path) -> Iterator[str]:
    for top, house in (("pdeathsig", PythonHouse(root)), ("c_src", CHouse(root))):
        rooms = [room or "(top)" for room in house.rooms() if house.floor(room) is not None]
        largest = max(map(len, house.circles()), default=0)
        yield f"{top}/: {lines(root, top)} lines, {len(house.uses)} files on {house.floors()} floors"
        yield f"    {len(rooms)} rooms: {', '.join(rooms)}; files in none: {len(house.without_a_room())}"
        yield f"    circles: {len(house.circles())}, files in the largest: {largest}"
        yield f"    arrows up: {len(house.arrows_up())}; names in strings, users of the extension: {len(house.wrong)}"
    yield f"tests/: {lines(root, 'tests')} lines"
    yield f"most files in a folder: {max(folders(root).values())}"


HOUSES: dict[str, Callable[[Path], House]] = {"pdeathsig": PythonHouse, "c_src": CHouse}


@pytest.fixture(params=HOUSES)
def house(request: pytest.FixtureRequest) -> House:
    return HOUSES[request.param](ROOT)


def test_every_file_is_in_a_room(house: House) -> None:
    assert house.without_a_room() == []


def test_a_room_uses_only_itself_and_what_is_below(house: House) -> None:
    assert house.arrows_up() == []


def test_no_file_uses_itself_by_way_of_others(house: House) -> None:
    assert house.circles() == []


def test_no_module_is_named_in_a_string_and_few_use_the_extension(house: House) -> None:
    assert house.wrong == []


def test_a_room_of_c_has_one_header() -> None:
    assert {room: count for room, count in CHouse(ROOT).headers().items() if count > 1} == {}
    assert [name for name in CHouse(ROOT).uses if "/" not in name] == ["pdeathsig.h"]


def test_no_folder_holds_more_than_a_dozen_files() -> None:
    assert {name: count for name, count in folders(ROOT).items() if count > FILES_IN_A_FOLDER} == {}


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_breaches_in_python_are_found(tmp_path: Path) -> None:
    write(tmp_path / "pdeathsig", {
        "__init__.py": "LAZY = {'arm': '_child.arm'}\n__import__('pdeathsig._child.arm')\nfrom ._base import native",
        "cli.py": "import pdeathsig._nowhere\nimport os",
        "_old.py": "",
        "_base/native.py": "from .. import _quick\nfrom .._ffi import lib\ndef f(): from .._child import arm",
        "_child/arm.py": "import sys\nfrom .._base.native import lib\n"
            "if TYPE_CHECKING:\n    from .._spawn import popen",
        "_child/fork.py": "'Not pdeathsig._spawn.popen.'\nf = lambda: sys.modules['pdeathsig._spawn.popen']",
        "_spawn/popen.py": "from .. import _ffi\nimport pdeathsig.cli\nname = 'pdeathsig.cli'\nimport_module(name)",
    })  # fmt: skip
    house = PythonHouse(tmp_path)
    assert house.without_a_room() == ["_old"]
    assert house.arrows_up() == [
        "_base.native -> _child.arm",
        "_child.fork -> _spawn.popen",
        "_spawn.popen -> cli",
    ]
    assert house.circles() == [["_base.native", "_child.arm"]]
    assert house.wrong == [
        "_child.fork:2: names pdeathsig._spawn.popen in a string",
        "_spawn.popen:1: uses _ffi",
        "_spawn.popen:3: names pdeathsig.cli in a string",
        "_spawn.popen:4: import_module()",
    ]


def test_breaches_in_c_are_found(tmp_path: Path) -> None:
    write(tmp_path / "c_src", {
        "base/base.h": "int low(void);\nint high(void);",
        "base/low.c": '#include "base.h"\nint low(void)\n{\n    return high(); /* far(); */\n}',
        "base/high.c": '#include "base.h"\nint high(void)\n{\n    return low();\n}',
        "arm/arm.h": '#include "../kill/kill.h"\nint armed(void);',
        "arm/more.h": "",
        "arm/arm.c": '#include "arm.h"\nint armed(void)\n{\n    return far();\n}',
        "kill/kill.h": "int far(void);",
        "kill/kill.c": '#include "kill.h"\nstatic int low(void)\n{\n}\nint far(void)\n{\n    return low();\n}',
        "other/some.c": "",
    })  # fmt: skip
    house = CHouse(tmp_path)
    assert house.without_a_room() == ["other/some.c"]
    assert house.arrows_up() == ["arm/arm.c -> kill/kill.c", "arm/arm.h -> kill/kill.h"]
    assert house.circles() == [["base/high.c", "base/low.c"]]
    assert house.headers() == {"base": 1, "arm": 2, "kill": 1}


def test_figures(pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]) -> None:
    shown = list(figures(ROOT))
    if pytestconfig.get_verbosity() > 0:
        with capsys.disabled():
            print("", *shown, sep="\n")


if __name__ == "__main__":
    print(*figures(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT), sep="\n")
