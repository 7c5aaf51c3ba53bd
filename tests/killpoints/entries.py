"""The entry points that are swept, and the victim of each.

Each function runs in the driver. It marks where counting begins, starts what is to die, and marks
the end.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import multiprocessing
import multiprocessing.pool
import multiprocessing.popen_fork
import multiprocessing.popen_forkserver
import multiprocessing.popen_spawn_posix
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures.process import ProcessPoolExecutor
from typing import Any, NamedTuple

from killpoints import leaf
from killpoints.leaf import BEGIN, END, THREAD, mark

import pdeathsig
from pdeathsig._family import membership  # the import that _pdeathsig_start makes is not to be counted

TOOL = os.environ.get("TOOL", "")
UNPRIVILEGED = 65534
ONE = [TOOL, "end"]
DEAF = ["sh", "-c", f"trap '' TERM; exec {TOOL} end"]
PIPELINE = ["sh", "-c", f"{TOOL} end | {TOOL} end"]
ESCAPED = ["sh", "-c", f"setsid {TOOL} end & exec {TOOL} end"]
GUARD = "exec ^pdeathsig-run"
TESTS = os.path.dirname(os.path.dirname(__file__))
libc = ctypes.CDLL(None)
kept: list[Any] = []  # keeps the objects of children from being finalized


class Entry(NamedTuple):
    name: str
    start: Callable[[], Any]
    leaves: int = 1
    victim: str = "driver"  # this and the next two: sweep.h
    then: str = "any"
    blind: str = ""
    settle: bool = False  # survivors are normal here: no need to wait for their death
    control: str = ""  # why there must be survivors or false kills
    limit: str = ""  # why there may be survivors
    needs_root: bool = False

    @property
    def killed(self) -> str:
        return _KILLED[self.victim]

    @property
    def title(self) -> str:
        return f"{self.name} / {self.killed}"


_KILLED = {
    "driver": "parent",
    "driver/": "child in the middle",
    "thread": "spawning thread",
    GUARD: "guard, monitor",
    f"{GUARD}/": "guard, reaper",
    f"{GUARD}//": "command",
    "exec forkserver": "fork server",
    "exec ^sh -c": "shell",
}


def python(code: str) -> list[str]:
    return [sys.executable, "-c", f"import sys; sys.path.append({TESTS!r}); from killpoints import leaf; {code}"]


def through_a_shell(argv: list[str]) -> list[str]:
    return ["sh", "-c", '"$@"; true', "sh", *argv]


def spawn(args: list[str] = ONE, by: Callable[..., Any] = pdeathsig.Popen, **options: Any) -> None:
    mark(BEGIN)
    kept.append(by(args, **options))
    mark(END)


plain = functools.partial(spawn, by=subprocess.Popen)
group = functools.partial(spawn, PIPELINE, scope="group")
tree = functools.partial(spawn, ESCAPED, scope="tree")
grace = functools.partial(spawn, DEAF, grace=0.1)


def on_thread(start: Callable[[], Any]) -> None:
    def work() -> None:
        mark(THREAD)
        start()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def second_on_thread() -> None:
    on_thread(lambda: pdeathsig.call(["true"]))
    on_thread(spawn)


def at_once() -> None:
    ways: list[dict[str, Any]] = [{}, {"scope": "group"}, {"preexec_fn": nothing}, {"scope": "group", "env": {}}]
    threads = [threading.Thread(target=pdeathsig.Popen, args=(ONE,), kwargs=options) for options in ways]
    mark(BEGIN)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    mark(END)


def nothing() -> None:
    pass


def recipe() -> None:
    libc.prctl(1, signal.SIGKILL)


def recipe_on_thread() -> None:
    """The thread must not end by itself: it must be alive when the child is ready."""
    plain(preexec_fn=recipe)
    signal.pause()


def run() -> None:
    plain([pdeathsig.guarded([""])[0], "--grace", "0", "--", *ESCAPED])


def guarded() -> None:
    plain(pdeathsig.guarded(ESCAPED, grace=None))


def by_asyncio(create: Callable[..., Any]) -> None:
    async def start() -> None:
        mark(BEGIN)
        kept.append(await create(*ONE))
        mark(END)
        signal.pause()  # the end of the loop would close the transport, which kills the child

    asyncio.run(start())


def installed(start: Callable[[], Any]) -> None:
    pdeathsig.install()
    start()


def from_os(start: Callable[[], Any]) -> None:
    mark(BEGIN)
    start()
    mark(END)


def by_os_system() -> None:
    """os.system waits for the command, so both marks come before it."""
    mark(BEGIN)
    mark(END)
    os.system(f"exec {TOOL} end")


def tree_installed(**options: Any) -> None:
    pdeathsig.install(scope="tree")
    subprocess.call(["true"])  # the imports of the first call are not counted
    plain(ESCAPED, **options)


def tree_of_a_member() -> None:
    subprocess.call(["true"])
    plain(ESCAPED)


def forked(child: Callable[[], None]) -> None:
    mark(BEGIN)
    if os.fork() == 0:
        child()
    mark(END)


def forked_twice() -> None:
    if os.fork() == 0:
        leaf.stay()
    leaf.stay()


def inheriting(start: Callable[[], None]) -> None:
    pdeathsig.arm(inherit=True)
    start()


def family(start: Callable[[], None]) -> None:
    os.environ["PDEATHSIG"] = "KILL"
    membership.start()
    start()


def family_shell() -> None:
    family(lambda: plain(through_a_shell(python("leaf.stay()"))))


def daemon() -> None:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            leaf.stay()
        os._exit(0)
    os.wait()


def family_left_behind() -> None:
    """The background jobs of a shell stay as long as the member that started the shell."""
    family(lambda: plain(["sh", "-c", f"setsid {TOOL} end & {TOOL} end & exit 0"]))


def behind_a_shell_by_pid() -> None:
    plain(through_a_shell(python(f"leaf.arm_with_and_stay(parent={os.getpid()})")))


def process(method: str, target: Callable[[], None]) -> None:
    context: Any = multiprocessing.get_context(method)
    mark(BEGIN)
    started = context.Process(target=target)
    started.start()
    kept.append(started)
    mark(END)


def pool(method: str, **options: Any) -> None:
    context: Any = multiprocessing.get_context(method)
    mark(BEGIN)
    workers = context.Pool(1, **options)
    kept.append((workers, workers.apply_async(leaf.stay)))
    mark(END)


def executor(method: str, **options: Any) -> None:
    mark(BEGIN)
    workers = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method), **options)
    kept.append((workers, workers.submit(leaf.stay)))
    mark(END)


def kill_tree() -> None:
    """What it ends is not bound to any process."""
    here = f"sh -c 'echo >&2; exec {TOOL} end'"
    top = subprocess.Popen(["sh", "-c", f"{here} & {here} & wait"], stderr=subprocess.PIPE)
    assert top.stderr is not None
    top.stderr.readline()
    top.stderr.readline()
    mark(BEGIN)
    pdeathsig.kill_tree(top)
    mark(END)


def both_victims(ways: dict[str, tuple[Callable[[], Any], int]]) -> list[Entry]:
    """Each way on a thread, once with the process as victim and once with the thread."""
    both = [("driver", "any"), ("thread", "lives")]
    return [Entry(name, start, leaves, victim, then) for name, (start, leaves) in ways.items() for victim, then in both]


def _controls() -> list[Entry]:
    gone = "the parent died before prctl"
    thread = "the kernel's parent is the thread"
    return [
        Entry("nothing", plain, settle=True, control="nothing binds it"),
        Entry("the usual recipe", lambda: plain(preexec_fn=recipe), settle=True, control=gone),
        Entry(
            "the usual recipe, on a thread",
            lambda: on_thread(recipe_on_thread),
            victim="thread",
            then="lives",
            control=thread,
        ),
    ]


def _spawns() -> list[Entry]:
    return [
        Entry("Popen", spawn),
        Entry("Popen, user", lambda: spawn(user=UNPRIVILEGED), needs_root=True),
        Entry("Popen, preexec_fn", lambda: spawn(preexec_fn=nothing)),
        Entry("Popen, group", group, 2),
        Entry("Popen, group, preexec_fn", lambda: group(preexec_fn=nothing), 2),
        Entry("Popen, four threads at once", at_once, 4),
        Entry("preexec", lambda: plain(preexec_fn=pdeathsig.preexec())),
        Entry("create_subprocess_exec", lambda: by_asyncio(pdeathsig.create_subprocess_exec)),
        Entry("install, subprocess", lambda: installed(plain)),
        Entry("install, tree", tree_installed, 2),
        Entry("family, tree", lambda: family(tree_of_a_member), 2),
        Entry("install, asyncio", lambda: installed(lambda: by_asyncio(asyncio.create_subprocess_exec))),
    ]


def _os() -> list[Entry]:
    """What the functions of ``os`` start."""
    execs = functools.partial(inheriting, lambda: forked(lambda: os.execv(TOOL, ONE)))
    threads: dict[str, Callable[[], Any]] = {
        "install, os.posix_spawn": lambda: installed(lambda: from_os(lambda: os.posix_spawn(TOOL, ONE, os.environ))),
        "install, os.spawnv": lambda: installed(lambda: from_os(lambda: os.spawnv(os.P_NOWAIT, TOOL, ONE))),
        "arm(inherit=True), os.fork, os.execv": execs,
    }
    on_threads: dict[str, tuple[Callable[[], Any], int]] = {
        f"{name}, on a thread": (functools.partial(on_thread, way), 1) for name, way in threads.items()
    }
    ancestors = functools.partial(plain, through_a_shell(python("leaf.arm_with_and_stay(ancestors=2)")))
    return [
        *(Entry(name, way) for name, way in threads.items()),
        *both_victims(on_threads),
        Entry("install, os.system", lambda: installed(by_os_system)),
        Entry("arm(ancestors=2), behind a shell", ancestors, 1, "exec ^sh -c", "gone", "^python"),
    ]


def _threads() -> list[Entry]:
    ways: dict[str, tuple[Callable[[], Any], int]] = {
        "Popen, on a thread": (lambda: on_thread(spawn), 1),
        "Popen, on a thread, the second": (second_on_thread, 1),
        "Popen, preexec_fn, on a thread": (lambda: on_thread(lambda: spawn(preexec_fn=nothing)), 1),
        "Popen, group, on a thread": (lambda: on_thread(group), 2),
        "Popen, tree, on a thread": (lambda: on_thread(tree), 2),
        "Popen, tree, preexec_fn, on a thread": (lambda: on_thread(lambda: tree(preexec_fn=nothing)), 2),
        "guarded, on a thread": (lambda: on_thread(guarded), 2),
        "create_subprocess_exec, on a thread": (
            lambda: on_thread(lambda: by_asyncio(pdeathsig.create_subprocess_exec)),
            1,
        ),
        "install, subprocess, on a thread": (lambda: on_thread(lambda: installed(plain)), 1),
        "install, tree, on a thread": (lambda: on_thread(tree_installed), 2),
        "install, tree, preexec_fn, on a thread": (lambda: on_thread(lambda: tree_installed(preexec_fn=nothing)), 2),
        "family, tree, on a thread": (lambda: on_thread(lambda: family(tree_of_a_member)), 2),
    }
    both = [("driver", "any"), ("thread", "lives")]
    return [Entry(name, start, leaves, victim, then) for name, (start, leaves) in ways.items() for victim, then in both]


def _guards() -> list[Entry]:
    ways: dict[str, tuple[Callable[[], Any], int, str]] = {
        "Popen, tree": (tree, 2, ""),
        "Popen, tree, preexec_fn": (lambda: tree(preexec_fn=nothing), 2, ""),
        "Popen, grace": (grace, 1, ""),
        "Popen, group, grace": (lambda: spawn(PIPELINE, scope="group", grace=0.1), 2, ""),
        "guarded": (guarded, 2, ""),
        "pdeathsig-run": (run, 2, "^pdeathsig-run"),
    }
    entries = []
    for name, (start, leaves, blind) in ways.items():
        entries.append(Entry(name, start, leaves, blind=blind))
        entries += [Entry(name, start, leaves, victim, "gone") for victim in (GUARD, f"{GUARD}/")]
        if leaves == 2:
            entries.append(Entry(name, start, leaves, f"{GUARD}//", "gone"))
    return entries


def _children() -> list[Entry]:
    then_exec = f"import os; os.execv({sys.executable!r}, {python('leaf.stay()')!r})"
    alone = "once the shell has ended, the guard's reaper is alone with what was left behind"
    threads: dict[str, Callable[[], Any]] = {
        "os.fork, arm, on a thread": lambda: forked(leaf.arm_and_stay),
        "family, os.fork on a thread": lambda: family(lambda: forked(leaf.stay)),
    }
    return [
        Entry("auto", lambda: plain(python("import pdeathsig.auto; leaf.stay()")), blind="import pdeathsig.auto"),
        Entry("os.fork, arm", lambda: forked(leaf.arm_and_stay)),
        Entry("os.fork, arm(SIGTERM, grace)", lambda: forked(leaf.arm_deaf_and_stay)),
        Entry("os.fork, arm, exec", lambda: forked(lambda: leaf.arm_and_exec(ONE))),
        Entry("arm(parent=pid), behind a shell", behind_a_shell_by_pid),
        Entry("arm(inherit=True), os.fork twice", lambda: inheriting(lambda: forked(forked_twice)), 2),
        Entry("family, os.fork twice", lambda: family(lambda: forked(forked_twice)), 2),
        Entry("family, os.fork twice", lambda: family(lambda: forked(forked_twice)), 2, "driver/", "gone"),
        Entry("family, a daemon", lambda: family(lambda: from_os(daemon))),
        Entry("family, Python", lambda: family(lambda: plain(python("leaf.stay()")))),
        Entry("family, behind a shell", family_shell),
        Entry("family, behind a shell", family_shell, victim="exec ^sh -c"),
        Entry("family, behind a shell", family_shell, victim=GUARD, then="gone"),
        Entry("family, behind a shell", family_shell, victim=f"{GUARD}/", then="gone"),
        Entry("family, left behind by a shell", family_left_behind, 2),
        Entry("family, left behind by a shell", family_left_behind, 2, f"{GUARD}/", "gone", settle=True, limit=alone),
        Entry("family, Python that execs", lambda: family(lambda: plain(python(then_exec)))),
        *both_victims({name: (functools.partial(on_thread, start), 1) for name, start in threads.items()}),
    ]


def _multiprocessing() -> list[Entry]:
    ways: dict[str, Callable[[str], None]] = {
        "Process that arms": lambda method: process(method, leaf.arm_and_stay),
        "Pool, initializer": lambda method: pool(method, initializer=pdeathsig.arm),
        "executor, initializer": lambda method: executor(method, initializer=pdeathsig.arm),
        "Process, family": lambda method: family(lambda: process(method, leaf.stay)),
        "Pool, family": lambda method: family(lambda: pool(method)),
        "Process, install": lambda method: installed(lambda: process(method, leaf.stay)),
    }
    entries = []
    for method in ("fork", "spawn", "forkserver"):
        for name, start in ways.items():
            if (name, method) == ("Process, install", "forkserver"):
                continue  # its workers arm themselves
            start_so = functools.partial(start, method)
            entries.append(Entry(f"{method}: {name}", start_so))
            if method == "forkserver":
                entries.append(Entry(f"{method}: {name}", start_so, victim="exec forkserver"))
    start_so = functools.partial(on_thread, lambda: process("fork", leaf.arm_and_stay))
    return entries + both_victims({"fork: Process that arms, on a thread": (start_so, 1)})


def _endings() -> list[Entry]:
    frozen = "killed in between, it leaves a stopped tree; what it is to end is not bound"
    return [Entry("kill_tree", kill_tree, 0, settle=True, limit=frozen)]


ENTRIES: dict[str, Entry] = {
    entry.title: entry
    for entries in (_controls, _children, _spawns, _os, _threads, _guards, _multiprocessing, _endings)
    for entry in entries()
    if not entry.needs_root or os.getuid() == 0
}
