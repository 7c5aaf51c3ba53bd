"""The command ``pdeathsig``."""

import argparse
import os
import sys
from collections.abc import Sequence

from .. import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb that the command line names, and return the exit status; 2: the command line names none."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["run"]:
        _run(argv[1:])
    parser = _parser()
    options = parser.parse_args(argv)
    if options.run is None:
        parser.print_help(sys.stderr)
        return 2
    status: int = options.run(options)
    return status


def _run(argv: Sequence[str]) -> "NoReturn":
    """Become the guard, which reads the rest of the command line itself."""
    import signal

    from .._spawn.guard_command import executable

    for sig in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and the command would too
        signal.signal(sig, signal.SIG_DFL)
    try:
        os.execv(executable(), ["pdeathsig-run", *argv])
    except OSError as error:
        sys.exit(f"pdeathsig run: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pdeathsig", description="Nothing a program starts outlives it, and nothing dies that should live."
    )
    parser.set_defaults(run=None)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")
    verbs.add_parser(
        "run", help="run a command, and let nothing below it outlive it or who started it (the same as pdeathsig-run)"
    )
    demo = verbs.add_parser(
        "demo",
        help="show on live processes what a SIGKILL orphans, and what pdeathsig changes",
        description="Kill live processes and draw who is left, without pdeathsig and with it. Takes a second, leaves "
        "no process behind. Exit status 0: all that it tells was seen to happen; 1: something was not.",
    )
    demo.set_defaults(run=_demo)
    return parser


def _demo(_: argparse.Namespace) -> int:
    from .. import supported

    if not supported():
        print(f"pdeathsig demo: needs Linux; this is {sys.platform}", file=sys.stderr)
        return 1
    from .._demo.acts import main

    return main()
