"""Bad input is named, a refused system call is named, and nothing is half armed."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import seccomp_deny
from conftest import Start, needs

import pdeathsig


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"sig": 0}, ValueError, "sig"),
        ({"sig": -9}, ValueError, "sig"),
        ({"sig": 32}, ValueError, "sig"),
        ({"sig": 65}, ValueError, "sig"),
        ({"sig": 10**30}, ValueError, "sig"),
        ({"sig": "TERMINATE"}, ValueError, "sig"),
        ({"sig": "SIG_IGN"}, ValueError, "sig"),
        ({"sig": signal.SIGCHLD}, ValueError, "sig"),
        ({"sig": None}, TypeError, "sig"),
        ({"sig": True}, TypeError, "sig"),
        ({"sig": 9.0}, TypeError, "sig"),
        ({"sig": signal.SIGTERM, "grace": 0}, ValueError, "grace"),
        ({"sig": signal.SIGTERM, "grace": -1}, ValueError, "grace"),
        ({"sig": signal.SIGTERM, "grace": float("nan")}, ValueError, "grace"),
        ({"sig": signal.SIGTERM, "grace": float("inf")}, ValueError, "grace"),
        ({"sig": signal.SIGTERM, "grace": 1e300}, ValueError, "grace"),
        ({"sig": signal.SIGTERM, "grace": "5"}, TypeError, "grace"),
        ({"sig": signal.SIGTERM, "grace": True}, TypeError, "grace"),
        ({"grace": 5}, ValueError, "grace"),
        ({"sig": signal.SIGTERM, "grace": 5, "parent": "thread"}, ValueError, "grace"),
        ({"parent": "mother"}, ValueError, "parent"),
        ({"parent": None}, TypeError, "parent"),
        ({"parent": 1.5}, TypeError, "parent"),
        ({"parent": True}, TypeError, "parent"),
        ({"parent": 0}, ValueError, "parent"),
        ({"parent": -5}, ValueError, "parent"),
        ({"parent": 2**40}, ValueError, "parent"),
        ({"parent": os.getpid()}, ValueError, "parent"),
        ({"inherit": 1}, TypeError, "inherit"),
        ({"parent": "thread", "inherit": None}, TypeError, "inherit"),
    ],
)
def test_bad_argument_is_named(arguments: dict[str, Any], error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=f"^{named}: "):
        pdeathsig.arm(**arguments)
    assert not pdeathsig.status().armed
    assert pdeathsig.status().kernel_signal == 0


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("prctl", ""),
        ("prctl", "signal.SIGTERM"),
        ("prctl", "parent='thread'"),
        ("prctl", "signal.SIGTERM, parent='thread'"),
        ("timer_create", "signal.SIGTERM, grace=5"),
        ("pidfd_open", "parent=os.getppid()"),
    ],
)
@pytest.mark.parametrize("thread", [False, True])
@pytest.mark.parametrize("before", ["", "signal.SIGUSR1, grace=7"])
def test_refused_system_call_is_named_and_nothing_changes(
    start: Start, call: str, arguments: str, thread: bool, before: str
) -> None:
    needs(seccomp_deny.possible(), "no system call numbers for this architecture")
    tree = start(f"""
import pdeathsig, seccomp_deny
{f"pdeathsig.arm({before})" if before and call != "timer_create" else ""}
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def picture():
    s = pdeathsig.status()
    handlers = [line for line in open('/proc/self/status') if line.startswith(('SigBlk', 'SigIgn'))]
    return s.armed, s.signal, s.grace, s.parent, s.watching, s.inherit, handlers
def refused():
    try:
        pdeathsig.arm({arguments})
    except OSError as error:
        say('refused', error.errno, str(error))
before = picture()
seccomp_deny.deny({call!r})
if {thread}:
    thread = threading.Thread(target=refused); thread.start(); thread.join()
else:
    refused()
say('unchanged', picture() == before or (before, picture()))
""")
    assert tree.event("refused") == f"1 [Errno 1] {call}: Operation not permitted"
    assert tree.event("unchanged") == "True"
    tree.top.wait(10)


def test_without_room_for_a_thread_arming_is_an_error(start: Start) -> None:
    """An ordinary user gets EAGAIN under a limit on processes."""
    tree = start("""
import pdeathsig, resource
pdeathsig.status()
if os.getuid() == 0:
    os.setresuid(54321, 54321, 54321)
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
try:
    pdeathsig.arm(parent=1)
except OSError as error:
    say('refused', error)
say('armed', pdeathsig.status().armed)
""")
    assert tree.event("refused") == "[Errno 11] pthread_create: Resource temporarily unavailable"
    assert tree.event("armed") == "False"
    tree.top.wait(10)


def test_without_close_range_the_watch_still_holds(start: Start) -> None:
    needs(seccomp_deny.possible(), "no system call numbers for this architecture")
    other = start("here('other'); forever()")
    pid = other.process("other").pid
    tree = start(f"""
import pdeathsig, seccomp_deny, errno
seccomp_deny.deny('close_range', errno.ENOSYS)
pdeathsig.arm(parent={pid})
here('child')
forever()
""")
    child = tree.process("child")
    other.kill()
    assert child.dies()
    assert tree.stderr() == f"pdeathsig: parent {pid} is gone; SIGKILL to {child.pid}\n"


def test_without_close_range_a_closed_descriptor_is_reported_and_kills_nothing(start: Start) -> None:
    """The descriptor now belongs to another file, which is readable."""
    needs(seccomp_deny.possible(), "no system call numbers for this architecture")
    tree = start("""
import pdeathsig, seccomp_deny, errno
seccomp_deny.deny('close_range', errno.ENOSYS)
pdeathsig.arm()
carrier = pdeathsig.status().carrier
unused = os.dup(0)
os.close(unused)  # the next descriptor
pdeathsig.arm(parent=os.getppid())
os.dup2(0, unused)
(watcher,) = (int(t) for t in os.listdir('/proc/self/task')
    if open(f'/proc/self/task/{t}/comm').read() == 'pdeathsig\\n')
libc.tgkill(os.getpid(), watcher, carrier)
say('ready')
while not pdeathsig.status().problems: os.sched_yield()
say(*pdeathsig.status().problems)
""")
    tree.event("ready")
    tree.send("something to read")
    assert tree.line() == f"the pidfd of {os.getpid()} was closed"
    tree.top.wait(10)


def test_without_pidfd_getfd_the_notice_still_names_the_dead_parent(start: Start) -> None:
    needs(seccomp_deny.possible(), "no system call numbers for this architecture")
    other = start("here('other'); forever()")
    pid = other.process("other").pid
    tree = start(f"""
import pdeathsig, seccomp_deny
seccomp_deny.deny('pidfd_getfd')
pdeathsig.arm(parent={pid})
here('child')
forever()
""")
    child = tree.process("child")
    other.kill()
    assert child.dies()
    assert tree.stderr() == f"pdeathsig: parent {pid} is gone; SIGKILL to {child.pid}\n"


def test_without_room_for_a_signal_arming_is_an_error(start: Start) -> None:
    """RLIMIT_SIGPENDING counts all signals of a user. The watcher thread cannot be woken.

    That is an error, and nothing hangs after it.
    """
    tree = start("""
import pdeathsig, resource
pdeathsig.arm(parent=os.getppid())
before = str(pdeathsig.status())
resource.setrlimit(RLIMIT_SIGPENDING, (0, 0))
try:
    pdeathsig.arm(parent=1)
except OSError as error:
    say('refused', error)
say('unchanged', str(pdeathsig.status()) == before)
pdeathsig.arm()
pdeathsig.disarm()
if os.fork() == 0: os._exit(0)
os.wait()
say('done')
""")
    assert tree.event("refused") == "[Errno 11] pthread_kill: Resource temporarily unavailable"
    assert tree.event("unchanged") == "True"
    tree.event("done")
    tree.top.wait(10)


@pytest.mark.parametrize("handler", ["signal.SIG_IGN", "signal.SIG_DFL", "lambda *_: None"])
def test_a_replaced_handler_neither_hangs_nor_kills(start: Start, handler: str) -> None:
    other = start("here('other'); forever()")
    pid = other.process("other").pid
    tree = start(f"""
import pdeathsig
pdeathsig.arm()
carrier = pdeathsig.status().carrier
for _ in range(3):
    pdeathsig.arm(parent={pid})
    signal.signal(carrier, {handler})
    pdeathsig.disarm()
    signal.signal(carrier, {handler})
pdeathsig.arm(parent={pid})
pdeathsig.arm(signal.SIGTERM, grace=9, parent={pid})
here('child')
forever()
""")
    child = tree.process("child")
    other.kill()
    assert child.dies()


def test_a_refused_arming_on_the_thread_loses_no_death(start: Start) -> None:
    code = """
import pdeathsig, seccomp_deny
pdeathsig.arm()
seccomp_deny.deny("prctl")
here("child")
while True:
    try: pdeathsig.arm(parent="thread")
    except PermissionError: pass
"""
    tree = start(f"for _ in range(4): python({code!r})\nforever()")
    children = [tree.process("child") for _ in range(4)]
    tree.kill()
    assert all(child.dies() for child in children)


def test_without_close_range_only_our_own_descriptor_is_closed(start: Start) -> None:
    tree = start(f"""
import pdeathsig, seccomp_deny, errno
seccomp_deny.deny('close_range', errno.ENOSYS)
unused = os.dup(0)
os.close(unused)
pdeathsig.arm(parent=os.getppid())
os.dup2(os.open({__file__!r}, os.O_RDONLY), unused)
if os.fork() == 0:
    os.fstat(unused)
    os._exit(0)
say('child', os.wait()[1])
pdeathsig.disarm()
os.fstat(unused)
say('done')
""")
    assert tree.event("child") == "0"
    tree.event("done")
    tree.top.wait(10)
