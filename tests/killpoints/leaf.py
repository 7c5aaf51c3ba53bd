"""The leaves that are Pythons: each marks that it is ready, and then would live on.

A leaf imports only what it needs, so that it makes few system calls before it is ready.
"""

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BEGIN, END, THREAD = -1001, -1002, -1003  # the same as in sweep.h


def mark(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError:
        pass


def stay() -> None:
    mark(END)
    while True:
        signal.pause()


def arm_and_stay() -> None:
    arm_with_and_stay()


def arm_deaf_and_stay() -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)
    arm_with_and_stay(sig=signal.SIGTERM, grace=0.1)


def arm_and_exec(argv: list[str]) -> None:
    import pdeathsig

    pdeathsig.arm()
    os.execv(argv[0], argv)


def arm_with_and_stay(**options: "Any") -> None:
    import pdeathsig

    pdeathsig.arm(**options)
    stay()
