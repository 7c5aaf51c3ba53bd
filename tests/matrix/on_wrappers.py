"""Programs and MCP servers behind uvx, uv and npx: a wrapper stays between client and server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from rows import CHANNEL, SHELL, main, ready, row, started

UV = str(Path(sys.executable).parent / "uv")
UVX = [UV, "tool", "run", "--offline", "--python", sys.executable, "python"]
SERVER = [__file__, "serve"]
NODE = """#!/usr/bin/env node
const program = require("child_process").spawn("sleep", ["1000"]);
for (const pid of [process.pid, program.pid]) require("fs").appendFileSync(process.env.MATRIX_CHANNEL, `${pid}\\n`);
setInterval(() => {}, 1000);
"""


@row("uvx", 2, needs=("uv",))
def uvx() -> subprocess.Popen[bytes]:
    shell = f"echo $$ >$MATRIX_CHANNEL; {SHELL}"
    return subprocess.Popen([*UVX, "-c", f"import subprocess; subprocess.run({shell!r}, shell=True)"])


@row("uv run", 1, needs=("uv",))
def uv_run() -> subprocess.Popen[bytes]:
    return subprocess.Popen([UV, "run", "--offline", "--no-project", "--python", sys.executable, "sh", "-c", SHELL])


@row("npx, and node starts a program", 2, needs=("npx",), command=True)
def npx(directory: Path) -> list[str]:
    package = directory / "package"
    package.mkdir()
    (package / "package.json").write_text(json.dumps({"name": "server", "version": "1.0.0", "bin": "server.js"}))
    (package / "server.js").write_text(NODE)
    (package / "server.js").chmod(0o755)
    return [sys.executable, __file__, "npx_in", str(directory)]


def npx_in(directory: str) -> subprocess.Popen[bytes]:
    cache = f"{directory}/cache"
    argv = ["npx", "--yes", "--offline", "--cache", cache, "--package", f"{directory}/package", "server"]
    return subprocess.Popen(argv, env={**os.environ, "npm_config_update_notifier": "false"})


@row(
    "an MCP client (`stdio_client`) and its server behind uvx, busy in a tool that starts a program",
    2,
    needs=("mcp", "uv"),
)
async def mcp() -> None:
    import anyio
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client

    found_by = {"PYTHONPATH": f"{Path(__file__).parent}:{sysconfig.get_path('purelib')}", CHANNEL: os.environ[CHANNEL]}
    server = StdioServerParameters(command=UVX[0], args=[*UVX[1:], *SERVER], env=found_by)
    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        async with anyio.create_task_group() as group:
            group.start_soon(session.call_tool, "work", {})
            ready()
            await anyio.sleep_forever()


def serve() -> None:
    """Serve, but be busy: the server does not see the end of its standard input."""
    from mcp.server.mcpserver import MCPServer

    server: Any = MCPServer("busy")

    @server.tool()  # type: ignore[untyped-decorator]
    async def work() -> str:
        program = subprocess.Popen(["sleep", "1000"])
        started(os.getpid(), program.pid)
        program.wait()
        return "done"

    server.run()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    elif sys.argv[1] == "npx_in":
        kept = npx_in(sys.argv[2])
        ready()
        kept.wait()
    else:
        main()
