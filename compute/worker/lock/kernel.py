"""Calls of the kernel that Python has no name for."""

import ctypes
import os
import platform

_libc = ctypes.CDLL(None, use_errno=True)

ARCHITECTURE = platform.machine()
"""As the kernel names it: x86_64, aarch64."""

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_SET_NO_NEW_PRIVS = 38


def system_call(number: int, *arguments: int | ctypes.c_void_p | bytes | None) -> int:
    """What the call returns. Raises OSError."""
    result = int(_libc.syscall(ctypes.c_long(number), *map(_as_long, arguments)))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def prctl(option: int, value: int) -> None:
    """Raises OSError."""
    if _libc.prctl(ctypes.c_int(option), *map(_as_long, (value, 0, 0, 0))):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def name_this_process(name: str) -> None:
    """What `ps -o comm` shows of it; at most 15 bytes. Of the thread that calls: for a process its first one."""
    if _libc.prctl(ctypes.c_int(PR_SET_NAME), ctypes.c_char_p(name.encode())):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def unshare(flags: int) -> None:
    """Raises OSError."""
    if _libc.unshare(ctypes.c_int(flags)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _as_long(value: int | ctypes.c_void_p | bytes | None) -> object:
    # An int would be passed as 32 bits, and the kernel reads 64.
    return ctypes.c_long(value) if isinstance(value, int) else value
