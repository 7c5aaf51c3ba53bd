"""docs/recipes.md, "behind uvx, npx": the real wrappers outlive the client that started them."""

from __future__ import annotations

import json
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from shutil import which

import pytest
from conftest import Start, needs
from harness import Tree

UV = Path(sys.executable).parent / "uv"
UP = (
    "pid = os.getpid()\nfor _ in range({}): pid = int(open(f'/proc/{{pid}}/stat').read().rpartition(')')[2].split()[1])"
)
SERVER = """{arm}
from actors import *
{up}
say('server', os.getpid(), pid)
forever()
"""


def check(tree: Tree, dies: bool) -> None:
    """The client is as many processes above the server as the recipe says.

    The server dies with its client if it watches that far up.
    """
    client_pid = tree.event("client")
    pid, above = tree.event("server").split()
    assert above == client_pid
    server = tree.adopt(pid)
    tree.kill()
    if dies:
        assert server.dies()
    else:
        assert not server.dies(within=0.5)
        server.kill()
    assert tree.all_gone()  # the wrapper ends with its server


@pytest.fixture
def uvx(tmp_path: Path) -> list[str]:
    """A command line of uvx with pdeathsig from a wheel, made here of the installed files."""
    needs(UV.exists(), "needs uv: make test-recipes")
    installed = distribution("pdeathsig")
    tag = next(line for line in (installed.read_text("WHEEL") or "").splitlines() if line.startswith("Tag: "))
    wheel = tmp_path / f"pdeathsig-{installed.version}-{tag.removeprefix('Tag: ')}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in installed.files or ():
            if ".." not in path.parts and path.suffix != ".pyc":
                archive.write(path.locate(), path)
    return [str(UV), "tool", "run", "--quiet", "--python", sys.executable, "--with", str(wheel), "python", "-c"]


@pytest.mark.parametrize("ancestors", [1, 2])
@pytest.mark.parametrize("way", ["arm", "environment"])
def test_a_server_behind_uvx_dies_with_its_client(start: Start, uvx: list[str], way: str, ancestors: int) -> None:
    arm = f"import pdeathsig; pdeathsig.arm(ancestors={ancestors})" if way == "arm" else ""
    variables = {"PDEATHSIG": "TERM:5", "PDEATHSIG_ANCESTORS": str(ancestors)} if way == "environment" else {}
    argv = [*uvx, SERVER.format(arm=arm, up=UP.format(2))]
    tree = start(f"here('client'); subprocess.Popen({argv!r}, env={{**os.environ, **{variables!r}}}); forever()")
    check(tree, dies=ancestors == 2)


@pytest.fixture
def npx(tmp_path: Path) -> list[str]:
    """An npm package with a Python program as its server."""
    needs(which("npx") is not None, "needs npx: apt-get install npm")
    package = tmp_path / "package"
    package.mkdir()
    (package / "package.json").write_text(json.dumps({"name": "server", "version": "1.0.0", "bin": "server"}))
    (package / "server").touch(0o755)
    offline = ["--yes", "--offline", "--no-update-notifier", "--cache", str(tmp_path / "cache")]
    return ["npx", *offline, "--package", str(package), "server"]


@pytest.mark.parametrize("ancestors", [2, 3])
def test_a_server_behind_npx_dies_with_its_client(start: Start, npx: list[str], tmp_path: Path, ancestors: int) -> None:
    """npx starts the server through a shell, which is one more process."""
    arm = f"import pdeathsig; pdeathsig.arm(ancestors={ancestors})"
    code = SERVER.format(arm=arm, up=UP.format(3))
    (tmp_path / "package" / "server").write_text(f"#!{sys.executable}\n{code}")
    check(start(f"here('client'); subprocess.Popen({npx!r}); forever()"), dies=ancestors == 3)
