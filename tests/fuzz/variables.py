"""PDEATHSIG and PDEATHSIG_PARENT: whatever they say, it is followed within bounds, or a ValueError. By atheris:
variables.py [libFuzzer's options]."""

import os
import sys

import atheris

with atheris.instrument_imports(include=["pdeathsig"]):
    # Private: through the public door it would take a process each time.
    from pdeathsig._base import environ
    from pdeathsig._child import parent


def value(text: str) -> None:
    try:
        sig, grace = environ.parse(text)
    except ValueError:
        return
    assert 1 <= sig <= 64
    assert grace is None or (0 < grace <= 10 * 365 * 86400 and sig != 9)


def tokens(text: str) -> None:
    os.environ["PDEATHSIG_PARENT"] = text
    try:
        found = parent.tokens()
    except ValueError:
        return
    for one in found:
        assert 0 < one.pid < 2**31
        one.is_alive()
    parent.choose_parent()


def one(data: bytes) -> None:
    text = (
        os.fsdecode(data[1:].replace(b"\0", b"")) if data[:1] > b"@" else data[1:].decode("latin-1").replace("\0", "")
    )
    (value if data[:1] and data[0] & 1 else tokens)(text)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
