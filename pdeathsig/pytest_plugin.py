"""pytest --no-orphans: a test that leaves processes behind fails, and they are killed.

pytest loads this file wherever pdeathsig is installed. So it only declares the option, the marker
and the fixture. The checks are in ``_pytest``, which is imported when one of them is used. The page
for users is docs/pytest.md.
"""

import sys
from typing import TYPE_CHECKING

import pytest

import pdeathsig

if TYPE_CHECKING:
    from ._pytest import checks

_NAMES = ("pdeathsig", "pdeathsig.pytest_plugin")
_FIXTURE = "no_orphans"
_MARKER = "orphans_allowed: this test may leave processes behind (pytest --no-orphans)."
_HELP = "fail each test that leaves processes behind, and kill them; the session dies with the process that started it"


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    parser.getgroup("pdeathsig").addoption("--no-orphans", action="store_true", help=_HELP)
    parser.addini("no_orphans", "the same as --no-orphans", type="bool", default=False)
    # Two names, of the entry point and the module: a second registration of one plugin fails.
    name = pluginmanager.get_name(sys.modules[__name__])
    for other in _NAMES:
        if other != name and not pluginmanager.has_plugin(other):
            pluginmanager.set_blocked(other)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)
    if _everywhere(config) and pdeathsig.supported():
        _start(config).bind_session()


def pytest_report_header(config: pytest.Config) -> "str | None":
    if not _everywhere(config):
        return None
    checker = _checker(config)
    return f"no orphans: {checker.header if checker else f'not on {sys.platform}: nothing is checked'}"


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the checks where a test asks for them by the fixture alone."""
    asked = any(_FIXTURE in getattr(item, "fixturenames", ()) for item in session.items)
    if asked and not _checker(session.config) and pdeathsig.supported():
        _start(session.config)


@pytest.fixture
def no_orphans(request: pytest.FixtureRequest) -> None:
    """Fail this test if it leaves processes behind, and kill them.

    ``pytest --no-orphans`` does so for all tests.
    """
    if pdeathsig.supported() and not (_checker(request.config) and _FIXTURE in request.node.fixturenames):
        pytest.fail("no_orphans: to be an argument or in usefixtures(), as it counts from the start of the test")


def _everywhere(config: pytest.Config) -> bool:
    named = any(name in (config.getoption("plugins", None) or ()) for name in _NAMES)
    return bool(config.getoption("no_orphans") or config.getini("no_orphans") or named)


def _checker(config: pytest.Config) -> "checks.NoOrphans | None":
    return config.pluginmanager.get_plugin("pdeathsig-no-orphans")


def _start(config: pytest.Config) -> "checks.NoOrphans":
    from ._pytest import checks

    checker = checks.NoOrphans(config, _FIXTURE, _everywhere(config))
    config.pluginmanager.register(checker, "pdeathsig-no-orphans")
    return checker
