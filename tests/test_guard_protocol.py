"""pdeathsig-run: the rules at the head of c_src/guard/guard.h."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import struct
import subprocess
import sys

import pytest
from actors import libc
from conftest import Start, needs
from guarding import GUARD, guard, guarded, guards_end  # noqa: F401
from harness import TESTS, Process

PTRACE_CONT, PTRACE_DETACH, PTRACE_SEIZE, PTRACE_GETEVENTMSG, WALL = 7, 17, 0x4206, 0x4201, 0x40000000
TRACE_FORK, TRACE_VFORK = 1 << 1, 1 << 2
STARTED = 1
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
    """Not even with the signal and the value of one: sigqueue(3) sets another si_code."""
    tree = start(LISTENER, prefix=guarded())
    tree.process("command")
    for value in kind, signal.SIGINT << 3 | kind, os.getpid() << 10 | signal.SIGTSTP << 3 | kind:
        assert libc.sigqueue(tree.top.pid, CARRIER, ctypes.c_void_p(value)) == 0
        assert tree.event("got") == f"{CARRIER} -1 {ctypes.c_int(value).value}"
    tree.kill()
    assert tree.all_gone()


def test_a_signal_from_before_the_command_reaches_it() -> None:
    """Pending at the guard's exec, it would have been pending at the command's."""

    def interrupt_self() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        os.kill(os.getpid(), signal.SIGINT)

    code = "import signal; print(*map(int, signal.sigpending()))"
    assert guard(sys.executable, "-c", code, preexec_fn=interrupt_self).stdout == f"{int(signal.SIGINT)}\n"


def held_child(pid: int) -> int:
    """Wait for a traced process to fork, then let go of it. The child is traced, and held."""
    child = ctypes.c_ulong()
    assert os.WIFSTOPPED(os.waitpid(pid, WALL)[1])
    assert libc.ptrace(PTRACE_GETEVENTMSG, pid, None, ctypes.byref(child)) == 0
    os.waitpid(child.value, WALL)
    assert libc.ptrace(PTRACE_DETACH, pid, None, None) == 0
    return child.value


@pytest.mark.parametrize("with_library", [False, True])
def test_a_stop_between_clone_and_exec(with_library: bool) -> None:
    """As by a key on the terminal. The guard stops too, and can be continued. It reports no exec
    before there is one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    options = f"--control {theirs.fileno()}" if with_library else ""
    held: list[int] = []
    with ours, theirs, subprocess.Popen(
        ["sh", "-c", f'read line; exec "$@" {options} -- sh -c "exit 7"', "sh", GUARD],
        stdin=subprocess.PIPE, pass_fds=[theirs.fileno()], preexec_fn=lambda: os.setpgid(0, 0),
    ) as monitor:  # fmt: skip
        try:
            needs(libc.ptrace(PTRACE_SEIZE, monitor.pid, None, TRACE_FORK | TRACE_VFORK) == 0, "needs ptrace")
            ours.send(b"/bin/sh\0")
            assert monitor.stdin is not None
            monitor.stdin.write(b"\n")
            monitor.stdin.flush()
            held.append(held_child(monitor.pid))
            assert libc.ptrace(PTRACE_CONT, held[0], None, None) == 0
            held.append(held_child(held[0]))
            os.kill(held[1], signal.SIGTSTP)
            assert libc.ptrace(PTRACE_DETACH, held[1], None, None) == 0
            witness = Process(monitor.pid)
            try:
                witness.wait_for_state("T")
            finally:
                witness.close()
            with pytest.raises(BlockingIOError):
                ours.recv(8, socket.MSG_DONTWAIT)
            monitor.send_signal(signal.SIGCONT)
            assert monitor.wait(10) == 7
            if with_library:
                assert struct.unpack("=ii", ours.recv(8)) == (STARTED, held[1])
        finally:
            for pid in (monitor.pid, *held) if monitor.returncode is None else ():
                os.kill(pid, signal.SIGKILL)


def test_help_names_the_options_of_users_alone() -> None:
    table = re.search(r"OPTIONS\[\] = \{\n(.*?)\n\};", (SOURCES / "options.c").read_text(), re.S)
    assert table is not None
    rows = re.findall(r"""\{(?:0|'\w'), "(--[\w-]+)",(?:[^{}]*?)(NULL)?\},?$""", table[1], re.M)
    shown = re.findall(r"^  (?:-\w,|   ) (--[\w-]+)", guard("--help").stdout, re.M)
    assert shown == [name for name, hidden in rows if not hidden]
    assert [name for name, hidden in rows if hidden] == ["--lifeline", "--control", "--close", "--executable"]
