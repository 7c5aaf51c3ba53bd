"""The command ``pdeathsig``: the installed script and ``python -m pdeathsig`` start here."""

from collections.abc import Sequence

from . import __version__
from ._cli import command_line


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb that the command line (or ``argv``) names and return the exit status."""
    return command_line.main(argv, __version__)
