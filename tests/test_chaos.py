"""Random trees of processes, with random deaths, from fixed seeds; and the model that judges them.

`make chaos` tries any number of seeds.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
from chaos.oracle import Fate, Node, born, fate, fates
from harness import TESTS, environment

ROUNDS = 4

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("seed", [1, 5000])
def test_a_death_ends_the_processes_that_must_die_and_no_other(seed: int) -> None:
    done = subprocess.run(
        [sys.executable, TESTS / "chaos" / "rounds.py", "", str(seed), str(ROUNDS)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{ROUNDS} rounds, " in done.stdout


def test_a_broken_promise_is_seen() -> None:
    """The model says that every process must live, and one does not."""
    code = """
import sys
from chaos import oracle, rounds
oracle.fate = lambda *_: oracle.Fate.LIVES
sys.argv[1:] = ["", "3", "1"]
rounds.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=TESTS, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "must live, and does not answer" in done.stdout
    assert "broken: make chaos SEED=3 ROUNDS=1" in done.stdout


def test_the_model_says_what_the_table_in_readme_says() -> None:
    root = Node("root", "", None)
    bound, free, threads = born("a", "Popen", root, "short"), born("b", "subprocess", root, "main"), "t"
    tied, below = born("c", "fork, arm, thread", root, threads), born("d", "pdeathsig-run", root, "main")
    escaped, member = born("e", "fork twice", below, "main"), born("f", "family", root, "main")
    grandchild = born("g", "subprocess", member, "short")
    nodes = [bound, free, tied, below, escaped, member, grandchild]
    after = fates(nodes, {root}, set(), stopped=False)
    assert [node.name for node in nodes if after[node] is Fate.DIES] == ["a", "c", "d", "e", "f", "g"]
    assert after[free] is Fate.LIVES
    after = fates(nodes, {(root, threads)}, set(), stopped=False)
    assert [node.name for node in nodes if after[node] is Fate.DIES] == ["c"]
    member.stopped = True
    assert fates(nodes, {root}, set(), stopped=True)[member] is Fate.EITHER
    assert fate(escaped, {below.guards[0]}, set()) is Fate.DIES
