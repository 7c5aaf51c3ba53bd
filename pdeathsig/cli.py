"""The command ``pdeathsig``."""

import argparse
import sys
from collections.abc import Sequence

from . import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb that the command line names, and return the exit status; 2: the command line names none."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.run is None:
        parser.print_help(sys.stderr)
        return 2
    status: int = options.run(options)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pdeathsig", description="Nothing a program starts outlives it, and nothing dies that should live."
    )
    parser.set_defaults(run=None)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")
    demo = verbs.add_parser(
        "demo",
        help="show on live processes what a SIGKILL orphans, and what pdeathsig changes",
        description="Kill live processes and draw who is left, without pdeathsig and with it. Takes a second, leaves "
        "no process behind. Exit status 0: all that it tells was seen to happen; 1: something was not.",
    )
    demo.set_defaults(run=_demo)
    return parser


def _demo(_: argparse.Namespace) -> int:
    from . import supported

    if not supported():
        print(f"pdeathsig demo: needs Linux; this is {sys.platform}", file=sys.stderr)
        return 1
    from ._demo import main

    return main()
