"""The entry points, each with what must be true after it worked or failed.

This runs in the process in which calls fail. Only the calls between the two marks can fail.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

BEGIN, END = -1001, -1002  # the same as in inject.c
REPORT, GO = 100, 101  # the driver's descriptors: a line of JSON after each attempt, a byte before the second
NAMED_ERRORS = ("OSError", "SubprocessError", "MemoryError", "ImportError", "ModuleNotFoundError")


def mark(descriptor: int) -> None:
    with suppress(OSError):
        os.close(descriptor)


class Entry(NamedTuple):
    attempt: Callable[[], Any]
    """Marks the beginning, calls pdeathsig, and marks the end."""
    wrong: Callable[[Any], str | None] = lambda _: None
    """Takes the result of an attempt that worked; returns what is wrong."""
    prepare: Callable[[], object] = lambda: None
    unchanged: Callable[[], str | None] = lambda: None
    """After an attempt that failed: returns what is half done."""
    again: bool = True
    """Whether a second attempt must work after the first failed."""
    unbound: bool = False
    """Whether a failure leaves the process unbound."""


def marked(what: Callable[[], Any]) -> Any:
    mark(BEGIN)
    try:
        return what()
    finally:
        mark(END)


def on_thread(what: Callable[[], Any]) -> Any:
    """Call it on another thread than the main one; that thread then ends."""
    results: list[Any] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            results.append(what())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


# Each process prints a line, and would stay.
ALONE = ["sh", "-c", "echo; exec sleep 1000"]
PIPELINE = ["sh", "-c", "{ echo >&2; exec sleep 1000; } | { echo >&2; exec sleep 1000; }"]
ESCAPED = ["sh", "-c", "setsid sh -c 'echo; exec sleep 1000' & echo; exec sleep 1000"]
output = os.pipe()
tops: list[Any] = []
MISSED = "missed, and not reported"


def start(by: Callable[..., Any], args: list[str], **options: Any) -> Any:
    return by(args, stdout=output[1], stderr=output[1], **options)


def not_running(args: list[str]) -> Callable[[Any], str | None]:
    """Check that every process of the command prints its line and runs.

    It waits without a limit, because the runner has one.
    """

    def wrong(child: Any) -> str | None:
        for _ in range(1 if args is ALONE else 2):
            while not select.select([output[0]], [], [], 0.01)[0]:
                if child.poll() is not None:
                    return f"ended: {child.returncode}"
            os.read(output[0], 1)
        return None if child.poll() is None else f"ended: {child.returncode}"

    return wrong


def spawning(args: list[str] = ALONE, thread: bool = False, by: str = "Popen", **options: Any) -> Entry:
    def attempt() -> Any:
        import pdeathsig

        popen = {"Popen": pdeathsig.Popen, "subprocess": subprocess.Popen}[by]
        if "preexec_fn" in options:
            options["preexec_fn"] = pdeathsig.preexec()
        return marked(lambda: start(popen, args, **options))

    return Entry((lambda: on_thread(attempt)) if thread else attempt, not_running(args))


def installed() -> Any:
    import pdeathsig

    def both() -> Any:
        pdeathsig.install()
        return start(subprocess.Popen, ALONE)

    return marked(both)


def load() -> None:
    """Import beforehand, because CPython remembers a directory that it could not list."""
    for module in ("pdeathsig._spawn.install", "multiprocessing.util"):
        __import__(module)


def arming(thread: bool = False, before: dict[str, Any] | None = None, **options: Any) -> Entry:
    def attempt() -> None:
        import pdeathsig

        if "parent" in options and options["parent"] != "thread":
            options["parent"] = os.getppid()
        marked(lambda: pdeathsig.arm(**options))

    def prepare() -> None:
        import pdeathsig

        if before is not None:
            pdeathsig.arm(**before)

    def unchanged() -> str | None:
        import pdeathsig

        status = pdeathsig.status()
        if before is None:
            return None if not status.armed and status.kernel_signal == 0 else f"half armed: {status!r}"
        same = (status.signal, status.grace) == (before["sig"], before.get("grace"))
        return None if status and same else f"what was armed before is not: {status!r}"

    again = before is None
    return Entry((lambda: on_thread(attempt)) if thread else attempt, not_armed, prepare, unchanged, again)


def not_armed(_: object) -> str | None:
    import pdeathsig

    status = pdeathsig.status()
    return None if status else f"not armed, and not reported: {status!r}"


def auto() -> None:
    marked(lambda: __import__("pdeathsig.auto"))


def family() -> None:
    from pdeathsig._family import membership  # without the import that _pdeathsig_start makes

    os.environ["PDEATHSIG"] = "TERM:5"
    marked(membership.start)


def ended_by(name: str, victim: Any, **options: Any) -> Any:
    import pdeathsig

    return marked(lambda: getattr(pdeathsig, name)(victim, **options))


def below(pid: int) -> list[int]:
    found = []
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        found += [child, *below(child)]
    return found


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def ending(name: str, args: list[str], **options: Any) -> Entry:
    processes: list[int] = []

    def prepare() -> None:
        tops.append(start(subprocess.Popen, args, start_new_session=True))
        not_running(args)(tops[0])
        processes.extend((tops[0].pid, *below(tops[0].pid)))

    def wrong(ended: Any) -> str | None:
        left = {pid for pid in processes if state(pid) not in "ZX"}
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        missed = left - set(ended.left)  # a process in ended.left may have ended since
        return f"{MISSED}: {len(missed)}" if missed else None

    def unchanged() -> str | None:
        frozen = [pid for pid in processes if state(pid) == "T"]
        return f"left frozen: {frozen}" if frozen else None

    return Entry(lambda: ended_by(name, tops[0], grace=0.2, **options), wrong, prepare, unchanged)


ENTRIES: dict[str, Entry] = {
    "arm()": arming(),
    "arm(SIGTERM, grace)": arming(sig=signal.SIGTERM, grace=0.5),
    "arm(), on a thread": arming(thread=True),
    "arm(), another before": arming(before={"sig": signal.SIGTERM, "grace": 5.0}),
    "arm(parent=pid)": arming(parent="getppid"),
    'arm(parent="thread")': arming(parent="thread"),
    "auto": Entry(auto, not_armed, again=False, unbound=True),
    "PDEATHSIG": Entry(family, not_armed, again=False, unbound=True),
    "preexec": spawning(by="subprocess", preexec_fn=None),
    "Popen": spawning(),
    "Popen, on a thread": spawning(thread=True),
    "Popen, group": spawning(PIPELINE, scope="group"),
    "Popen, group, on a thread": spawning(PIPELINE, thread=True, scope="group"),
    "Popen, tree": spawning(ESCAPED, scope="tree"),
    "Popen, tree, on a thread": spawning(ESCAPED, thread=True, scope="tree"),
    "Popen, grace": spawning(grace=0.2),
    "install": Entry(installed, not_running(ALONE), load),
    "kill_tree": ending("kill_tree", ESCAPED),
    "kill_tree, SIGKILL": ending("kill_tree", ESCAPED, sig=signal.SIGKILL),
    "kill_group": ending("kill_group", PIPELINE),
}


def children() -> list[int]:
    """The PIDs of all children, zombies too."""
    found = []
    for task in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError):
            found += list(map(int, Path(f"/proc/self/task/{task}/children").read_text().split()))
    return found


def attempt(entry: Entry) -> dict[str, Any]:
    """Make one attempt, and return a report for the runner."""
    report: dict[str, Any] = {"error": None, "wrong": None}
    before = set(children())
    try:
        result = entry.attempt()
        kept.append(result)
    except BaseException as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        clear = any(kind in NAMED_ERRORS for kind in kinds)
        report.update(error=f"{type(error).__name__}: {error}", wrong=None if clear else "no clear error")
        report["wrong"] = report["wrong"] or entry.unchanged()
        left = set(children()) - before
        if left:
            report["wrong"] = f"left behind: {[(pid, state(pid)) for pid in left]}"
    else:
        report["wrong"] = entry.wrong(result)
    report["descriptors"] = sorted(os.readlink(f"/proc/self/fd/{fd}").partition(":")[0] for fd in descriptors())
    return report


kept: list[Any] = []  # keeps the objects of children from being finalized


def descriptors() -> list[int]:
    with os.scandir("/proc/self/fd") as found:
        numbers = [int(entry.name) for entry in found]
    return [fd for fd in numbers if os.path.exists(f"/proc/self/fd/{fd}") or os.path.lexists(f"/proc/self/fd/{fd}")]


def send(report: dict[str, Any]) -> None:
    os.write(REPORT, json.dumps(report).encode() + b"\n")


def drive(name: str, gate: int) -> NoReturn:
    """In the driver: wait until it is traced, attempt, attempt again after a failure, and stay."""
    entry = ENTRIES[name]
    entry.prepare()
    os.read(gate, 1)
    os.close(gate)
    report = attempt(entry)
    send(report)
    if report["error"] is not None and entry.again:
        os.read(GO, 1)
        send(attempt(entry))
    while True:
        signal.pause()


GUARDED = "setsid sh -c 'exec sleep 1000' & echo; read x; exit 7"


def drive_guard(gate: int) -> NoReturn:
    """Become the guard of a command that prints a line, and exits with 7 once it reads a line."""
    import pdeathsig

    argv = pdeathsig.guarded(["sh", "-c", GUARDED], grace=0.3, parent=None)
    os.read(gate, 1)
    os.close(gate)
    os.dup2(GO, 0)
    os.dup2(REPORT, 1)
    os.closerange(3, 256)
    mark(BEGIN)
    os.execv(argv[0], argv)
    sys.exit(1)
