"""The checks of pytest --no-orphans: when they are made, and whose test fails by them."""

import os
from typing import TYPE_CHECKING, Any

import pytest

from .._base import native, procfs
from .._child import arm
from .._spawn import install
from .leftovers import Owner, Watch

if TYPE_CHECKING:
    from collections.abc import Generator

    Wrapper = Generator[None, Any, Any]


class NoOrphans:
    """Owners come and go as tests and fixtures do: a test from its setup to the end of its teardown, and inside of it
    each fixture of a wider scope while that is being set up. What a fixture has started is looked for when it is
    finished."""

    def __init__(self, config: pytest.Config, fixture: str, everywhere: bool) -> None:
        """:param fixture: its name. ``everywhere``: in every test, not only in those that use it."""
        try:
            procfs.require_own_namespace()
        except OSError as error:
            raise pytest.UsageError(f"--no-orphans: {error}") from error
        self._config, self._fixture, self._everywhere = config, fixture, everywhere
        self._watch = Watch()
        self._test: "Owner | None" = None
        self._fixtures: "dict[object, Owner]" = {}
        self._finished: "list[Owner]" = []
        self._at_the_end = ""
        self._bound = "found and killed, but the session is bound to nobody"
        config.add_cleanup(self._watch.close)

    def bind(self) -> None:
        """The session dies with whoever started it (an xdist worker: the controller), and what it starts with it.

        Only with the extension: without it a thread's end would do. Nor by a parent outside the PID namespace: of a
        container's first process it is not known either.
        """
        if native.backend != "compiled":
            return
        if not install.installed():
            install.install()
            self._config.add_cleanup(install.uninstall)
        if os.getppid() and not arm.is_armed():
            arm.arm()
            self._config.add_cleanup(arm.disarm)
        if os.getppid():
            self._bound = f"found and killed; the session dies with its parent, {os.getppid()}"

    def header(self) -> str:
        return self._bound

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        if self._watch.pid != os.getpid():  # forked by pytest-forked and its like
            self._watch = Watch()
        self._test = self._watch.enter(Owner("this test"))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> "Wrapper":
        """After all of it. What it raises itself stays first."""
        try:
            result = yield
        except KeyboardInterrupt:
            raise
        except BaseException:
            said = self._check(item)
            if said:
                item.add_report_section("teardown", "orphans", said)
            raise
        said = self._check(item)
        if said:
            pytest.fail(said, pytrace=False)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: "pytest.FixtureDef[Any]") -> "Wrapper":
        if fixturedef.scope == "function":
            return (yield)
        owner = self._watch.enter(Owner(f"the {fixturedef.scope} fixture {fixturedef.argname!r}"))
        self._fixtures[fixturedef] = owner
        try:
            return (yield)
        finally:
            self._watch.look()
            self._watch.leave(owner)

    def pytest_fixture_post_finalizer(self, fixturedef: "pytest.FixtureDef[Any]") -> None:
        owner = self._fixtures.pop(fixturedef, None)
        if owner is not None:
            self._finished.append(owner)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """After Ctrl-C or -x fixtures end here."""
        if self._everywhere and self._watch.pid == os.getpid():
            unfinished = [*self._finished, *self._fixtures.values()]
            if self._test is not None:
                unfinished.append(self._test)
            self._at_the_end = self._watch.settle(unfinished)
            if self._at_the_end and session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: "pytest.TerminalReporter") -> None:
        if self._at_the_end:
            terminalreporter.section("orphans", red=True)
            terminalreporter.line(self._at_the_end)

    def _check(self, item: pytest.Item) -> str:
        """This test, and the fixtures that have been finished since the last one."""
        owners, self._finished = self._finished, []
        test, self._test = self._test, None
        if test is None or self._watch.pid != os.getpid():  # the child of a fork in the test, gone astray
            return ""
        self._watch.look_well()
        self._watch.leave(test)
        owners.append(test)
        if self._watch.has_nothing_of(owners):
            self._watch.forget(owners)
        elif self._is_checked(item):
            return self._watch.settle(owners)
        return ""

    def _is_checked(self, item: pytest.Item) -> bool:
        asked = self._everywhere or self._fixture in getattr(item, "fixturenames", ())
        return asked and item.get_closest_marker("orphans_allowed") is None
