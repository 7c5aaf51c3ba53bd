"""The programs that the processes of ``pdeathsig demo`` run.

When a process is ready, it writes "ready PID LABEL" to stdout, a pipe to the demo. Then it waits
for SIGUSR1, which tells it to go on. After a minute without one it ends by itself.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

from .._spawn.popen import Popen

_AUTO = "import pdeathsig.auto"


def command(program: str, *args: str, first: str = "pass") -> list[str]:
    """Return the command line of a Python that runs one of these programs, with our ``sys.path``.

    :param first: a statement that it runs before that.
    """
    path = f"import sys; sys.path[:] = {list(map(str, sys.path))!r}"
    return [sys.executable, "-c", f"{path}; {first}; from {__name__} import main; main()", program, *args]


def main() -> None:
    """Run the program that the command line names."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGUSR1])
    program, *args = sys.argv[1:]
    programs: dict[str, Callable[..., None]] = {"child": _child, "parent": _parent, "threads": _threads}
    try:
        programs[program](*args)
    except Exception as error:
        _report(f"failed {program}: {type(error).__name__}: {error}")
        sys.exit(1)


def _child(label: str) -> None:
    """Answer each SIGUSR1."""
    _report(f"ready {os.getpid()} {label}")
    while _wait_to_go_on():
        _report(f"answer {os.getpid()}")


def _parent(protection: str) -> None:
    """Start a child, and a shell that starts a grandchild."""
    auto = protection == "auto"
    child = command("child", f"child: {_AUTO}", first=_AUTO) if auto else command("child", "child")
    # With `exit`: a shell may replace itself with its last command.
    shell = ["sh", "-c", '"$@"; exit', "sh", *command("child", "grandchild")]
    children: list[subprocess.Popen[bytes]] = [
        subprocess.Popen(child),
        Popen(shell, scope="group") if auto else subprocess.Popen(shell),
    ]
    _report(f"ready {children[1].pid} shell: sh -c 'python ...; exit'")
    _report(f"ready {os.getpid()} parent")
    _wait_to_go_on()


def _threads() -> None:
    """Start two children on a thread, which ends when this process is told to go on."""
    libc = ctypes.CDLL(None)
    thread_may_end = threading.Event()
    children = []

    def start_children() -> None:
        _report(f"ready {threading.get_native_id()} thread")
        children.append(subprocess.Popen(command("child", f"our child: {_AUTO}", first=_AUTO)))
        recipe = command("child", "the recipe's child")
        children.append(subprocess.Popen(recipe, preexec_fn=lambda: libc.prctl(1, signal.SIGKILL)))  # noqa: PLW1509
        thread_may_end.wait()

    threading.Thread(target=start_children).start()
    _report(f"ready {os.getpid()} parent")
    _wait_to_go_on()
    thread_may_end.set()
    _wait_to_go_on()


def _wait_to_go_on() -> bool:
    return signal.sigtimedwait([signal.SIGUSR1], 60) is not None


def _report(line: str) -> None:
    os.write(1, f"{line}\n".encode())
