"""The command ``pdeathsig``: the installed script and ``python -m pdeathsig`` start here."""

from ._cli.command_line import main as main
