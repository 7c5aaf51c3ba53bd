"""One set-up in one way: start it, watch it live, kill its main process, count what stays, clean
up.

``python one.py ROW WAY SECONDS`` prints a JSON object. It is a subreaper with a /dev/shm of its
own, so that several can run at once.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import rows

PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWNS = 0x20000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
MARKS = (0.2, 1.0, 3.0)  # seconds after the kill
LAST = 6.5
GRACE = "0.5"  # seconds for processes that do not heed SIGTERM
COOKIE = "MATRIX_COOKIE"
SHM = Path("/dev/shm")

libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Result:
    row: str
    way: str
    error: str = ""
    processes: int = 0
    survivors: list[int] = field(default_factory=list)  # at each of MARKS
    names: dict[str, int] = field(default_factory=dict)  # of the survivors at 1 s
    shm: list[str] = field(default_factory=list)
    false_kills: list[str] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)  # ended by design while the main process lived
    gone: float = -1.0  # seconds after the kill; -1: not within LAST
    swept: int = 0  # how many had to be killed in the end
    seconds: float = 0.0


class Held:
    """A process, held by a pidfd."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.fd = os.pidfd_open(pid)
        self.command = command_of(pid)

    def alive(self) -> bool:
        command = command_of(self.pid)
        living = not select.select([self.fd], [], [], 0)[0]
        if living and command:  # an exec may have changed it
            self.command = command
        return living

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.fd, signal.SIGKILL)


class Watch:
    """The processes of one run: all below this one, and all with the cookie in the environment."""

    def __init__(self, cookie: str) -> None:
        self._cookie = f"{COOKIE}={cookie}".encode()
        self.held: dict[int, Held] = {}

    def look(self) -> list[Held]:
        """Those alive now. A pidfd tells a held process from a new one with the same PID."""
        reap()
        for pid in below(os.getpid()) | set(self._with_cookie()):
            if pid not in self.held or not self.held[pid].alive():
                self.hold(pid)
        return [held for held in self.held.values() if held.alive()]

    def hold(self, pid: int) -> bool:
        try:
            new = Held(pid)
        except ProcessLookupError:
            return False
        self.held[pid] = new
        return True

    def _with_cookie(self) -> Iterator[int]:
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != os.getpid():
                try:
                    environ = Path(f"/proc/{entry}/environ").read_bytes()
                except (OSError, ProcessLookupError):
                    continue
                if self._cookie in environ.split(b"\0"):
                    yield int(entry)

    def sweep(self, within: float = 10.0) -> int:
        """Kill all that is left, and what is started meanwhile. Return how many those were."""
        killed: set[int] = set()
        until = time.monotonic() + within
        while living := self.look():
            if time.monotonic() > until:
                raise RuntimeError(f"cannot be killed: {[held.command for held in living]}")
            for held in living:
                killed.add(held.fd)
                held.kill()
            select.select([living[0].fd], [], [], 0.5)
        reap()
        return len(killed)


def below(top: int) -> set[int]:
    """The PIDs of all descendants but zombies."""
    children = collections.defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                if fields[0] not in "ZX" or int(fields[17]) > 1:
                    children[int(fields[1])].append(int(entry))
    found: set[int] = set()
    todo = [top]
    while todo:
        new = children[todo.pop()]
        found.update(new)
        todo += new
    return found


def reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def command_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    return ""


def label(command: str) -> str:
    """A short name for the table."""
    for pattern, name in (
        (r"(?:multiprocessing|loky\.backend)\.(\w+) import (?:main|spawn_main)", r"\1"),
        (r"pdeathsig-run ", "guard"),
        (r"^\S*python\S* \S*/on_\w+\.py", "worker"),
        (r"^(?:\S*python\S*(?: -\w+)* )?(?:-m )?(?:\S*/)?([\w.:-]+)", r"\1"),
    ):
        if found := re.search(pattern, command):
            return found.expand(name)
    return command[:30] or "?"


def private_shm() -> bool:
    """Give this process and its children a /dev/shm to which no other process writes."""
    if libc.unshare(CLONE_NEWNS) != 0:
        return False
    made = libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None) == 0
    return made and bool(libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, None) == 0)


class Channel:
    """The FIFO through which the set-up reports what it started."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        path.chmod(0o666)
        os.mkfifo(f"{path}-back")
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._back = os.open(f"{path}-back", os.O_RDWR | os.O_CLOEXEC)
        self._seen = b""

    def answer(self) -> None:
        os.write(self._back, b".")

    def line(self, until: float, top: int) -> str | None:
        """The next line; None: too late. The process of the pidfd ``top`` must live until then."""
        while b"\n" not in self._seen:
            readable = select.select([self._fd, top], [], [], max(0.0, until - time.monotonic()))[0]
            if not readable:
                return None
            if self._fd not in readable:
                raise RuntimeError("it has ended")
            self._seen += os.read(self._fd, 65536)
        line, _, self._seen = self._seen.partition(b"\n")
        return line.decode().strip()


class Run:
    """The row's program, from its start to its end."""

    def __init__(self, row: rows.Row, way: str, directory: Path) -> None:
        self.row, self.way, self.directory = row, way, directory
        self.result = Result(row.id, way)
        cookie = uuid.uuid4().hex
        self.watch = Watch(cookie)
        self.channel = Channel(directory / "channel")
        self.shm_before = set(os.listdir(SHM))
        self.environment = self._environment(cookie)
        self.announced: dict[int, bool] = {}
        self.never_came = 0
        self.victim = 0  # the PID to kill, if it is not the main process's
        self.staying: set[int] = set()  # the processes that must live on then

    def _environment(self, cookie: str) -> dict[str, str]:
        mine = {k: v for k, v in os.environ.items() if not k.startswith(("PDEATHSIG", "PYTHON", "MATRIX", "MAKE"))}
        mine |= {COOKIE: cookie, rows.CHANNEL: str(self.directory / "channel")}
        mine |= {"PYTHONPATH": str(rows.HERE), "PYTHONDONTWRITEBYTECODE": "1"}
        mine |= {"HOME": str(self.directory), "TMPDIR": str(self.directory)}
        mine["PATH"] = f"{sysconfig.get_path('scripts')}:{mine.get('PATH', os.defpath)}"
        if self.way == "family":
            mine["PDEATHSIG"] = "KILL"
        return mine

    def start(self) -> None:
        argv = self.row.argv(self.directory)
        if self.way == "run":
            argv = [os.path.join(sysconfig.get_path("scripts"), "pdeathsig-run"), "--grace", GRACE, "--", *argv]
        with open(self.directory / "log", "wb") as log:
            self.top = subprocess.Popen(
                argv,
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            ).pid
        self.top_fd = os.pidfd_open(self.top)

    def await_ready(self) -> None:
        """Wait until all processes have reported."""
        until = time.monotonic() + self.row.limit
        is_ready = self.row.command
        while not is_ready or len(self.announced) < self.row.announced:
            line = self.channel.line(until, self.top_fd)
            if line is None:
                here = f"{len(self.announced)} of {self.row.announced}"
                if is_ready and not self.row.command:  # the set-up has started all
                    self.never_came = self.row.announced - len(self.announced)
                    return
                raise TimeoutError(f"not ready within {self.row.limit:.0f} s; {here} are there")
            word, _, number = line.partition(" ")
            if line == "ready":
                is_ready = True
            elif word == "kill":
                self.victim = int(number)
            elif line == "cluster":
                self.staying = {held.pid for held in self.watch.look()} - {self.victim}
                self.shm_before = set(os.listdir(SHM))
                self.channel.answer()
            else:
                self.announced[int(line)] = self.watch.hold(int(line))

    def main_process(self) -> int:
        """The PID of ``python app.py``: under the guard, the child of the guard's reaper."""
        pid = self.top
        for _ in range(2 if self.way == "run" else 0):
            # The kernel lists adopted orphans after the reaper's own child.
            pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        return pid

    def watch_life(self, seconds: float) -> None:
        """Watch for deaths: no process may die while the main process lives."""
        living = self.watch.look()
        self.result.processes = len(living)
        # A process that had no command line when first seen, and did not report, was exiting
        # already.
        ended = [
            held.command or "?"
            for held in self.watch.held.values()
            if held not in living and (held.command or held.pid in self.announced)
        ]
        ended += [f"announced, but gone: {pid}" for pid, seen in self.announced.items() if not seen]
        ended += ["never came up"] * self.never_came
        until = time.monotonic() + seconds
        while living and (left := until - time.monotonic()) > 0:
            readable = select.select([held.fd for held in living], [], [], left)[0]
            ended += [held.command for held in living if held.fd in readable and held.command]
            living = [held for held in living if held.fd not in readable]
        self._judge(ended)

    def _judge(self, ended: list[str]) -> None:
        by_design = re.compile(self.row.passing or "(?!)")
        self.result.passed += [command[:100] for command in ended if by_design.search(command)]
        self.result.false_kills += [command[:100] for command in ended if not by_design.search(command)]

    def kill(self) -> None:
        """Send SIGKILL to the main process, and count the survivors."""
        main = Held(self.victim or self.main_process())
        self.watch.look()
        main.kill()
        select.select([main.fd], [], [], 10)  # a large program takes a while to die
        killed = time.monotonic()
        for mark in MARKS:
            living = self._until(killed + mark)
            self.result.survivors.append(len(living))
            if mark == 1.0:
                self.result.names = dict(collections.Counter(label(held.command) for held in living))
        if living and self.way != "nothing":
            living = self._until(killed + LAST)
        if not living:
            self.result.gone = time.monotonic() - killed
        staying = [self.watch.held[pid] for pid in self.staying]
        self._judge([held.command for held in staying if not held.alive() and held.command])
        if not self.staying:
            self.result.shm = sorted(set(os.listdir(SHM)) - self.shm_before)

    def _until(self, mark: float) -> list[Held]:
        """The processes that are alive at that time. It returns early when none is left."""
        while living := [held for held in self.watch.look() if not self._is_cluster(held)]:
            left = mark - time.monotonic()
            if left <= 0:
                break
            select.select([held.fd for held in living], [], [], left)
        return living

    def _is_cluster(self, held: Held) -> bool:
        """Whether it is part of the cluster, or a replacement that the cluster started."""
        return bool(self.staying) and (
            held.pid in self.staying or re.search(self.row.passing or "(?!)", held.command) is not None
        )

    def log(self) -> str:
        text = (self.directory / "log").read_text(errors="replace") if (self.directory / "log").exists() else ""
        return "\n".join(text.splitlines()[-8:])


def measure(row: rows.Row, way: str, seconds: float) -> Result:
    """Measure one row in one way. Nothing of it is left when this returns."""
    begun = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="mx-", dir="/tmp"))  # short, because the path of a Unix socket must be
    directory.chmod(0o777)
    run = Run(row, way, directory)
    try:
        run.start()
        run.await_ready()
        run.watch_life(seconds)
        run.kill()
    except Exception as error:
        run.result.error = f"{type(error).__name__}: {error}\n{run.log()}"
    finally:
        run.result.swept = run.watch.sweep()
        if "MATRIX_KEEP" in os.environ:
            print(f"{row.id} {way}: {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    run.result.seconds = time.monotonic() - begun
    return run.result


def main() -> None:
    name, way, seconds = sys.argv[1:]
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    private_shm()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(json.dumps(asdict(measure(rows.load()[name], way, float(seconds)))))


if __name__ == "__main__":
    main()
