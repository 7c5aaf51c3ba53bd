"""Random trees of processes, random deaths in each, and a check that the promise was kept.

``PYTHONPATH=tests python tests/chaos/rounds.py [SECONDS [SEED [ROUNDS]]]``.

Round I depends on SEED + I alone. Each process has a connection of its own; the round sends one
command after the other. oracle.py says what each death must do. A pidfd shows that a process died.
A process that must live answers afterwards.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from chaos.oracle import EDGES, Fate, Guard, Node, born, fates, possible
from conftest import PR_SET_CHILD_SUBREAPER, descendants, end, reap
from harness import Process, environment, own_temporary_files

HERE = Path(__file__).parent
PATIENCE = 30.0  # seconds
NODES_MAX, DEATHS_MAX = 12, 3


class WrongError(Exception):
    """The promise was not kept, or a process did not carry out its command."""


class NodeProcess:
    """The process of a node of the model."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.process = Process(pid)
        self._channel = channel
        self._lines = channel.makefile("r")

    def ask(self, what: str, **arguments: Any) -> str:
        """Send a command and return the answer; empty: the process is gone."""
        try:
            self.tell(what, **arguments)
            return self._lines.readline().strip()
        except (TimeoutError, ConnectionError):
            return ""

    def tell(self, what: str, **arguments: Any) -> None:
        self._channel.sendall(json.dumps({"do": what, **arguments}).encode() + b"\n")

    def close(self) -> None:
        self._lines.close()
        self._channel.close()
        self.process.close()


class Round:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.steps: list[str] = []
        self.processes: dict[object, NodeProcess] = {}
        self.guards: dict[tuple[Guard, str], Process] = {}
        self.living: list[Node] = []
        self.dead: set[object] = set()
        self.count = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"\0pdeathsig-chaos-{os.getpid()}-{seed}")
        self._listener.listen()
        self._listener.settimeout(PATIENCE)
        self._root: subprocess.Popen[bytes] | None = None

    def grow(self) -> None:
        address = self._listener.getsockname()[1:].decode()
        command = [sys.executable, str(HERE / "node.py"), address, "root"]
        self._root = subprocess.Popen(command, env=environment(PDEATHSIG_QUIET="1"), start_new_session=True)
        root = Node("root", "", None)
        self._meet(root)
        for _ in range(self.rng.randrange(4, NODES_MAX)):
            self._step()

    def _meet(self, node: Node) -> None:
        channel, _ = self._listener.accept()
        channel.settimeout(PATIENCE)
        name, pid = json.loads(channel.makefile("r").readline())
        if name != node.name:
            raise WrongError(f"{name} is here, not {node.name}")
        self.processes[node] = NodeProcess(pid, channel)
        self.living.append(node)
        self.count += 1
        guard = node.guards[-1] if node.guards and node.guards[-1].command is node else None
        if guard is not None:
            reaper = parent_of(pid)
            self.guards[guard, "reaper"] = Process(reaper)
            self.guards[guard, "monitor"] = Process(parent_of(reaper))
            self.count += 2

    def _tell(self, node: Node, what: str, **arguments: Any) -> None:
        self.steps.append(f"{node.name}: {what} {arguments or ''}")
        answer = self.processes[node].ask(what, **arguments)
        if answer != "ok":
            raise WrongError(f"{node.name}, told to {what} {arguments}, says {answer!r}")

    def _step(self) -> None:
        running = [node for node in self.living if not (node.stopped or node.executed or node.edge.shell)]
        if not running:
            return
        node = self.rng.choice(running)
        kind = self.rng.choices(["spawn", "install", "setsid", "exec", "stop"], [20, 1, 1, 1, 2])[0]
        if kind == "spawn":
            self._spawn(node)
        elif kind == "install":
            node.installed = True
            self._tell(node, "install")
        elif kind == "setsid" and os.getpgid(self.processes[node].process.pid) != self.processes[node].process.pid:
            node.group = None
            self._tell(node, "setsid")
        elif kind == "exec" and node.kind and not any(other.parent is node for other in self.living):
            node.executed = True  # an exec ends many of a parent's children; this node has none
            self.processes[node].tell("become a shell")
            self.processes[node].process.wait_for_command("sh")
            self._tell(node, "answer")
        elif kind == "stop" and node.kind:
            self.steps.append(f"{node.name}: is stopped")
            self.processes[node].process.kill(signal.SIGSTOP)
            self.processes[node].process.wait_for_state("T")
            node.stopped = True

    def _spawn(self, parent: Node) -> None:
        stays = f"{parent.name}'s {self.rng.randrange(2)}"
        thread = self.rng.choices(["main", "short", stays], [3, 2, 2])[0]
        kind = self.rng.choice([kind for kind in EDGES if possible(kind, parent, thread)])
        if thread == stays and stays not in parent.threads:
            parent.threads.append(stays)
        node = born(f"n{len(self.processes)}", kind, parent, thread)
        self._tell(parent, "spawn", kind=kind, name=node.name, thread=thread)
        self._meet(node)

    def strike(self) -> None:
        """Cause one death, and check what follows."""
        victims: list[tuple[str, Any]] = [("node", node) for node in self.living if node.kind]
        victims += [("node", self.living[0])] if self.living and len(self.living) < 4 else []
        victims += [("guard", which) for which, process in self.guards.items() if process.alive()]
        running = [node for node in self.living if not (node.stopped or node.executed or node.edge.shell)]
        victims += [("thread", (node, thread)) for node in running for thread in node.threads]
        if not victims:
            return
        what, victim = self.rng.choice(victims)
        before = set(self.dead)
        if what == "node":
            assert isinstance(victim, Node)
            self._end(victim, victim in running)
        elif what == "guard":
            guard, which = victim
            self.steps.append(f"{guard.name}: its {which} process is killed")
            self.guards[guard, which].kill()
            self.dead.add(guard)
        else:
            node, thread = victim
            self._tell(node, "end thread", thread=thread)
            node.threads.remove(thread)
            self.dead.add((node, thread))
        self._check(before)

    def _end(self, node: Node, running: bool) -> None:
        how = self.rng.choice(["kill", "kill", "exit", "crash"]) if running else "kill"
        self.steps.append(f"{node.name}: {how}")
        if how == "kill":
            self.processes[node].process.kill()
        else:
            self.processes[node].tell(how)
        if not self.processes[node].process.dies(PATIENCE):
            raise WrongError(f"{node.name} does not {how}")
        self.dead.add(node)
        self.living.remove(node)

    def _check(self, before: set[object]) -> None:
        for node, fate in fates(self.living, self.dead, before, stopped=True).items():
            if fate is Fate.DIES and not self.processes[node].process.dies(PATIENCE):
                raise WrongError(f"{node} {fate.value}, and does not")
        for node in self.living:
            if node.stopped and self.processes[node].process.alive():
                self.processes[node].process.kill(signal.SIGCONT)
        after = fates(self.living, self.dead, before, stopped=False)
        for node, fate in after.items():
            if fate is Fate.DIES and not self.processes[node].process.dies(PATIENCE):
                raise WrongError(f"{node} {fate.value}, and does not")
        for _ in range(2):
            for node, fate in after.items():
                if fate is Fate.LIVES and self.processes[node].ask("answer") != "ok":
                    raise WrongError(
                        f"{node} {fate.value}, and does not answer; state {self.processes[node].process.state()}"
                    )
        for node in list(self.living):
            if after[node] is Fate.EITHER:  # killed, so that the model need not guess from here on
                self.processes[node].process.kill() if self.processes[node].process.alive() else None
                self.processes[node].process.dies(PATIENCE)
            if after[node] is not Fate.LIVES:
                self.living.remove(node)
                self.dead.add(node)
            node.stopped = False
        if any(fate is Fate.EITHER for fate in after.values()):
            self._check(before)

    def close(self) -> str | None:
        """End all processes. Return which did not end; None: all ended."""
        if self._root is not None and self._root.poll() is None:
            self._root.kill()
            self._root.wait()
        until = time.monotonic() + PATIENCE
        left = descendants(os.getpid())
        while left and time.monotonic() < until:
            for pid in left:
                end(pid)
            reap()
            left = descendants(os.getpid())
        for node_process in self.processes.values():
            node_process.close()
        for process in self.guards.values():
            process.close()
        self._listener.close()
        return f"not to be ended: {left}" if left else None


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def run_round(seed: int, total: Counter[str]) -> str | None:
    """Run one round. Return what was wrong; None: nothing."""
    one = Round(seed)
    wrong: str | None = None
    try:
        one.grow()
        for _ in range(one.rng.randrange(1, DEATHS_MAX + 1)):
            one.strike()
            total["deaths"] += 1
    except (WrongError, OSError, AssertionError, ValueError) as error:
        wrong = f"{type(error).__name__}: {error}"
    total["processes"] += one.count
    for node in one.processes:
        assert isinstance(node, Node)
        total[f"  {node.kind}"] += 1
    if wrong is not None:
        print(f"seed {seed}: {wrong}", *one.steps, *map(str, one.living), sep="\n    ")
    return one.close() or wrong


def main() -> None:
    seconds, seed, rounds = (int(text) if text else None for text in ([*sys.argv[1:], "", "", ""])[:3])
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    seed = random.SystemRandom().randrange(10**9) if seed is None else seed
    until = time.monotonic() + (60 if seconds is None else seconds)
    total: Counter[str] = Counter()
    bad = []
    first = seed
    with own_temporary_files():
        while total["rounds"] < (rounds or 10**9) and (rounds or time.monotonic() < until):
            if run_round(seed, total) is not None:
                bad.append(seed)
            total["rounds"] += 1
            seed += 1
    print(*(f"{kind} {count}" for kind, count in sorted(total.items()) if kind.startswith("  ")), sep="\n")
    counts = f"{total['rounds']} rounds, {total['processes']} processes, {total['deaths']} deaths"
    print(f"{counts}, seeds {first} to {seed - 1}")
    for one in bad:
        print(f"broken: make chaos SEED={one} ROUNDS=1")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
