"""Types and signatures: what type checkers, editors and help() know of what starts programs."""

from __future__ import annotations

import ast
import copy
import inspect
import json
import pickle
import pydoc
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from harness import run

import pdeathsig

ASSERTIONS = Path(__file__).parent / "typed" / "assertions.py"
STUB = Path(pdeathsig.__file__).parent / "_typed.pyi"
OURS = ["pdeathsig", "scope", "grace"]
FUNCTIONS = ["Popen", "run", "call", "check_call", "check_output", "create_subprocess_exec", "create_subprocess_shell"]
PYRIGHT = {"typeCheckingMode": "strict", "reportUnnecessaryTypeIgnoreComment": "error", "include": [str(ASSERTIONS)]}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", ["3.10", "3.14"])
@pytest.mark.parametrize("checker", ["mypy", "basedpyright"])
def test_type_checkers_say_what_the_assertions_expect(checker: str, version: str, tmp_path: Path) -> None:
    """They read the installed package: the working directory is another."""
    if find_spec(checker) is None:
        pytest.skip(f"needs {checker}")
    (tmp_path / "pyright.json").write_text(json.dumps(PYRIGHT))
    mypy = f"--strict --enable-error-code=ignore-without-code --config-file= --python-version={version}"
    options = {
        "mypy": f"{mypy} {ASSERTIONS}",
        "basedpyright": f"-p pyright.json --pythonpath={sys.executable} --pythonversion={version}",
    }
    command = [sys.executable, "-m", checker, *options[checker].split()]
    ended = subprocess.run(command, cwd=tmp_path, stdout=-1, stderr=subprocess.STDOUT, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


class Stub:
    """What the stub says on this version of Python."""

    def __init__(self) -> None:
        self.classes: dict[str, ast.ClassDef] = {}
        self.functions: dict[str, list[ast.FunctionDef | ast.AsyncFunctionDef]] = {}
        for node in in_force(ast.parse(STUB.read_text()).body):
            if isinstance(node, ast.ClassDef):
                self.classes[node.name] = node
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self.functions.setdefault(node.name, []).append(node)
        popen = self.classes["Popen"].body
        self.functions["Popen"] = [node for node in popen if isinstance(node, ast.FunctionDef) and "init" in node.name]

    def keys(self, name: str) -> set[str]:
        """The keys of that TypedDict and those above it."""
        if name not in self.classes:
            return set()
        of_bases = [self.keys(ast.unparse(base)) for base in self.classes[name].bases]
        return set().union(*of_bases, declared(self.classes[name]))

    def parameters(self, function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
        arguments = function.args
        names = {argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
        names |= {arguments.vararg.arg} if arguments.vararg is not None else set()
        options = arguments.kwarg.annotation if arguments.kwarg is not None else None
        assert isinstance(options, ast.Subscript)  # Unpack[...]
        return (names | self.keys(ast.unparse(options.slice))) - {"self"}


def in_force(body: list[ast.stmt]) -> list[ast.stmt]:
    """These statements, and those under ``if sys.version_info`` that hold here."""
    found: list[ast.stmt] = []
    for node in body:
        if isinstance(node, ast.If):
            holds = eval(ast.unparse(node.test), {"sys": sys})
            found += in_force(node.body if holds else node.orelse)
        else:
            found.append(node)
    return found


def declared(node: ast.ClassDef) -> set[str]:
    return {ast.unparse(line.target) for line in node.body if isinstance(line, ast.AnnAssign)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_stub_has_the_parameters_of_this_python(name: str) -> None:
    """In each overload. Those with more positional arguments have ``popenargs``, too."""
    stub = Stub()
    shown = set(inspect.signature(getattr(pdeathsig, name)).parameters)
    for overload in stub.functions[name]:
        assert stub.parameters(overload) | {"popenargs"} == shown | {"popenargs"}, ast.unparse(overload)


def test_the_stub_has_the_types_of_our_parameters() -> None:
    lines = Stub().classes["_Ours"].body
    in_stub = {
        ast.unparse(line.target): ast.unparse(line.annotation) for line in lines if isinstance(line, ast.AnnAssign)
    }
    assert list(in_stub) == OURS
    popen: Any = pdeathsig.Popen
    for function in (popen.__init__, pdeathsig.create_subprocess_exec, pdeathsig.create_subprocess_shell):
        assert {name: function.__annotations__[name] for name in OURS} == in_stub


def test_the_stub_has_the_members_of_popen() -> None:
    body = Stub().classes["Popen"].body
    in_stub = {node.name for node in body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    added = {name for name in set(dir(pdeathsig.Popen)) - set(dir(subprocess.Popen)) if not name.startswith("_")}
    assert added <= in_stub
    assert in_stub <= set(dir(pdeathsig.Popen))


def keyword_parameters(function: Any) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures_show_our_parameters_first(name: str) -> None:
    assert keyword_parameters(getattr(pdeathsig, name))[:3] == OURS


def test_signatures_show_all_parameters_of_subprocess_and_their_defaults() -> None:
    theirs = inspect.signature(subprocess.Popen).parameters
    for name in FUNCTIONS[:4]:
        ours = inspect.signature(getattr(pdeathsig, name)).parameters
        assert {key: ours[key].default for key in theirs} == {key: theirs[key].default for key in theirs}
    assert "stdout" not in inspect.signature(pdeathsig.check_output).parameters
    assert {"input", "capture_output", "timeout", "check"} <= set(keyword_parameters(pdeathsig.run))
    assert {"input", "timeout"} <= set(keyword_parameters(pdeathsig.check_output))


def test_signatures_are_those_of_inspect() -> None:
    signature = inspect.signature(pdeathsig.run)
    assert isinstance(signature, inspect.Signature)
    assert signature.bind(["true"], 0, text=True).kwargs == {"text": True}
    with pytest.raises(TypeError, match="tex"):
        signature.bind(["true"], tex=True)
    for same in (copy.deepcopy(signature), pickle.loads(pickle.dumps(signature)), signature.replace()):
        assert (same, str(same), repr(same)) == (signature, str(signature), repr(signature))
        assert same.parameters.keys() == signature.parameters.keys()


def test_a_subclass_has_its_own_signature() -> None:
    class Mine(pdeathsig.Popen[str]):
        def __init__(self, name: str) -> None:
            super().__init__([name], text=True)

    class Same(pdeathsig.Popen[str]):
        pass

    assert list(inspect.signature(Mine).parameters) == ["name"]
    assert inspect.signature(Same) == inspect.signature(pdeathsig.Popen)


def test_help_shows_the_parameters() -> None:
    for name in FUNCTIONS:
        text = pydoc.plain(pydoc.render_doc(getattr(pdeathsig, name)))
        assert "pdeathsig=SIGKILL" in text, text
        assert "start_new_session=False" in text, text


def test_popen_can_be_subscribed() -> None:
    with pdeathsig.Popen[str](["echo", "a"], text=True, stdout=subprocess.PIPE) as process:
        assert process.communicate()[0] == "a\n"


def test_signatures_do_not_import_inspect() -> None:
    loaded = run("import sys, pdeathsig; pdeathsig.run(['true']); print('inspect' in sys.modules)")
    assert loaded.stdout == "False\n"
