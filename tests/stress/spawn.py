"""Eight threads start children and end them, while two others fork, for SECONDS, at random from
SEED.

``PYTHONPATH=tests python tests/stress/spawn.py [SECONDS [SEED]]``. Afterwards no child, zombie or
descriptor may be left, and no thread but the spawner threads. When the parent is killed, its
children must die. That is checked for a parent that is quiet, and for others while they start
children.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from conftest import PR_SET_CHILD_SUBREAPER, descendants, end, reap
from harness import DEADLINE, Process

import pdeathsig

SPAWNERS, FORKERS, KILLED_WHILE_BUSY = 8, 2, 10
PIPELINE = ["sh", "-c", "sleep 1000 | sleep 1000"]
HANGS_AFTER = 60

done: Counter[str] = Counter()
errors: list[str] = []


def nothing() -> None:
    pass


def variety(rng: random.Random) -> dict[str, Any]:
    options: dict[str, Any] = {
        "cwd": "/",
        "env": {"PATH": os.environ["PATH"], "NUMBERS": "1" * rng.randrange(2000)},
        "close_fds": False,
        "start_new_session": True,
        "umask": 0o77,
        "pipesize": 4096,
        "scope": "group",
        "pdeathsig": signal.SIGTERM,
        "preexec_fn": nothing,
    }
    chosen = {name: value for name, value in options.items() if rng.random() < 0.2}
    if "scope" in chosen:
        chosen.pop("pdeathsig", None)
    return chosen


def finish(rng: random.Random, options: dict[str, Any]) -> None:
    code = rng.randrange(100)
    assert pdeathsig.call(["sh", "-c", f"exit {code}"], **options) == code


def kill(rng: random.Random, options: dict[str, Any]) -> None:
    child = pdeathsig.Popen(["sleep", "1000"], **options)
    sig = rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
    child.send_signal(sig)
    assert child.wait(DEADLINE) == -sig


def communicate(rng: random.Random, options: dict[str, Any]) -> None:
    text = rng.randbytes(rng.randrange(10_000))
    child = pdeathsig.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)
    assert child.communicate(text, DEADLINE)[0] == text
    assert child.returncode == 0


def pass_a_descriptor(rng: random.Random, options: dict[str, Any]) -> None:
    options.pop("close_fds", None)
    reader, writer = os.pipe()
    child = pdeathsig.Popen(["sh", "-c", f"echo $$ >/proc/self/fd/{writer}"], pass_fds=[writer], **options)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert int(pipe.read()) == child.pid
    assert child.wait(DEADLINE) == 0


def list_descriptors(rng: random.Random, options: dict[str, Any]) -> None:
    options = {name: value for name, value in options.items() if name not in ("close_fds", "scope", "preexec_fn")}
    assert pdeathsig.check_output(["ls", "/proc/self/fd"], **options).split() == [b"0", b"1", b"2", b"3"]


def fail(rng: random.Random, options: dict[str, Any]) -> None:
    error: type[Exception]
    argument, error = rng.choice(
        [("/nowhere", FileNotFoundError), ("/etc/passwd", PermissionError), ("\0", ValueError)]
    )
    if rng.random() < 0.3:
        argument, error, options["cwd"] = "true", FileNotFoundError, "/nowhere"
    try:
        pdeathsig.Popen([argument], **options)
    except error:
        return
    raise AssertionError(f"{argument}: no {error.__name__}")


def time_out(rng: random.Random, options: dict[str, Any]) -> None:
    try:
        pdeathsig.run(["sleep", "1000"], timeout=rng.random() / 100, **options)
    except subprocess.TimeoutExpired:
        return
    raise AssertionError("no TimeoutExpired")


def end_a_group(rng: random.Random, options: dict[str, Any]) -> None:
    shell = pdeathsig.Popen(PIPELINE, **{**options, "scope": "group", "pdeathsig": signal.SIGKILL})
    os.killpg(shell.pid, signal.SIGKILL)
    assert shell.wait(DEADLINE) == -signal.SIGKILL


def have_many(rng: random.Random, options: dict[str, Any]) -> None:
    children = [pdeathsig.Popen(["sleep", "1000"], **variety(rng)) for _ in range(20)]
    for child in children:
        child.kill()
        assert child.wait(DEADLINE) == -signal.SIGKILL


def leave_bound(rng: random.Random, options: dict[str, Any]) -> None:
    """Leave children behind in a process that then ends; they have to die."""
    pdeathsig.Popen(["sleep", "1000"], **options).returncode = 0
    pdeathsig.Popen(PIPELINE, scope="group").returncode = 0


def do_nothing(rng: random.Random, options: dict[str, Any]) -> None:
    pass


Act = Callable[[random.Random, dict[str, Any]], None]
ACTS: list[Act] = [
    finish,
    kill,
    communicate,
    pass_a_descriptor,
    list_descriptors,
    fail,
    time_out,
    end_a_group,
    have_many,
]


def spawner(rng: random.Random) -> None:
    act = rng.choice(ACTS)
    act(rng, variety(rng))
    done[act.__name__] += 1


def forker(rng: random.Random) -> None:
    act = rng.choice([do_nothing, do_nothing, leave_bound, *ACTS])
    options = variety(rng)
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(HANGS_AFTER // 2)
            act(rng, options)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    assert status == 0, f"{act.__name__} after os.fork: {status:#x}"
    done["fork"] += 1


def repeat(act: Callable[[random.Random], None], seed: str, until: float) -> None:
    rng = random.Random(seed)
    try:
        while time.monotonic() < until and not errors:
            act(rng)
    except BaseException:
        errors.append(traceback.format_exc())


def run_threads(seconds: float, seed: int) -> None:
    until = time.monotonic() + seconds
    acts = [spawner] * SPAWNERS + [forker] * FORKERS
    threads = [threading.Thread(target=repeat, args=(act, f"{seed} {i}", until)) for i, act in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def descriptors() -> dict[str, str]:
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the descriptor of the listing itself
            found[entry] = os.readlink(f"/proc/self/fd/{entry}")
    return found


def threads() -> Counter[str]:
    """How many threads have each name."""
    found: Counter[str] = Counter()
    for entry in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            found[entry.joinpath("comm").read_text().strip()] += 1
    return found


def be_parent(seconds: float, seed: int) -> None:
    """Run in the parent: start and end children, check what is left, start some more, and stay."""
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.alarm(int(seconds) + HANGS_AFTER)
    end_a_group(random.Random(), {})  # creates the lifeline, which stays open
    before, others = descriptors(), threads()
    print("begun", flush=True)
    run_threads(seconds, seed)
    print(*errors, sep="\n", file=sys.stderr, end="")
    assert not errors
    try:
        raise AssertionError(f"a child is left: {os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)}")
    except ChildProcessError:
        pass
    assert descriptors() == before, f"{before} became {descriptors()}"
    until = time.monotonic() + DEADLINE
    while threads() - Counter(pdeathsig=SPAWNERS + FORKERS) != others:  # a joined thread may not have ended yet
        assert time.monotonic() < until, f"{others} became {threads()}"
        os.sched_yield()
    print(f"{dict(done)}, {threads()['pdeathsig']} spawner threads", flush=True)
    alive = []
    starting = [
        threading.Thread(target=lambda: alive.append(pdeathsig.Popen(PIPELINE, scope="group"))),
        threading.Thread(target=lambda: alive.append(pdeathsig.Popen(["sleep", "1000"]))),
        threading.Thread(target=lambda: alive.append(pdeathsig.Popen(["sleep", "1000"], preexec_fn=nothing))),
    ]
    for thread in starting:
        thread.start()
        thread.join()
    alive += [pdeathsig.Popen(["sleep", "1000"]), pdeathsig.Popen(PIPELINE, scope="group")]
    print("quiet", flush=True)
    signal.pause()


def kill_and_see(parent: subprocess.Popen[str]) -> int:
    """Kill the parent, and check that all below it dies. Return how many processes that were."""
    below = descendants(parent.pid)
    parent.kill()
    parent.wait()
    outlived = {}
    until = time.monotonic() + DEADLINE
    while left := descendants(os.getpid()):
        for pid, command in left.items():
            with suppress(ProcessLookupError):
                process = Process(pid)
                if not process.dies(within=max(0.0, until - time.monotonic())):
                    outlived[pid] = command
                    end(pid)
                process.close()
    assert not outlived, f"outlived their parent: {outlived}"
    reap()
    return len(below)


def start(seconds: float, seed: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PDEATHSIG_QUIET": "1"}
    command = [sys.executable, __file__, "parent", str(seconds), str(seed)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "begun\n"
    return parent


def main(seconds: float = 30, seed: int | None = None) -> None:
    seed = random.randrange(1_000_000) if seed is None else seed
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    print(f"seed {seed}", flush=True)
    parent = start(seconds, seed)
    assert parent.stdout is not None
    print(parent.stdout.readline(), end="")
    if parent.stdout.readline() != "quiet\n":
        sys.exit("failed")
    print(f"killed when quiet: {kill_and_see(parent)} processes below it died")
    rng = random.Random(seed)
    for i in range(KILLED_WHILE_BUSY):
        parent = start(HANGS_AFTER, seed + i)
        Process(parent.pid).dies(within=rng.random())
        print(f"killed while it starts children: {kill_and_see(parent)} processes below it died")


if __name__ == "__main__":
    if sys.argv[1:2] == ["parent"]:
        be_parent(float(sys.argv[2]), int(sys.argv[3]))
    else:
        main(*(float(sys.argv[1]),) if sys.argv[1:] else (), *(int(argument) for argument in sys.argv[2:]))
