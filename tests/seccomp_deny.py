"""Deny one system call to this process and all it starts, by a filter of seccomp(2)."""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
NUMBERS = {
    "x86_64": {
        "prctl": 157,
        "getsid": 124,
        "pidfd_open": 434,
        "close_range": 436,
        "timer_create": 222,
        "pidfd_getfd": 438,
        "faccessat": 269,
        "pidfd_send_signal": 424,
        "clone3": 435,
        "kcmp": 312,
    },
    "aarch64": {
        "prctl": 167,
        "getsid": 156,
        "pidfd_open": 434,
        "close_range": 436,
        "timer_create": 107,
        "pidfd_getfd": 438,
        "faccessat": 48,
        "pidfd_send_signal": 424,
        "clone3": 435,
        "kcmp": 272,
    },
}


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def possible() -> bool:
    return platform.machine() in NUMBERS


def deny(call: str, error: int = errno.EPERM) -> None:
    """From now on that system call fails with that errno."""
    load, jump_if_equal, answer = 0x20, 0x15, 0x06
    allow, fail = 0x7FFF0000, 0x00050000 | error
    code = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (load, 0, 0, 0),
            (jump_if_equal, 0, 1, NUMBERS[platform.machine()][call]),
            (answer, 0, 0, fail),
            (answer, 0, 0, allow),
        )
    )
    libc = ctypes.CDLL(None, use_errno=True)
    program = Program(len(code) // 8, code)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program)
    ):
        raise OSError(ctypes.get_errno(), "prctl")
