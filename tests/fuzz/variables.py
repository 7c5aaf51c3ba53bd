"""Any value of PDEATHSIG and PDEATHSIG_PARENT is followed within bounds, or is a ValueError.

By atheris: ``variables.py [libFuzzer's options]``.
"""

import os
import sys

import atheris

with atheris.instrument_imports(include=["pdeathsig"]):
    # Private: through the public door it would take a process each time.
    from pdeathsig._base import environ
    from pdeathsig._child import parent


def try_terms(text: str) -> None:
    try:
        sig, grace = environ.parse(text)
    except ValueError:
        return
    assert 1 <= sig <= 64
    assert grace is None or (0 < grace <= 10 * 365 * 86400 and sig != 9)


def try_tokens(text: str) -> None:
    os.environ["PDEATHSIG_PARENT"] = text
    try:
        found = parent.tokens()
    except ValueError:
        return
    for token in found:
        assert 0 < token.pid < 2**31
        token.is_alive()
    parent.choose_parent()


def try_input(data: bytes) -> None:
    text = (
        os.fsdecode(data[1:].replace(b"\0", b"")) if data[:1] > b"@" else data[1:].decode("latin-1").replace("\0", "")
    )
    (try_terms if data[:1] and data[0] & 1 else try_tokens)(text)


if __name__ == "__main__":
    atheris.Setup(sys.argv, try_input)
    atheris.Fuzz()
