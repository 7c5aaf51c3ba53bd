"""grace: the child is dead so many seconds after its parent, whatever Python is doing."""

from __future__ import annotations

import signal
import time

import pytest
from conftest import Start

GRACE = 0.3

BUSY = {
    "signal ignored": "signal.signal(signal.SIGTERM, signal.SIG_IGN); here('child'); forever()",
    "signal blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); here('child'); forever()",
    "endless handler": "signal.signal(signal.SIGTERM, lambda *_: forever()); here('child'); forever()",
    "handler raises": """
def handler(*_): raise KeyError
signal.signal(signal.SIGTERM, handler)
try:
    here('child')
    forever()
except KeyError:
    say('raised')
    forever()
""",
    "GIL held in C": (
        "import itertools; signal.signal(signal.SIGTERM, lambda *_: None); here('child'); sum(itertools.repeat(1))"
    ),
    "GIL held in C, in a thread": """
import itertools; signal.signal(signal.SIGTERM, lambda *_: None)
threading.Thread(target=lambda: (here('child'), sum(itertools.repeat(1)))).start()
forever()
""",
}


@pytest.mark.parametrize("what", BUSY)
def test_dead_within_the_grace(start: Start, what: str) -> None:
    tree = start(
        f"python('''\nimport pdeathsig\npdeathsig.arm(signal.SIGTERM, grace={GRACE})\n{BUSY[what]}'''); forever()"
    )
    child = tree.process("child")
    before = time.monotonic()
    tree.kill()
    assert child.dies()
    assert time.monotonic() - before >= GRACE
    assert tree.all_gone()


def test_grace_is_for_leaving_in_order(start: Start) -> None:
    tree = start("""
python('''
import pdeathsig
signal.signal(signal.SIGTERM, lambda *_: (say("cleaned up"), os._exit(0)))
pdeathsig.arm(signal.SIGTERM, grace=60)
here("child")
forever()
''')
forever()
""")
    child = tree.process("child")
    tree.kill()
    tree.event("cleaned")
    assert child.dies()


def test_disarm_in_the_handler_calls_off_the_kill(start: Start) -> None:
    """A second process with the same grace, with its SIGKILL due later, shows that."""
    code = """
import pdeathsig
signal.signal(signal.SIGTERM, lambda *_: {handler})
pdeathsig.arm(signal.SIGTERM, grace={grace})
here({name!r})
while True: signal.pause()
"""
    spared = code.format(handler="(pdeathsig.disarm(), say('spared'))", grace=0.1, name="spared")
    control = code.format(handler="None", grace=0.6, name="control")
    tree = start(f"python({spared!r}); python({control!r}); forever()")
    named = dict(tree.line().split() for _ in range(2))
    child, killed = tree.adopt(named["spared"]), tree.adopt(named["control"])
    tree.kill()
    assert tree.line() == "spared"
    assert killed.dies()
    assert child.alive()
    child.kill()
    assert child.dies()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP, signal.SIGRTMIN])
@pytest.mark.parametrize("how", ["ignored", "blocked"])
def test_an_ignored_or_blocked_signal_is_made_deliverable(start: Start, sig: signal.Signals, how: str) -> None:
    """The parent ignored or blocked it, as nohup does, and a shell for its background jobs."""
    undo = {
        "ignored": f"signal.signal({int(sig)}, signal.SIG_IGN)",
        "blocked": f"signal.pthread_sigmask(signal.SIG_BLOCK, [{int(sig)}])",
    }
    tree = start(f"""
{undo[how]}
python("import pdeathsig; pdeathsig.arm({int(sig)}); here('child'); forever()", restore_signals=False)
forever()
""")
    child = tree.process("child")
    tree.kill()
    assert child.dies()


def test_a_blocked_carrier_signal_is_unblocked(start: Start) -> None:
    tree = start("""
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
python("import pdeathsig; pdeathsig.arm(); here('child'); forever()")
forever()
""")
    child = tree.process("child")
    tree.kill()
    assert child.dies()
