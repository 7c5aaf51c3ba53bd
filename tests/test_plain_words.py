"""Plain words and short lines, counted a folder.

``python tests/test_plain_words.py [CHECKOUT]`` prints the figures; with -v before it, each finding too.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOPS = ("benchmarks", "c_src", "pdeathsig", "startup", "tests")
BESIDE = ("CONTRIBUTING.md", "Makefile", "README.md", "build_ffi.py", "setup.py")
KINDS = (".c", ".h", ".md", ".pth", ".py", ".sh", ".start")
CODE, TEXT = 120, 100  # characters a line

# A process is "it", or "the process that ...".
PERSONS = "who whom whose whoever nobody somebody anybody everybody he his him himself"
# Names that had to be explained, and have plain ones now. Parts of longer names count, too.
ODD = """
    seam bonds news on_news keeper unswallow swallow_again parting must_outlive_its_parent distrusted moved_up of_forker
    in_the_middle look_well
"""
WORDS = re.compile(rf"(?<![A-Za-z])({'|'.join([*PERSONS.split(), *ODD.split()])})(?![A-Za-z])", re.I)
# What others say, which is quoted: (file, text).
QUOTED = [("tests/matrix/on_subprocess.py", '"nobody"')]  # the user of that name


def sources(root: Path) -> dict[str, list[Path]]:
    """The files of each folder; "" is the top of the repository."""
    found = {"": [root / name for name in BESIDE if (root / name).exists()]}
    for file in sorted(file for top in TOPS for file in (root / top).rglob("*") if file.suffix in KINDS):
        if file.name != Path(__file__).name:  # it has them all
            found.setdefault(str(file.parent.relative_to(root)), []).append(file)
    return found


def banned(root: Path, file: Path, text: str) -> Iterator[str]:
    name = str(file.relative_to(root))
    for quoted in (quoted for where, quoted in QUOTED if where == name):
        text = text.replace(quoted, "")
    for number, line in enumerate(text.splitlines(), 1):
        for match in WORDS.finditer(line):
            yield f"{name}:{number}: {match[0]}"


def too_long(root: Path, file: Path, text: str) -> Iterator[str]:
    name = str(file.relative_to(root))
    prose = {".py": python_prose, ".c": c_prose, ".h": c_prose, ".md": markdown_prose}.get(file.suffix, shell_prose)(
        text
    )
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > (TEXT if number in prose else CODE) and not (file.suffix == ".md" and number not in prose):
            yield f"{name}:{number}: {len(line)} characters"


def python_prose(text: str) -> set[int]:
    """The lines of docstrings, and of comments that have a line of their own."""
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#"):
            found.add(token.start[0])
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(
            node
        ):
            found.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return found


def c_prose(text: str) -> set[int]:
    """The lines that are all comment."""
    blank = re.sub(r"/\*.*?\*/|//[^\n]*", lambda match: re.sub(r"[^\n]", " ", match[0]), text, flags=re.S)
    return {number for number, line in enumerate(blank.splitlines(), 1) if not line.strip()}


def shell_prose(text: str) -> set[int]:
    return {number for number, line in enumerate(text.splitlines(), 1) if line.startswith("#")}


def markdown_prose(text: str) -> set[int]:
    """Not tables, code, or lines that a link makes long."""
    found: set[int] = set()
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        fence = line.lstrip().startswith("```")
        fenced ^= fence
        if not (fence or fenced or line.startswith(("    ", "|")) or re.search(r"https?://\S{40}", line)):
            found.add(number)
    return found


def findings(root: Path, files: list[Path]) -> tuple[list[str], list[str], int]:
    """Words, lines that are too long, and how many lines there are."""
    texts = {file: file.read_text("utf-8") for file in files}
    words = [found for file, text in texts.items() for found in banned(root, file, text)]
    long = [found for file, text in texts.items() for found in too_long(root, file, text)]
    return words, long, sum(len(text.splitlines()) for text in texts.values())


def figures(root: Path) -> Iterator[str]:
    yield f"{'':18}{'lines':>7}{'words':>7}{'/1000':>7}{'long':>7}{'/1000':>7}"
    total = [0, 0, 0]
    for folder, files in sources(root).items():
        words, long, lines = findings(root, files)
        total = [a + b for a, b in zip(total, (len(words), len(long), lines), strict=True)]
        yield row(folder or "(top)", len(words), len(long), lines)
    yield row("all", *total)


def row(name: str, words: int, long: int, lines: int) -> str:
    a, b = (1000 * count / max(lines, 1) for count in (words, long))
    return f"{name:18}{lines:7}{words:7}{a:7.1f}{long:7}{b:7.1f}"


@pytest.mark.parametrize("folder", sources(ROOT), ids=lambda folder: folder or "top")
def test_plain_words_and_short_lines(folder: str) -> None:
    words, long, _ = findings(ROOT, sources(ROOT)[folder])
    assert (words, long) == ([], [])


def test_words_are_found_in_names_comments_and_strings() -> None:
    file = ROOT / "some.py"
    text = "def who_dies(seam): # Nobody\n    this = 'he', _on_news\n    the = WHOLE, whoami, keepers\n"
    assert [found.partition(":")[2] for found in banned(ROOT, file, text)] == [
        "1: who", "1: seam", "1: Nobody", "2: he", "2: on_news"
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["py", "c", "sh", "md"])
def test_lines_that_are_too_long_are_found(kind: str) -> None:
    text = {
        "py": 'def f():\n    """{0}\n\n    {0}"""\n    # {0}\n    x = 1  # {0}\n    x = """\n{1}"""\n',
        "c": "/* a\n * {0} */\nint x; /* {0} */\n// {0}\n{1}\n",
        "sh": "# {0}\nx={0}\nx={1}\n",
        "md": "{0}\n```\n{1}\n```\n    {1}\n| {1}\n[it](https://{1})\n",
    }[kind].format("a" * 99, "a" * 121)
    expected = {"py": [2, 4, 5, 8], "c": [2, 4, 5], "sh": [1, 3], "md": []}[kind]
    found = too_long(ROOT, ROOT / f"some.{kind}", text)
    assert [int(line.split(":")[1]) for line in found] == expected


if __name__ == "__main__":
    arguments = [Path(argument) for argument in sys.argv[1:] if argument != "-v"]
    checkout = arguments[0] if arguments else ROOT
    if "-v" in sys.argv:
        for files in sources(checkout).values():
            print(*[line for found in findings(checkout, files)[:2] for line in found], sep="\n")
    print(*figures(checkout), sep="\n")
