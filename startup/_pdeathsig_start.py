"""Join the family at start-up: pdeathsig.pth imports this module where PDEATHSIG is set.

It is beside the package, not in it, because a package that cannot be imported must end the program,
too: it must not run unprotected, and ``site`` would go on after an exception.

PYTEST_DONT_REWRITE: see pdeathsig/__init__.py."""

import os
import sys

try:
    if os.environ["PDEATHSIG"] in ("", "0"):
        os.environ.pop("PDEATHSIG_PARENT", None)  # as membership.follow() does, without its imports
    else:
        from pdeathsig._family import membership

        membership.start()
except BaseException as error:
    if os.environ["PDEATHSIG"] in ("", "0") or sys.flags.ignore_environment:
        raise
    os.write(2, f"pdeathsig: PDEATHSIG is set, but: {error!r}\n".encode(errors="backslashreplace"))
    os._exit(2)
