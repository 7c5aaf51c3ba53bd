"""arm(): a process dies when its parent process dies, and not before."""

from __future__ import annotations

import signal
import subprocess

import pytest
from conftest import Start

CHILD = "import pdeathsig; pdeathsig.arm(); here('child'); forever()"
PARENT = f"python({CHILD!r}); here('parent')\n"

DEATHS = {
    "SIGKILL": "forever()",
    "os._exit": "os._exit(0)",
    "segfault": "libc.memset(None, 0, 1)",
    "normal exit": "sys.exit(0)",
}


@pytest.mark.parametrize("death", DEATHS)
def test_child_dies_with_its_parent_however_that_dies(start: Start, death: str) -> None:
    tree = start(PARENT + f"wait()\n{DEATHS[death]}")
    tree.event("parent")
    child = tree.process("child")
    if death == "SIGKILL":
        tree.kill()
    else:
        tree.send()
    assert child.dies()
    assert tree.all_gone()


def test_child_of_a_multi_threaded_parent_dies_with_the_process(start: Start) -> None:
    tree = start(f"""
for _ in range(20):
    threading.Thread(target=forever).start()
threading.Thread(target=lambda: python({CHILD!r})).start()
forever()
""")
    child = tree.process("child")
    tree.kill()
    assert child.dies()


ANSWERING = "signal.signal(signal.SIGUSR1, lambda *_: say('alive')); here('child'); forever()"


def test_thread_exit_does_not_kill_the_child(start: Start) -> None:
    """When the thread exits, the kernel signals both children at once.

    So when the control, bound by the kernel alone, is dead, the other child got its signal too.
    """
    tree = start(f"""
ours = "import pdeathsig; pdeathsig.arm()\\n" + {ANSWERING!r}
raw = "raw_pdeathsig(); here('raw'); forever()"
thread = threading.Thread(target=lambda: (python(ours), python(raw), wait()))
thread.start(); thread.join(); forever()
""")
    named = dict(tree.line().split() for _ in range(2))
    child, raw = tree.adopt(named["child"]), tree.adopt(named["raw"])
    tree.send("end the thread")
    assert raw.dies()
    child.kill(signal.SIGUSR1)
    tree.event("alive")
    tree.kill()
    assert child.dies()
    assert tree.all_gone()


def test_arming_lasts_when_the_arming_thread_exits(start: Start) -> None:
    tree = start("""
python('''
import pdeathsig
thread = threading.Thread(target=pdeathsig.arm)
thread.start(); thread.join()
tid = thread.native_id
while os.path.exists(f"/proc/self/task/{tid}"): os.sched_yield()
here('child')
forever()
''')
forever()
""")
    child = tree.process("child")
    tree.kill()
    assert child.dies()


def test_three_generations_die_one_by_one(start: Start) -> None:
    tree = start("""
python('''
import pdeathsig.auto
python(\"\"\"
import pdeathsig.auto
here("grandchild")
forever()
\"\"\")
here("child")
forever()
''')
forever()
""")
    named = dict(tree.line().split() for _ in range(2))
    processes = [tree.adopt(named[name]) for name in ("child", "grandchild")]
    tree.kill()
    assert all(process.dies() for process in processes)
    assert tree.all_gone()


def test_stopped_child_dies_as_soon_as_it_goes_on(start: Start) -> None:
    """A stopped process runs no handler, so it dies later. With parent='thread' it dies at once."""
    tree = start(
        f"python({CHILD!r}, process_group=0) if sys.version_info >= (3, 11) else python({CHILD!r}, "
        f"preexec_fn=os.setpgrp); forever()"
    )
    child = tree.process("child")
    child.kill(signal.SIGSTOP)
    child.wait_for_state("T")
    tree.kill()
    child.kill(signal.SIGCONT)
    assert child.dies()


def test_stopped_child_armed_on_the_thread_dies_at_once(start: Start) -> None:
    tree = start('python(\'import pdeathsig; pdeathsig.arm(parent="thread"); here("child"); forever()\'); forever()')
    child = tree.process("child")
    child.kill(signal.SIGSTOP)
    child.wait_for_state("T")
    tree.kill()
    assert child.dies()


def test_arming_survives_exec(start: Start) -> None:
    tree = start("""
python('import pdeathsig; pdeathsig.arm(); here("child"); os.execvp("sleep", ["sleep", "1000"])')
forever()
""")
    child = tree.process("child")
    child.wait_for_command("sleep")
    tree.kill()
    assert child.dies()


def test_signal_is_delivered_to_the_programs_handler(start: Start) -> None:
    tree = start("""
python('''
import pdeathsig
signal.signal(signal.SIGTERM, lambda *_: (say("handled"), sys.exit(3)))
pdeathsig.arm(signal.SIGTERM)
here("child")
forever()
''')
forever()
""")
    child = tree.process("child")
    tree.kill()
    tree.event("handled")
    assert child.dies()


def test_arming_twice_is_once_and_the_last_counts(start: Start) -> None:
    tree = start("""
python('''
import pdeathsig
signal.signal(signal.SIGTERM, lambda *_: say("SIGTERM"))
signal.signal(signal.SIGUSR1, lambda *_: (say("SIGUSR1"), os._exit(0)))
pdeathsig.arm(signal.SIGTERM, grace=60)
pdeathsig.arm(signal.SIGUSR1)
here("child")
while True: signal.pause()
''')
forever()
""")
    child = tree.process("child")
    tree.kill()
    tree.event("SIGUSR1")
    assert child.dies()
    assert tree.line() == ""


def test_disarm_lets_the_child_live(start: Start) -> None:
    tree = start(f"""
python("import pdeathsig; pdeathsig.arm(); pdeathsig.disarm()\\n" + {ANSWERING!r})
python("raw_pdeathsig(); here('raw'); forever()")
forever()
""")
    named = dict(tree.line().split() for _ in range(2))
    child, raw = tree.adopt(named["child"]), tree.adopt(named["raw"])
    tree.kill()
    assert raw.dies()
    child.kill(signal.SIGUSR1)
    tree.event("alive")
    child.kill()
    assert child.dies()


@pytest.mark.parametrize("where", ["main", "thread"])
def test_a_carrier_signal_without_a_death_is_ignored(start: Start, where: str) -> None:
    """Any process may send the carrier signal, so the handler itself checks the parent."""
    tree = start(f"""
import pdeathsig
run = (lambda f: f()) if {where!r} == "main" else (lambda f: (lambda t: (t.start(),
    t.join()))(threading.Thread(target=f)))
run(pdeathsig.arm)
for _ in range(100):
    os.kill(os.getpid(), pdeathsig.status().carrier)
say("alive", bool(pdeathsig.status()))
""")
    assert tree.event("alive") == "True"


def test_any_signal_can_be_the_death_signal_even_the_carrier(start: Start) -> None:
    tree = start("""
import pdeathsig
pdeathsig.arm()
carrier = pdeathsig.status().carrier
pdeathsig.disarm()
for arming in (
    f"pdeathsig.arm({carrier})",
    f"pdeathsig.arm(); pdeathsig.arm({carrier})",
    f"pdeathsig.arm({carrier}, parent='thread')",
    f"pdeathsig.arm(); pdeathsig.arm({carrier}, parent='thread')",
    f"pdeathsig.arm(parent=os.getppid()); pdeathsig.arm({carrier}, parent=os.getppid())",
):
    python(f"import pdeathsig; {arming}; here('child'); forever()")
forever()
""")
    children = [tree.process("child") for _ in range(5)]
    tree.kill()
    assert all(child.dies() for child in children)


def test_arming_on_a_dying_process_delivers_the_new_signal_only(start: Start) -> None:
    """The signal that was armed before is not delivered, because its parent lives."""
    tree = start("""
import pdeathsig
got = []
signal.signal(signal.SIGUSR1, lambda *_: got.append(1))
for _ in range(60):
    pdeathsig.arm()
    dying = subprocess.Popen(['sleep', '1000'])
    dying.kill()
    pdeathsig.arm(signal.SIGUSR1, parent=dying.pid)
    while not got: os.sched_yield()
    got.clear()
    dying.wait()
say('alive')
""")
    tree.event("alive")
    tree.top.wait(10)


CANCELLED = """
#include <pthread.h>
#include <signal.h>
static volatile int never;
static void *compute(void *_)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_UNBLOCK, &all, 0);
    while (!never);
    return _;
}
void begin(void) { pthread_t thread; pthread_create(&thread, 0, compute, 0); pthread_cancel(thread); }
"""


def test_a_cancelled_thread_delivers_too(start: Start, tmp_path: object) -> None:
    """write(2) is a cancellation point: there, a cancelled thread would end inside the handler."""
    library = f"{tmp_path}/cancelled.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-xc", "-", "-o", library, "-lpthread"], input=CANCELLED, text=True, check=True
    )
    code = f"""
import pdeathsig
pdeathsig.arm()
ctypes.CDLL("{library}").begin()
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
here("child")
forever()
"""
    tree = start(f"python({code!r}); forever()")
    child = tree.process("child")
    tree.kill()
    assert child.dies()
