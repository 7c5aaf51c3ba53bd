"""The command ``pdeathsig``. Its public name is ``pdeathsig.cli:main``."""
