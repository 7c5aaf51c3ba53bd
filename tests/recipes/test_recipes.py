"""Each recipe of docs/recipes.md: with its lines, a SIGKILL of the parent leaves nothing behind.

Without these lines the child stays.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import Start

RECIPES = re.findall(
    r"^## (\S+)[^\n]*\n.*?^```python\n(.*?)^```",
    (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(),
    re.S | re.M,
)
# How to run the code of a recipe, and which text makes it the program without the recipe.
PROGRAMS = {
    "asyncio": "asyncio.run(main())",
    "uvloop": "uvloop.run(main())",
    "anyio": "anyio.run(main, backend=backend)",
    "trio": "trio.run(main)",
    "plumbum": "main()",
    "sh": "main()",
    "pexpect": "main()",
    "multiprocessing": "main()",
    "threads": "main()",
    "MCP": "main()",
}
WITHOUT = {
    "asyncio": [("pdeathsig.create_subprocess", "asyncio.create_subprocess")],
    "uvloop": [("pdeathsig.create_subprocess", "asyncio.create_subprocess"), (', scope="group"', "")],
    "anyio": [("pdeathsig.install()", "pass")],
    "trio": [("pdeathsig.install()", "pass")],
    "plumbum": [("pdeathsig.install()", "pass")],
    "sh": [("pdeathsig.preexec()", "None")],
    "pexpect": [("pdeathsig.preexec()", "None")],
    "multiprocessing": [("pdeathsig.install()", "pass")],
    "threads": [("pdeathsig.Popen", "subprocess.Popen")],
    "MCP": [("ancestors=2", "ancestors=1")],
}


def program(name: str, code: str, backend: str, bound: bool) -> str:
    if not bound:
        for bound_text, unbound_text in WITHOUT[name]:
            assert bound_text in code
            code = code.replace(bound_text, unbound_text)
    # Run by exec, because a recipe is a module of its own.
    return f"""
import asyncio, pdeathsig
def started(pid):
    tracker = sys.modules.get('multiprocessing.resource_tracker')
    say('child', pid)
    say('tracker', getattr(getattr(tracker, '_resource_tracker', None), '_pid', 0))
    forever()
exec({code!r} + '\\n' + {PROGRAMS[name]!r}, {{**globals(), 'backend': {backend!r}, '__name__': 'recipe'}})
"""


def variants() -> list[tuple[str, str, str]]:
    return [
        (name, code, backend)
        for name, code in RECIPES
        for backend in (["asyncio", "trio"] if name == "anyio" else ["asyncio"])
    ]


def test_every_recipe_is_tried() -> None:
    assert {name for name, _ in RECIPES} == set(PROGRAMS) == set(WITHOUT)


@pytest.mark.parametrize(("name", "code", "backend"), variants(), ids=[f"{n}-{b}" for n, _, b in variants()])
@pytest.mark.parametrize("bound", [True, False], ids=["bound", "without"])
def test_the_child_dies_with_its_parent(start: Start, name: str, code: str, backend: str, bound: bool) -> None:
    if name not in ("multiprocessing", "threads", "MCP"):
        pytest.importorskip(name)
    tree = start(program(name, code, backend, bound), options={"start_new_session": True})
    child = tree.process("child")
    tracker = tree.event("tracker")
    others = [tree.adopt(tracker)] if tracker != "0" else []
    tree.kill()
    if bound:
        assert child.dies()
        assert all(other.dies() for other in others)
    else:
        assert child.alive()
        child.kill()
    if name == "MCP":
        tree.stderr()  # the wrapper ends after the server
