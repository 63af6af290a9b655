"""Whose process it is, and what it has of the machine: user, capabilities, network, limits."""

import os
import resource
import signal
import struct
from collections.abc import Collection
from contextlib import suppress

from compute.worker.lock.kernel import (
    ARCHITECTURE,
    PR_SET_DUMPABLE,
    PR_SET_PDEATHSIG,
    prctl,
    system_call,
    unshare,
)

_CLONE_NEWNET = 0x4000_0000
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x2008_0522
_FIRST_OWN_ID = 2_000_000_000
"""User ids from here on belong to nobody; each process takes the one that its own number adds up to."""
_NOBODY = 65_534
_MAX_DESCRIPTORS = {False: 256, True: 4_096}
"""Without and with CUDA, whose driver opens one for each piece of a device."""
_RESERVED_BYTES = 4 << 30
_RESERVED_BYTES_PER_THREAD = 128 << 20
"""Address space that is reserved and not used: a thread has a stack and an arena of the allocator."""
MAX_THREADS = 4_096
"""Of a process with a user id of its own; else so many more than its user has when it is made."""


def die_with(parent: int) -> None:
    """Not to outlive `parent`, even while an operator holds every thread."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def go_first_without_memory() -> None:
    """Where the machine has no memory left, the kernel ends this process, or one made by it from now on, first."""
    # Where it may not be written, limits on memory hold all the same.
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123 # as below
        file.write("1000")


def close_all_but(kept: Collection[int]) -> None:
    """Descriptors that whoever started this process left open."""
    below = -1
    for fd in (*sorted(kept), resource.getrlimit(resource.RLIMIT_NOFILE)[0]):
        if below + 1 < fd:  # Python takes an empty range for one without an end
            os.closerange(below + 1, fd)
        below = fd


def limit_resources(*, cuda: bool) -> None:
    """No core dump, few descriptors; memory comes last, when what is there already can be counted."""
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, _MAX_DESCRIPTORS[cuda])
    prctl(PR_SET_DUMPABLE, 0)


def grow_no_file() -> None:
    """No byte in any file, nor in memory that is one: CUDA's driver makes such while it starts."""
    _limit(resource.RLIMIT_FSIZE, 0)


def limit_memory(more_bytes: int, threads: int) -> None:
    """Address space: what is taken now, what so many threads will only reserve, and `more_bytes`."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 # at once, not by way of a Path's checks
        pages = int(file.read().split()[0])
    reserved = _RESERVED_BYTES + threads * _RESERVED_BYTES_PER_THREAD
    _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + reserved + more_bytes)


def limit_threads() -> None:
    """Of this user's processes together, as the kernel counts: those that there are now, and MAX_THREADS more.

    Root is not bound by it, and what the user's other processes make later takes from the same number.
    """
    _limit(resource.RLIMIT_NPROC, _threads_of(os.getuid()) + MAX_THREADS)


def _threads_of(user: int) -> int:
    count = 0
    with os.scandir("/proc") as folders:
        for folder in folders:
            with suppress(OSError):  # it has just ended
                if folder.name.isdecimal() and folder.stat().st_uid == user:
                    # A folder for each thread, and it has two links more than folders.
                    count += os.stat(f"{folder.path}/task").st_nlink - 2  # noqa: PTH116
    return count


def leave_network() -> str | None:
    """Into an empty network of its own; else why not."""
    try:
        unshare(_CLONE_NEWNET)
    except OSError as exc:
        return f"unshare: {exc.strerror}"
    return None


def leave_user(parent: int) -> str | None:
    """To a user id that nothing else has, without groups; else why not. Capabilities are gone either way."""
    why = _change_user()
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    system_call(_CAPSET[ARCHITECTURE], header, struct.pack("=6I", *[0] * 6))
    # A change of user undoes both.
    prctl(PR_SET_DUMPABLE, 0)
    die_with(parent)
    return why


def _change_user() -> str | None:
    for own in (_FIRST_OWN_ID + os.getpid(), _NOBODY):
        try:
            os.setgroups([])
            os.setresgid(own, own, own)
            os.setresuid(own, own, own)
        except OSError as exc:
            why = f"setresuid: {exc.strerror}"
            continue
        _limit(resource.RLIMIT_NPROC, MAX_THREADS)
        return None
    return why


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))
