"""status(): what is armed, and whether it still holds."""

from __future__ import annotations

import os

from conftest import Start

PROBLEM = "say(*(pdeathsig.status().problems or ['none']))"


def problem(start: Start, code: str) -> str:
    tree = start(f"import pdeathsig; pdeathsig.status()\n{code}\n{PROBLEM}")
    line = tree.line()
    tree.top.wait(10)
    return line


def test_not_armed(start: Start) -> None:
    tree = start(
        "import pdeathsig; s = pdeathsig.status(); "
        "say(bool(s), s.armed, s.signal, s.mechanism, s.backend, s.kernel_signal)"
    )
    assert tree.line() == "False False None none compiled 0"
    tree.top.wait(10)


def test_prints_well(start: Start) -> None:
    tree = start("""
import pdeathsig
print(pdeathsig.status(), file=sys.stderr)
pdeathsig.arm(signal.SIGTERM, grace=5, inherit=True)
print(pdeathsig.status(), file=sys.stderr)
pdeathsig.arm(parent="thread")
print(pdeathsig.status(), file=sys.stderr)
pdeathsig.arm(parent=1)
print(pdeathsig.status(), file=sys.stderr)
""")
    carrier = "SIGRTMIN+26"
    tree.top.wait(10)
    pid, parent = tree.top.pid, os.getpid()
    assert (
        tree.stderr()
        == f"""\
pdeathsig: not armed
  kernel     PR_GET_PDEATHSIG: nothing
  backend    compiled
pdeathsig: armed: SIGTERM when parent {parent} (known by getppid) dies, SIGKILL 5 s later
  mechanism  parent-death signal {carrier}, verified by getppid(), armed again in forked children
  kernel     PR_GET_PDEATHSIG on thread {pid}: {carrier}
  backend    compiled
pdeathsig: armed: SIGKILL when the thread that started us in parent {parent} (known by getppid) dies
  mechanism  the kernel's own parent-death signal: also when only the thread that started us exits
  kernel     PR_GET_PDEATHSIG on thread {pid}: SIGKILL
  backend    compiled
pdeathsig: armed: SIGKILL when process 1 dies
  mechanism  pidfd of 1
  kernel     PR_GET_PDEATHSIG: nothing
  backend    compiled
"""
    )


def test_changed_credentials(start: Start, root: None) -> None:
    """The kernel clears the setting (prctl(2)). Arming again restores it."""
    for arming in ("pdeathsig.arm()", "pdeathsig.arm(parent='thread')"):
        said = problem(start, f"{arming}; os.seteuid(65534)")
        assert said == "the kernel has forgotten the setting: credentials have changed since; arm again"
        assert problem(start, f"{arming}; os.seteuid(65534); {arming}") == "none"


def test_changed_credentials_of_a_process_armed_on_a_thread(start: Start, root: None) -> None:
    code = "t = threading.Thread(target=pdeathsig.arm); t.start(); t.join(); os.setegid(65534)"
    assert problem(start, code).startswith("the kernel has forgotten")


def test_changed_credentials_asked_from_another_thread(start: Start, root: None) -> None:
    tree = start(
        (
            f"import pdeathsig; pdeathsig.status()\\npdeathsig.arm(); "
            f"os.seteuid(65534)\\nt = threading.Thread(target=lambda: {PROBLEM}); t.start(); t.join()"
        ).replace("\\n", "\n")
    )
    assert tree.line().startswith("the kernel has forgotten")
    tree.top.wait(10)


def test_prctl_by_other_code(start: Start) -> None:
    assert (
        problem(start, "pdeathsig.arm(); raw_pdeathsig(15)") == "other code has set the parent-death signal to SIGTERM"
    )


def test_blocked_carrier(start: Start) -> None:
    said = problem(start, "pdeathsig.arm(); signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())")
    assert said.endswith("which carries the parent's death, is blocked in every thread")


def test_a_carrier_blocked_in_one_thread_only_is_no_problem(start: Start) -> None:
    code = """
pdeathsig.arm()
gate = threading.Event()
t = threading.Thread(target=gate.wait); t.start()
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
say(*(pdeathsig.status().problems or ['none']))
gate.set(); t.join()
"""
    assert problem(start, code) == "none"


def test_replaced_handler(start: Start) -> None:
    said = problem(start, "pdeathsig.arm(); signal.signal(pdeathsig.status().carrier, lambda *_: None)")
    assert said.endswith("was replaced")


def test_ignored_signal(start: Start) -> None:
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    assert problem(start, f"pdeathsig.arm(signal.SIGTERM); {ignore}") == "SIGTERM is ignored"
    assert problem(start, f"pdeathsig.arm(signal.SIGTERM, grace=5); {ignore}") == "none"


def test_blocked_signal(start: Start) -> None:
    block = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])"
    assert problem(start, f"pdeathsig.arm(signal.SIGTERM); {block}") == "SIGTERM is blocked in every thread"


def test_asked_from_another_thread_while_the_main_one_blocks_everything(start: Start) -> None:
    """The main thread cannot answer then, and status() says so within a second."""
    tree = start("""
import pdeathsig
pdeathsig.arm()
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
t = threading.Thread(target=lambda: say('kernel', pdeathsig.status().kernel_signal)); t.start(); t.join()
""")
    assert tree.event("kernel") == "None"
    tree.top.wait(10)


def test_delivered(start: Start) -> None:
    tree = start("""
python('''
import pdeathsig
signal.signal(signal.SIGTERM, lambda *_: say("armed", pdeathsig.status().armed))
pdeathsig.arm(signal.SIGTERM)
here("child")
forever()
''')
forever()
""")
    child = tree.process("child")
    tree.kill()
    assert tree.event("armed") == "False"
    child.kill()
    assert child.dies()


def test_disarm_from_another_thread_resets_the_kernel_s_setting(start: Start) -> None:
    """Only the thread itself can reset it, so it is asked to."""
    tree = start("""
import pdeathsig
pdeathsig.arm(parent='thread')
t = threading.Thread(target=pdeathsig.disarm); t.start(); t.join()
say('kernel', pdeathsig.status().kernel_signal)
pdeathsig.arm(parent='thread')
t = threading.Thread(target=pdeathsig.arm); t.start(); t.join()
import ctypes
value = ctypes.c_int(); libc.prctl(2, ctypes.byref(value))
say('main', value.value, bool(pdeathsig.status()), pdeathsig.status().holder != os.getpid())
""")
    assert tree.event("kernel") == "0"
    assert tree.event("main") == "0 True True"
    tree.top.wait(10)


def test_a_watch_given_up_is_no_problem(start: Start) -> None:
    for after in (
        "pdeathsig.arm(parent='thread')",
        "pdeathsig.arm(signal.SIGTERM, parent='thread')",
        "pdeathsig.arm()",
    ):
        assert problem(start, f"pdeathsig.arm(parent=1); {after}; assert pdeathsig.status().watching is None") == "none"
    assert problem(start, "pdeathsig.arm(parent=1); pdeathsig.disarm(); pdeathsig.arm()") == "none"


def test_a_parent_that_lost_the_permission_to_signal_the_child(start: Start, root: None) -> None:
    code = """
import pdeathsig
pdeathsig.arm()
say('armed')
wait()
say(*pdeathsig.status().problems)
pdeathsig.arm()
say(*pdeathsig.status().problems or ['none'])
"""
    tree = start(f"""
child = python({code!r}, stdin=subprocess.PIPE)
wait()
os.setresuid(65534, 65534, 65534)
child.communicate(b"go\\n")
""")
    tree.event("armed")
    tree.send("go")
    assert tree.line() == f"parent {tree.top.pid} runs as another user, and may not signal this process; arm again"
    assert tree.line() == "none"
    tree.top.wait(10)
