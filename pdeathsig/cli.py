"""The command ``pdeathsig``: the installed script and ``python -m pdeathsig`` start here."""

import argparse
import os
import sys
from collections.abc import Sequence

from . import __version__, supported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_NOT_STARTED = 125  # as of env(1), timeout(1) and the guard


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb that the command line (or ``argv``) names.

    Returns the exit status; 2 if it names none.
    """
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["run"]:
        _run(argv[1:])
    parser = _parser()
    if parser.parse_args(argv).verb == "demo":
        return _demo()
    parser.print_help(sys.stderr)
    return 2


def _run(argv: Sequence[str]) -> "NoReturn":
    """Replace this process with the guard, which reads the rest of the command line.

    Exits with 125, as the guard does where it cannot start, if there is no guard to execute.
    """
    if not supported():
        print(f"pdeathsig run: needs Linux; this is {sys.platform}", file=sys.stderr)
        sys.exit(_NOT_STARTED)
    import signal

    from ._spawn.guard_command import executable

    for sig in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and the command would inherit that
        signal.signal(sig, signal.SIG_DFL)
    try:
        os.execv(executable(), ["pdeathsig-run", *argv])
    except OSError as error:
        print(f"pdeathsig run: {error.strerror}: {error.filename or 'pdeathsig-run'}", file=sys.stderr)
        sys.exit(_NOT_STARTED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pdeathsig", description="Nothing a program starts outlives it, and nothing dies that should live."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", dest="verb")
    verbs.add_parser(
        "run",
        help="run a command; nothing below it outlives it or the process that starts it (as pdeathsig-run does)",
    )
    verbs.add_parser(
        "demo",
        help="show on live processes what a SIGKILL orphans, and what pdeathsig changes",
        description="Kill live processes and draw which are left, without pdeathsig and with it. Takes a second, "
        "leaves no process behind. Exit status 0: all that it tells was seen to happen; 1: something was not.",
    )
    return parser


def _demo() -> int:
    if not supported():
        print(f"pdeathsig demo: needs Linux; this is {sys.platform}", file=sys.stderr)
        return 1
    from ._demo.acts import main

    return main()
