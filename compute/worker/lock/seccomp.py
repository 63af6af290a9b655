"""Seccomp: the filter is put on every thread of this process at once, and nothing takes it off again."""

import ctypes
import errno

from compute.worker.lock.bpf import assemble, errno_of
from compute.worker.lock.calls import Profile, allowed, audit, errors
from compute.worker.lock.kernel import ARCHITECTURE, system_call

_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER, _GET_ACTION_AVAIL = 1, 2
_ON_ALL_THREADS = 1
_INSTRUCTION_BYTES = 8


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def absent() -> str | None:
    """Why this kernel cannot filter calls, if so. Changes nothing."""
    if audit() is None:
        return f"the system calls of {ARCHITECTURE} are not known here"
    try:
        action = errno_of(0).to_bytes(4, "little")
        system_call(_SECCOMP[ARCHITECTURE], _GET_ACTION_AVAIL, 0, action)
    except OSError as exc:
        return f"seccomp: {exc.strerror}"
    return None


def filter_calls(profile: Profile) -> None:
    """From now on only what `profile` allows; needs no_new_privs. Raises OSError."""
    architecture = audit()
    assert architecture is not None
    code = assemble(architecture, allowed(profile), errors(), errno_of(errno.EPERM))
    program = _Program(len(code) // _INSTRUCTION_BYTES, code)
    address = ctypes.c_void_p(ctypes.addressof(program))
    stray = system_call(_SECCOMP[ARCHITECTURE], _SET_MODE_FILTER, _ON_ALL_THREADS, address)
    if stray:  # a thread that has another filter: then none has ours
        raise OSError(errno.ESRCH, f"thread {stray} cannot have the filter")
