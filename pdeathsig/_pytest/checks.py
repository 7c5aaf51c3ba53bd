"""When pytest --no-orphans looks for processes that were left behind, and which test fails then."""

import os
from typing import TYPE_CHECKING, Any

import pytest

from .._base import native, procfs
from .._child import arm
from .._spawn import install
from .leftovers import kill_leftovers
from .ownership import OwnedProcesses, Owner

if TYPE_CHECKING:
    from collections.abc import Generator

    Wrapper = Generator[None, Any, Any]


class NoOrphans:
    """Names the owner of what is started: a test from its setup to the end of its teardown.

    While a fixture of a wider scope is set up, that fixture is the owner. Its processes are
    looked for when it is finished.
    """

    def __init__(self, config: pytest.Config, fixture: str, everywhere: bool) -> None:
        """Start to watch processes.

        :param fixture: name of the fixture by which a single test asks for the check.
        :param everywhere: check every test.
        """
        try:
            procfs.require_own_namespace()
        except OSError as error:
            raise pytest.UsageError(f"--no-orphans: {error}") from error
        self._config, self._fixture, self._everywhere = config, fixture, everywhere
        self._processes = OwnedProcesses()
        self._test: "Owner | None" = None
        self._fixtures: "dict[object, Owner]" = {}
        self._finished: "list[Owner]" = []  # fixtures, to be checked at the end of the test
        self._text_at_the_end = ""
        self.header = "found and killed, but the session is bound to no process"
        config.add_cleanup(self._processes.close)

    def bind_session(self) -> None:
        """Let this session die with the process that started it, and what it starts with it.

        A worker of xdist dies with the controller. Two cases are left out: without the compiled
        extension, the end of a thread would kill the session; a parent outside the PID namespace
        (0) cannot be watched.
        """
        if native.backend != "compiled":
            return
        if not install.installed():
            install.install(scope="child")  # no guard between a test and what it starts
            self._config.add_cleanup(install.uninstall)
        if os.getppid() and not arm.is_armed():
            arm.arm()
            self._config.add_cleanup(arm.disarm)
        if os.getppid():
            self.header = f"found and killed; the session dies with its parent, {os.getppid()}"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        if self._processes.pid != os.getpid():  # pytest-forked and others fork for each test
            self._processes = OwnedProcesses()
        self._test = self._processes.enter(Owner("this test"))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> "Wrapper":
        """Check after all of the teardown. If that raises, its own error is the one reported."""
        try:
            result = yield
        except KeyboardInterrupt:
            raise
        except BaseException:
            text = self._check(item)
            if text:
                item.add_report_section("teardown", "orphans", text)
            raise
        text = self._check(item)
        if text:
            pytest.fail(text, pytrace=False)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: "pytest.FixtureDef[Any]") -> "Wrapper":
        if fixturedef.scope == "function":
            return (yield)
        owner = self._processes.enter(Owner(f"the {fixturedef.scope} fixture {fixturedef.argname!r}"))
        self._fixtures[fixturedef] = owner
        try:
            return (yield)
        finally:
            self._processes.scan()
            self._processes.leave(owner)

    def pytest_fixture_post_finalizer(self, fixturedef: "pytest.FixtureDef[Any]") -> None:
        owner = self._fixtures.pop(fixturedef, None)
        if owner is not None:
            self._finished.append(owner)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Check what has not been checked yet: after Ctrl-C or -x, fixtures end here."""
        if self._everywhere and self._processes.pid == os.getpid():
            unchecked = [*self._finished, *self._fixtures.values()]
            if self._test is not None:
                unchecked.append(self._test)
            self._text_at_the_end = kill_leftovers(self._processes, unchecked)
            if self._text_at_the_end and session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: "pytest.TerminalReporter") -> None:
        if self._text_at_the_end:
            terminalreporter.section("orphans", red=True)
            terminalreporter.line(self._text_at_the_end)

    def _check(self, item: pytest.Item) -> str:
        """Check this test, and the fixtures that have been finished since the last one."""
        finished, self._finished = self._finished, []
        test, self._test = self._test, None
        if test is None or self._processes.pid != os.getpid():  # a child that the test forked got here
            return ""
        text = ""
        asked = self._everywhere or self._fixture in getattr(item, "fixturenames", ())
        if asked and item.get_closest_marker("orphans_allowed") is None:
            text = kill_leftovers(self._processes, [*finished, test])
        else:  # it stays the owner of what its processes start later
            self._processes.scan_until_stable()
        self._processes.leave(test)
        return text
