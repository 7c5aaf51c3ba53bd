"""What a type checker must say of the faces; tests/test_types.py lets mypy and pyright read it.

It is never run. A line with ``type: ignore`` must be an error: where it is none, the unused comment
is one.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from typing_extensions import assert_type

import pdeathsig

maybe = bool(input())
env = {"A": "b"}


def popen() -> None:
    assert_type(pdeathsig.Popen("a"), pdeathsig.Popen[bytes])
    assert_type(pdeathsig.Popen(["a"], text=True, scope="tree", grace=5), pdeathsig.Popen[str])
    assert_type(pdeathsig.Popen(["a"], universal_newlines=True, pdeathsig="TERM"), pdeathsig.Popen[str])
    assert_type(pdeathsig.Popen([b"a"], encoding="utf-8", pdeathsig=None), pdeathsig.Popen[str])
    assert_type(pdeathsig.Popen([Path("a")], errors="replace", env=env), pdeathsig.Popen[str])
    assert_type(pdeathsig.Popen(args="a", text=False, encoding=None, shell=True), pdeathsig.Popen[bytes])
    assert_type(pdeathsig.Popen("a", text=maybe), pdeathsig.Popen[Any])
    assert_type(pdeathsig.Popen(["a"], -1, None, subprocess.PIPE), pdeathsig.Popen[Any])
    with pdeathsig.Popen(["a"], text=True, stdout=subprocess.PIPE) as process:
        assert_type(process, pdeathsig.Popen[str])
        assert_type(process.communicate("input"), tuple[str, str])
        assert_type(process.command_pid, int)
        assert_type(process.guard_pid, int | None)
        pdeathsig.kill_tree(process)
        as_subprocess: subprocess.Popen[str] = process
        as_subprocess.wait(timeout=1.5)
    only_bytes: pdeathsig.Popen[bytes] = pdeathsig.Popen("a", text=True)  # type: ignore[assignment]
    only_bytes.communicate("text")  # type: ignore[arg-type]


def functions() -> None:
    assert_type(pdeathsig.run("a"), subprocess.CompletedProcess[bytes])
    assert_type(pdeathsig.run(["a"], text=True, input="b", check=True), subprocess.CompletedProcess[str])
    assert_type(pdeathsig.run(["a"], encoding="utf-8", timeout=3, grace=5).stdout, str)
    assert_type(pdeathsig.run(["a"], errors="strict", capture_output=True), subprocess.CompletedProcess[str])
    assert_type(pdeathsig.run(["a"], universal_newlines=True), subprocess.CompletedProcess[str])
    assert_type(pdeathsig.run(["a"], text=maybe, input=b"b"), subprocess.CompletedProcess[Any])
    assert_type(pdeathsig.run(["a"], 0, stdout=subprocess.PIPE), subprocess.CompletedProcess[Any])
    assert_type(pdeathsig.check_output("a", shell=True, scope="group"), bytes)
    assert_type(pdeathsig.check_output(["a"], text=True), str)
    assert_type(pdeathsig.check_output(["a"], encoding="utf-8", input="b"), str)
    assert_type(pdeathsig.check_output(["a"], text=maybe), Any)
    assert_type(pdeathsig.call(["a"], timeout=1, pdeathsig=None), int)
    assert_type(pdeathsig.check_call(["a"], text=True, cwd=Path("/")), int)
    pdeathsig.check_output(["a"], stdout=subprocess.PIPE)  # type: ignore[call-overload]
    pdeathsig.call(["a"], input="b")  # type: ignore[call-overload]


async def with_asyncio() -> None:
    process = await pdeathsig.create_subprocess_exec("a", Path("b"), stdout=subprocess.PIPE, scope="tree", grace=1)
    assert_type(process.command_pid, int)
    assert_type(process.guard_pid, int | None)
    assert_type(await process.communicate(b"input"), tuple[bytes, bytes])
    process = await pdeathsig.create_subprocess_shell("a", None, subprocess.PIPE, limit=9, scope="group")
    assert_type(process.pid, int)
    await pdeathsig.create_subprocess_exec("a", text=True)  # type: ignore[arg-type]
    await pdeathsig.create_subprocess_exec("a", shell=True)  # type: ignore[arg-type]
    await pdeathsig.create_subprocess_exec("a", graze=3)  # type: ignore[call-arg]
    await pdeathsig.create_subprocess_shell("a", scope="trree")  # type: ignore[arg-type]
    await pdeathsig.create_subprocess_shell(["a"])  # type: ignore[arg-type]


def mistakes() -> None:
    pdeathsig.Popen("a", tex=True)  # type: ignore[call-overload]
    pdeathsig.Popen("a", scope="trree")  # type: ignore[call-overload]
    pdeathsig.Popen("a", graze=3)  # type: ignore[call-overload]
    pdeathsig.Popen("a", grace="3")  # type: ignore[call-overload]
    pdeathsig.Popen("a", pdeathsig=1.5)  # type: ignore[call-overload]
    pdeathsig.Popen(3)  # type: ignore[call-overload]
    pdeathsig.run("a", tex=True)  # type: ignore[call-overload]
    pdeathsig.run("a", scope="trree")  # type: ignore[call-overload]
    pdeathsig.run("a", graze=3)  # type: ignore[call-overload]
    pdeathsig.run("a", grace="3")  # type: ignore[call-overload]
    pdeathsig.check_output("a", tex=True)  # type: ignore[call-overload]
    pdeathsig.check_output("a", scope="trree")  # type: ignore[call-overload]
    pdeathsig.check_call("a", graze=3)  # type: ignore[call-overload]
    pdeathsig.call("a", grace="3")  # type: ignore[call-overload]
    pdeathsig.install(scope="trree")  # type: ignore[arg-type]
    pdeathsig.install(graze=3)  # type: ignore[call-arg]
    pdeathsig.guarded(["a"], scope="trree")  # type: ignore[arg-type]
    pdeathsig.arm(grace="3")  # type: ignore[arg-type]
    pdeathsig.kill_tree(1, graze=3)  # type: ignore[call-arg]
