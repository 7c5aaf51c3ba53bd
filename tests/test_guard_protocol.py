"""pdeathsig-run: the rules that c_src/guard/guard.h gives for its two processes and the road of a signal."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys

import pytest
from conftest import Start
from guarding import guard, guarded, guards_end  # noqa: F401
from harness import TESTS

SOURCES = TESTS.parent / "c_src" / "guard"
CARRIER = 64
LISTENER = """
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
libc.sigwaitinfo.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
mask, info = (ctypes.c_ulong * 16)(*[2**64 - 1] * 16), (ctypes.c_int * 32)()
here('command')
while libc.sigwaitinfo(mask, info) > 0:
    say('got', info[0], info[2], info[6])
"""


def test_one_function_signals_the_command() -> None:
    """Until everything is ended, which is the work of ending.c and generations.c."""
    sends = re.compile(r"\b(?:SYS_kill|SYS_rt_sigqueueinfo|forward_signal|send_message)\b[^;]*\bchild\.pid\b")
    found = [
        (path.name, function)
        for path in sorted(SOURCES.glob("*.c"))
        for function, body in re.findall(r"^\S[^;\n]*?\b(\w+)\([^;]*?\)\n\{\n(.*?)^\}", path.read_text(), re.M | re.S)
        if sends.search(body)
    ]
    assert found == [("command.c", "signal_command")]


@pytest.mark.parametrize("kind", range(8))
def test_a_queued_value_is_no_message(start: Start, kind: int) -> None:
    """Not even with the signal and the value that a message has: sigqueue(3) gives it another si_code."""
    libc = ctypes.CDLL(None, use_errno=True)
    tree = start(LISTENER, prefix=guarded())
    tree.process("command")
    for value in kind, signal.SIGINT << 3 | kind, os.getpid() << 10 | signal.SIGTSTP << 3 | kind:
        assert libc.sigqueue(tree.top.pid, CARRIER, ctypes.c_void_p(value)) == 0
        assert tree.event("got") == f"{CARRIER} -1 {ctypes.c_int(value).value}"
    tree.kill()
    assert tree.all_gone()


def test_a_signal_from_before_the_command_reaches_it() -> None:
    """Pending at the guard's exec, it would have been pending at the command's."""
    code = "import signal; print(*map(int, signal.sigpending()))"
    done = guard(
        sys.executable, "-c", code,
        preexec_fn=lambda: (
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT]),
            os.kill(os.getpid(), signal.SIGINT),
        ),
    )  # fmt: skip
    assert done.stdout == f"{int(signal.SIGINT)}\n"


def test_help_names_the_options_of_users_alone() -> None:
    table = re.search(r"OPTIONS\[\] = \{\n(.*?)\n\};", (SOURCES / "options.c").read_text(), re.S)
    assert table is not None
    rows = re.findall(r'\{"(--\w+)",(?:[^{}]*?)(NULL)?\},?$', table[1], re.M)
    shown = re.findall(r"^  (--\w+)", guard("--help").stdout, re.M)
    assert shown == [name for name, hidden in rows if not hidden]
    assert [name for name, hidden in rows if hidden] == ["--lifeline", "--control", "--close", "--executable"]
