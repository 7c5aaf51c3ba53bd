"""How the C extension is compiled.

c_src/pdeathsig.h declares what Python can call. setup.py reads this file; do not run it by hand.
"""

import os
import re
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from glob import glob
from pathlib import Path
from typing import Any

_REQUIRES = re.search(r'^requires-python = ">=3\.(\d+)', Path("pyproject.toml").read_text("utf-8"), re.M)
assert _REQUIRES is not None
OLDEST = int(_REQUIRES[1])
ABI3 = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
EXTENSION = sys.platform == "linux" and os.environ.get("PDEATHSIG_NO_EXTENSION") != "1"
SOURCES = sorted({*glob("c_src/**/*.c", recursive=True)} - {*glob("c_src/guard/*.c")})
GUARD_SOURCES = sorted([*glob("c_src/guard/*.c"), *glob("c_src/proc/*.c")])
WERROR = os.environ.get("PDEATHSIG_WERROR") == "1"


def ffibuilder() -> Any:
    from cffi import FFI

    header = Path("c_src/pdeathsig.h").read_text("utf-8")
    ffi = FFI()
    ffi.cdef("".join(line for line in header.splitlines(True) if not line.startswith("#")))
    ffi.set_source(
        "pdeathsig._ffi",
        '#include "pdeathsig.h"',
        sources=SOURCES,
        depends=sorted(glob("c_src/**/*.h", recursive=True)),
        include_dirs=["c_src"],
        define_macros=[("_GNU_SOURCE", "1")] + [("Py_LIMITED_API", f"0x03{OLDEST:02x}0000")] * ABI3,
        extra_compile_args=["-std=c11", "-fvisibility=hidden", "-Wall", "-Wextra"] + ["-Werror"] * WERROR,
        libraries=["rt", "pthread"],  # before glibc 2.34, timers and threads are libraries of their own
        extra_link_args=["-Wl,--as-needed"],  # from then on they are not: two libraries less at start-up
        py_limited_api=ABI3,
    )
    return ffi


# Without libc and the additions of the distribution, the guard is a third as large as an empty
# program.
FREESTANDING = shlex.split(
    "-Os -DPDS_FREESTANDING -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables"
    " -fcf-protection=none -fno-pic -no-pie -static -nostdlib -Wl,--build-id=none"
    " -Wl,-z,noseparate-code -Wl,-z,norelro -s"
)


def build_guard(executable: str, version: str, run: Callable[[list[str]], Any] = subprocess.check_call) -> None:
    """Compile the executable behind `pdeathsig run` and scope="tree"."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC"))
    warnings = ["-Wall", "-Wextra"] + ["-Werror"] * WERROR
    named = [f'-DPDS_VERSION="{version}"', *GUARD_SOURCES, "-o", executable]
    command = [*compiler, "-std=c11", "-D_GNU_SOURCE", *warnings, *named]
    flags = shlex.split(os.environ.get("CFLAGS", ""))
    if any(flag.startswith("-fsanitize") for flag in flags):
        run([*command, *flags])
        return
    try:
        run([*command, *FREESTANDING])
    except Exception:  # of setuptools or subprocess: an architecture for which sys.h has no system call
        run([*command, "-Os"])
