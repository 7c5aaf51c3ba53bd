"""What the processes of ``pdeathsig demo`` run.

They all write to one pipe, their stdout: a line per event. The Python ones end when their stdin does, so that nothing
stays for long even where the demo itself is killed.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pdeathsig


def command(*args: str) -> list[str]:
    """A Python that runs one of the actors below, and imports what this one imports."""
    code = f"import sys; sys.path[:] = {list(map(str, sys.path))!r}; from {__name__} import main; main()"
    return [sys.executable, "-c", code, *args]


def main() -> None:
    """Run the actor that the command line names."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    name, *args = sys.argv[1:]
    try:
        _ACTORS[name](*args)
    except Exception as error:
        _say("failed", f"{name}: {type(error).__name__}: {' '.join(str(error).split())}")
        sys.exit(1)


def _child(role: str, protection: str) -> None:
    """Answer each line on stdin."""
    if protection == "auto":
        import pdeathsig.auto  # noqa: F401
    _say(role, os.getpid())
    for _ in sys.stdin:
        _say("answer", os.getpid())


def _parent(protection: str, questions: str) -> None:
    """Start a child, and a shell that starts a sleep."""
    stdin = int(questions)
    script = "sleep 60 & echo sleep $!; wait"  # no shell replaces itself by what it does not wait for at once
    child = subprocess.Popen(command("child", "child", protection), stdin=stdin)
    if protection == "auto":
        shell: subprocess.Popen[bytes] = pdeathsig.Popen(["sh", "-c", script], stdin=stdin, scope="group")
    else:
        shell = subprocess.Popen(["sh", "-c", script], stdin=stdin)
    _wait_to_be_killed(child, shell, stdin)


def _family(questions: str) -> None:
    """Start a child, and a shell that starts a Python."""
    stdin = int(questions)
    script = '"$@"; exit'  # no shell replaces itself by what is not its last command
    child = subprocess.Popen(command("child", "child", "none"), stdin=stdin)
    shell = subprocess.Popen(["sh", "-c", script, "sh", *command("child", "grandchild", "none")], stdin=stdin)
    _wait_to_be_killed(child, shell, stdin)


def _wait_to_be_killed(child: "subprocess.Popen[bytes]", shell: "subprocess.Popen[bytes]", questions: int) -> None:
    signal.signal(signal.SIGCHLD, _ended_too_early)
    if child.poll() is not None or shell.poll() is not None:
        _ended_too_early()
    os.close(questions)
    _say("shell", shell.pid)
    _say("parent", os.getpid())
    sys.stdin.read()


def _threads(questions: str) -> None:
    """Start two children on a thread that ends at the first line on stdin."""
    libc = ctypes.CDLL(None)
    end = threading.Event()
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        started.append(subprocess.Popen(command("child", "ours", "auto"), stdin=int(questions)))
        recipe = subprocess.Popen(
            command("child", "recipe", "none"),
            stdin=subprocess.PIPE,
            preexec_fn=lambda: libc.prctl(1, signal.SIGKILL),  # noqa: PLW1509 - as found in the wild
        )
        started.append(recipe)
        _say("thread", threading.get_native_id())
        end.wait()

    signal.signal(signal.SIGCHLD, _ended_too_early)
    thread = threading.Thread(target=start)
    thread.start()
    _say("parent", os.getpid())
    sys.stdin.readline()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    end.set()
    thread.join()
    os.close(int(questions))
    _say("ended", started[1].wait())
    sys.stdin.read()


def _ended_too_early(*_: object) -> None:
    _say("failed", "a process has ended too early")


def _say(event: str, what: object) -> None:
    os.write(1, f"{event} {what}\n".encode())


_ACTORS: dict[str, Callable[..., None]] = {"child": _child, "parent": _parent, "family": _family, "threads": _threads}
