"""The functions that workers of multiprocessing run in the tests: they must be importable."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection

from actors import forever, here, say

import pdeathsig


def hold_the_gil() -> None:
    sum(itertools.repeat(1))


def answer(connection: Connection, initializer: Callable[[], None] | None) -> None:
    """Call the functions that come by the connection, and send their results."""
    if initializer is not None:
        initializer()
    while True:
        connection.send(connection.recv()())


def arm_and_answer() -> None:
    pdeathsig.arm()
    signal.signal(signal.SIGUSR1, lambda *_: say("alive"))
    status = pdeathsig.status()
    say("worker", os.getpid(), status.parent, status.watching)
    forever()


def fork_and_arm() -> None:
    if os.fork() == 0:
        pdeathsig.arm()
        say("forked", os.getpid(), pdeathsig.status().parent)
        forever()
    here("worker")
    forever()


def arm_when_orphaned() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    here("worker")
    parent.join()
    pdeathsig.arm()
    say("alive")
    forever()
