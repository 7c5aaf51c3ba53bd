"""Start processes and see how they end: by handshakes, pidfds and EOF, never by sleeping."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from actors import pidfd_open

TESTS = Path(__file__).parent
SLOWNESS = float(os.environ.get("TESTS_SLOWNESS", "1"))  # of this machine: an emulated processor
DEADLINE = 10.0 * SLOWNESS  # seconds; only a failing test waits that long


def send_signal(pidfd: int, sig: int) -> None:
    """``signal.pidfd_send_signal``, which PyPy has not."""
    if hasattr(signal, "pidfd_send_signal"):
        signal.pidfd_send_signal(pidfd, sig)
    elif ctypes.CDLL(None, use_errno=True).syscall(424, pidfd, sig, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Process:
    """A process known by its pidfd, opened while it was alive."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = pidfd_open(pid)

    def dies(self, within: float = DEADLINE) -> bool:
        """Whether it ends within so many seconds."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(within * 1000))

    def kill(self, sig: int = signal.SIGKILL) -> None:
        send_signal(self._fd, sig)

    def state(self) -> str:
        """The state letter of proc_pid_stat(5); X when it is gone."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return "X"

    def wait_for_state(self, letter: str) -> None:
        """Spin until the kernel shows that state; there is no event for it."""
        self._spin(lambda: self.state() == letter, f"state {letter}")

    def wait_for_command(self, name: str) -> None:
        """Spin until it has become that program.

        Its ``comm`` is a number if it was executed by descriptor (before Linux 6.14).
        """
        program = os.path.realpath(shutil.which(name) or name)  # sh is dash
        self._spin(lambda: os.readlink(f"/proc/{self.pid}/exe") == program, f"command {name}")

    def _spin(self, condition: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < until, f"process {self.pid}: no {what} within {DEADLINE} s"
            os.sched_yield()

    def alive(self) -> bool:
        return not self.dies(within=0)

    def close(self) -> None:
        os.close(self._fd)


class Tree:
    """An actor, all that it starts, and the pipe that they all write to."""

    def __init__(self, command: list[str], **options: Any) -> None:
        self.events, channel = os.pipe()
        try:
            self.top = subprocess.Popen(
                command, cwd=TESTS, stdin=subprocess.PIPE, stdout=channel, stderr=subprocess.PIPE, **options
            )
        except BaseException:
            os.close(self.events)
            raise
        finally:
            os.close(channel)
        self._seen = b""
        self.processes: list[Process] = []

    def line(self, within: float = DEADLINE) -> str:
        """The next event; empty at EOF."""
        until = time.monotonic() + within
        while b"\n" not in self._seen:
            poll = select.poll()
            poll.register(self.events, select.POLLIN)
            if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
                raise TimeoutError(f"no event within {within} s; so far: {self._seen!r}; stderr: {self._stderr()!r}")
            chunk = os.read(self.events, 65536)
            if not chunk:
                return ""
            self._seen += chunk
        line, _, self._seen = self._seen.partition(b"\n")
        return line.decode()

    def event(self, name: str) -> str:
        """The next event, which must be ``name``; returns what follows it."""
        line = self.line()
        word, _, rest = line.partition(" ")
        assert word == name, f"expected {name!r}, got {line!r}; stderr: {self._stderr()!r}"
        return rest

    def process(self, name: str) -> Process:
        """Wait until the actor ``name`` says that it is here."""
        return self.adopt(self.event(name))

    def adopt(self, pid: str) -> Process:
        """A process of this tree, with the PID that an event told."""
        process = Process(int(pid))
        self.processes.append(process)
        return process

    def send(self, line: str = "") -> None:
        assert self.top.stdin is not None
        self.top.stdin.write(line.encode() + b"\n")
        self.top.stdin.flush()

    def kill(self, sig: int = signal.SIGKILL) -> None:
        """End the top process and reap it."""
        self.top.send_signal(sig)
        self.top.wait(DEADLINE)

    def all_gone(self, within: float = DEADLINE) -> bool:
        """Whether every process that holds the pipe ends within so many seconds."""
        try:
            while self.line(within):
                pass
        except TimeoutError:
            return False
        return True

    def stderr(self) -> str:
        """All that was written there. Waits until no process is left that could write."""
        assert self.top.stderr is not None
        return str(self.top.stderr.read(), "utf-8")

    def _stderr(self) -> bytes:
        assert self.top.stderr is not None
        os.set_blocking(self.top.stderr.fileno(), False)
        return self.top.stderr.read() or b""

    def close(self) -> None:
        """End what is left of what this test was told of; conftest finds and reports the rest."""
        if self.top.poll() is None:
            self.top.kill()
        self.top.wait()
        for process in self.processes:
            if process.alive():
                process.kill()
                process.dies()
            process.close()
        for file in (self.top.stdin, self.top.stderr):
            assert file is not None
            try:
                file.close()
            except BrokenPipeError:
                pass
        os.close(self.events)


@contextlib.contextmanager
def own_temporary_files() -> Iterator[Path]:
    """A directory for the temporary files of all that a test starts, removed in the end.

    A killed process cannot remove its own, such as a fork server's socket.
    """
    directory = Path(tempfile.mkdtemp(prefix="pdeathsig-"))
    directory.chmod(0o1777)  # others start processes too
    os.environ["TMPDIR"] = str(directory)
    tempfile.tempdir = None  # look again
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def environment(**changes: str | None) -> dict[str, str]:
    """Ours, without what would arm the actors by itself, with the actors importable."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PDEATHSIG", "PYTHON"))}
    clean["PYTHONPATH"] = str(TESTS)
    clean["PYTHONDONTWRITEBYTECODE"] = "1"
    return {k: v for k, v in {**clean, **changes}.items() if v is not None}


def actor(code: str, *args: str) -> list[str]:
    return [sys.executable, *args, "-c", f"from actors import *\n{code}"]


def run(code: str, *args: str, **changes: str | None) -> subprocess.CompletedProcess[str]:
    """Run plain Python code to its end."""
    return subprocess.run(
        [sys.executable, *args, "-c", code],
        cwd=TESTS,
        env=environment(**changes),
        capture_output=True,
        text=True,
        check=False,
    )


def line(process: subprocess.Popen[bytes]) -> str:
    """The next that it writes."""
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


def shm_manager(directory: Path) -> str:
    """Code that starts a manager of shared memory, named as torch's is.

    It writes a file when its client has gone.
    """
    program = shutil.copy("/bin/bash", directory / "torch_shm_manager")
    script = 'echo in use >"$0"; echo memory "$0"; read line; echo unlinked >"$0"'  # no fork: that would be no manager
    return f"""
theirs, ours = os.pipe()
subprocess.Popen([{str(program)!r}, '-c', {script!r}, {str(directory / "memory")!r}], stdin=theirs)
os.close(theirs)
"""


# Starts a process like a resource tracker in the middle of exec: it blocks SIGTERM and has no
# command line. It has given back the memory that holds that, and runs on the stack of another
# thread. When its parent is gone, it has its work to do.
WITHOUT_COMMAND_LINE = """
import threading, time
watched, held = os.pipe()
def work():
    os.close(held)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    begin = int(open('/proc/self/stat').read().rpartition(')')[2].split()[45]) & -4096
    stack = next(line for line in open('/proc/self/maps') if line.endswith('[stack]\\n'))
    end = int(stack.split()[0].split('-')[1], 16)
    libc.munmap(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin))
    say('nameless', os.getpid(), repr(open('/proc/self/cmdline').read()))
    os.read(watched, 1)
    time.sleep(0.3)
    say('done')
    os._exit(0)
def fork():
    if os.fork() == 0: work()
forking = threading.Thread(target=fork)
forking.start()
forking.join()
os.close(watched)
"""
