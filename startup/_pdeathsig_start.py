"""Imported by pdeathsig.pth where PDEATHSIG is set. Beside the package, not in it: also when that cannot be imported,
the program must not run unprotected, and site would go on after an exception."""

import os

try:
    from pdeathsig import _environ

    _environ.start()
except BaseException as error:
    if os.environ["PDEATHSIG"] in ("", "0"):
        raise
    os.write(2, f"pdeathsig: PDEATHSIG is set, but: {error!r}\n".encode(errors="backslashreplace"))
    os._exit(2)
