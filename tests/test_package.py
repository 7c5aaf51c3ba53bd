"""The installed files: the compiled extension, the .pth line, the types."""

from __future__ import annotations

import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest
from conftest import needs
from harness import run

import pdeathsig

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def files() -> set[str]:
    return {str(file) for file in metadata.files("pdeathsig") or ()}


def test_the_pth_line_is_installed_and_will_be_removed_with_the_package() -> None:
    assert {"pdeathsig.pth", "_pdeathsig_start.py"} <= files()


def test_version_is_the_packages() -> None:
    assert metadata.version("pdeathsig") == pdeathsig.__version__


def test_cffi_is_the_only_requirement() -> None:
    required = [line for line in metadata.requires("pdeathsig") or () if "extra ==" not in line]
    assert [line.partition(">")[0] for line in required] == ["cffi"]


def test_wheel_tag_and_contents() -> None:
    wheel = metadata.distribution("pdeathsig").read_text("WHEEL") or ""
    if "editable" in " ".join(files()):
        pytest.skip("an editable install has no wheel of its own")
    needs(sys.implementation.name == "cpython", "built for this Python alone")
    own = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    assert (f"Tag: {own}-{own}t-linux_" if FREE_THREADED else "Tag: cp310-abi3-linux_") in wheel
    assert {
        f"pdeathsig/{shim().name}",
        "pdeathsig/py.typed",
        "pdeathsig/_typed.pyi",
        "pdeathsig/pdeathsig.start",
    } <= files()
    assert not any(name.startswith(("tests", "c_src", "build_ffi", "setup")) for name in files())


def shim() -> Path:
    suffix = sysconfig.get_config_var("EXT_SUFFIX") if FREE_THREADED else ".abi3.so"
    return Path(pdeathsig.__file__).parent / f"_ffi{suffix}"


@pytest.mark.skipif(not FREE_THREADED, reason="needs a free-threaded Python")
def test_importing_the_extension_keeps_the_gil_off() -> None:
    """A module that does not declare that it needs no GIL turns the GIL on, with a warning."""
    code = "import pdeathsig, sys; pdeathsig.arm(); pdeathsig.run(['true'], scope='tree'); print(sys._is_gil_enabled())"
    ended = run(code, "-W", "error")
    assert (ended.stdout, ended.stderr) == ("False\n", "")


def test_the_extension_exports_only_its_init_function() -> None:
    needs(sys.implementation.name == "cpython", "PyPy gives them other names")
    symbols = run(
        f"import subprocess; print(subprocess.run(['nm', '-D', '--defined-only', {str(shim())!r}], "
        f"capture_output=True, text=True).stdout)"
    )
    names = {line.split()[-1] for line in symbols.stdout.splitlines() if line}
    assert {name for name in names if not name.startswith(("__asan", "__odr"))} == {"PyInit__ffi", "PyInit__quick"}


def test_public_names_exist_and_are_listed() -> None:
    assert all(hasattr(pdeathsig, name) for name in pdeathsig.__all__)
    assert set(pdeathsig.__all__) <= set(dir(pdeathsig))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        pdeathsig.nonsense  # noqa: B018


@pytest.mark.skipif(sys.version_info < (3, 15), reason="needs Python 3.15: PEP 829")
def test_start_file_does_what_the_pth_line_does(tmp_path: Path) -> None:
    """The package has it, but does not activate it: it would cost every start 7 ms of imports."""
    start = Path(pdeathsig.__file__).parent / "pdeathsig.start"
    tmp_path.joinpath("pdeathsig.start").write_text(start.read_text())
    code = (
        f"import sys; sys.path += {sys.path!r}; import site; site.addsitedir({str(tmp_path)!r}); "
        "import pdeathsig; print(pdeathsig.status().armed)"
    )
    assert run(code, "-S", PDEATHSIG="TERM").stdout == "True\n"
    assert run(code, "-S").stdout == "False\n"
