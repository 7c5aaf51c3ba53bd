"""An import changes nothing that can be observed, and loads few modules."""

from __future__ import annotations

import pytest
from conftest import Start
from harness import run

PICTURE = """
import re
def text(path):
    with open(path) as file: return file.read()
def picture():
    status = [line for line in text('/proc/self/status').splitlines()
        if not re.match('Vm|Rss|(non)?voluntary|Cpus|SigQ|State', line)]
    stat = text('/proc/self/stat').rpartition(')')[2].split()
    kernel = ctypes.c_int(); libc.prctl(2, ctypes.byref(kernel))
    return dict(status=status, threads=os.listdir('/proc/self/task'), fds=os.listdir('/proc/self/fd'),
        environ=dict(os.environ),
                cwd=os.getcwd(), group=os.getpgrp(), session=os.getsid(0), priority=stat[15:17], kernel=kernel.value,
                timers=text('/proc/self/timers'), children=text(f'/proc/self/task/{os.getpid()}/children'),
                handlers=[signal.getsignal(s)
                    for s in signal.valid_signals()], mask=signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""


@pytest.mark.parametrize(
    "what", ["import pdeathsig", "import pdeathsig; pdeathsig.arm; pdeathsig.status(); pdeathsig.preexec()"]
)
def test_import_changes_nothing(start: Start, what: str) -> None:
    tree = start(f"""{PICTURE}
before = picture()
{what}
after = picture()
say({{k: (before[k], after[k]) for k in before if before[k] != after[k]}})
""")
    assert tree.line() == "{}"
    tree.top.wait(10)


def test_arming_starts_no_thread_and_opens_no_descriptor(start: Start) -> None:
    tree = start(f"""{PICTURE}
before = picture()
import pdeathsig
pdeathsig.arm(); pdeathsig.disarm()
after = picture()
say({{k: (before[k], after[k]) for k in before if before[k] != after[k] and k != 'status'}})
pdeathsig.arm(signal.SIGTERM, grace=5)
say(len(os.listdir('/proc/self/task')), after['fds'] == os.listdir('/proc/self/fd'))
""")
    assert tree.line() == "{}"
    assert tree.line() == "1 True"
    tree.top.wait(10)


def test_auto_loads_nothing_heavy() -> None:
    loaded = run(  # cpyext is PyPy's C-API
        "import sys; before = {*sys.modules, 'cpyext'}; import pdeathsig.auto; "
        "print(*sorted(set(sys.modules) - before))"
    )
    assert loaded.stdout.split() == ["pdeathsig", "pdeathsig._quick", "pdeathsig.auto"]


def test_unset_environment_loads_nothing() -> None:
    assert run("import sys; print([name for name in sys.modules if 'pdeathsig' in name])").stdout == "[]\n"
