"""Which system calls a locked process may make, and with which arguments.

All others return EPERM and do nothing. They do not kill: C libraries try calls that a kernel may not have and go on
without, and what is denied is denied either way. A call by another architecture's table does kill, since no library
of ours makes one.
"""

import errno
import fcntl
import os
from collections.abc import Mapping
from enum import StrEnum

from compute.worker.lock.bpf import Argument, Audit, Rules
from compute.worker.lock.kernel import ARCHITECTURE, PR_SET_NAME

_PROT_EXEC = 0x4
_NEW_THREAD = 0x3D0F00
"""The flags with which the C library makes a thread: all that a thread shares, no namespace, no process."""


class Profile(StrEnum):
    PLANNER = "planner"
    """Infers shapes: no memory with code that was made here, no new thread."""
    CPU = "cpu"
    """Computes on the host. Vector libraries write code at run time, so memory may become executable."""
    CUDA = "cuda"
    """What the driver does beside: device nodes and the files that Landlock leaves, and ioctl."""


# Number on x86_64, on aarch64.
_EVERYWHERE = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "nanosleep": (35, 101),
    "getpid": (39, 172),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "exit": (60, 93),
    "gettimeofday": (96, 169),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "set_robust_list": (273, 99),
    "getcpu": (309, 168),
    "getrandom": (318, 278),
    "rseq": (334, 293),
}
_CHECKED = {
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "clone": (56, 220),
    "fcntl": (72, 25),
    "prctl": (157, 167),
    "tgkill": (234, 131),
    "prlimit64": (302, 261),
}
_CLONE3 = (435, 435)
# Read and asked for by a driver in user space. None opens a socket, starts a program or reaches a process.
_CUDA = {
    "poll": (7, None),
    "ioctl": (16, 29),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "access": (21, None),
    "pipe": (22, None),
    "mincore": (27, 232),
    "dup": (32, 23),
    "uname": (63, 160),
    "getcwd": (79, 17),
    "readlink": (89, None),
    "getuid": (102, 174),
    "getgid": (104, 176),
    "geteuid": (107, 175),
    "getppid": (110, 173),
    "sched_get_priority_max": (146, 125),
    "sched_get_priority_min": (147, 126),
    "mlock": (149, 228),
    "munlock": (150, 229),
    "sched_setaffinity": (203, 122),
    "getdents64": (217, 61),
    "epoll_wait": (232, None),
    "epoll_ctl": (233, 21),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "get_mempolicy": (239, 236),
    "openat": (257, 56),
    "newfstatat": (262, 79),
    "readlinkat": (267, 78),
    "faccessat": (269, 48),
    "ppoll": (271, 73),
    "epoll_pwait": (281, 22),
    "eventfd2": (290, 19),
    "epoll_create1": (291, 20),
    "pipe2": (293, 59),
    "membarrier": (324, 283),
    "statx": (332, 291),
}

_ARCHITECTURES: Mapping[str, tuple[int, Audit]] = {"x86_64": (0, Audit.X86_64), "aarch64": (1, Audit.AARCH64)}


def audit() -> Audit | None:
    """None: calls of this architecture are not known here."""
    known = _ARCHITECTURES.get(ARCHITECTURE)
    return known[1] if known else None


def allowed(profile: Profile) -> Rules:
    """By number on this architecture."""
    column = _ARCHITECTURES[ARCHITECTURE][0]
    unchecked = _EVERYWHERE | (_CUDA if profile is Profile.CUDA else {})
    rules: dict[int, tuple[Argument, ...]] = {}
    for numbers in unchecked.values():
        if (number := numbers[column]) is not None:
            rules[number] = ()
    checks = _checks(profile)
    for name, pair in _CHECKED.items():
        if name in checks:
            rules[pair[column]] = checks[name]
    return rules


def _checks(profile: Profile) -> dict[str, tuple[Argument, ...]]:
    # Device nodes are opened as long as it runs, and each is kept from programs that are run; none can be.
    marks = (fcntl.F_SETFD,) if profile is Profile.CUDA else ()
    not_executable = (Argument(2, (0,), mask=_PROT_EXEC),) if profile is Profile.PLANNER else ()
    checks: dict[str, tuple[Argument, ...]] = {
        "mmap": not_executable,
        "mprotect": not_executable,
        # No sealing, no signals on input, no locks: what mapping a descriptor takes, and reading its flags.
        "fcntl": (Argument(1, (fcntl.F_DUPFD_CLOEXEC, fcntl.F_GETFD, fcntl.F_GETFL, *marks)),),
        "prctl": (Argument(0, (PR_SET_NAME,)),),
        # abort() must end this process, and no other.
        "tgkill": (Argument(0, (os.getpid(),)),),
        # Its own limits, to read: that is how the C library finds the size of a stack.
        "prlimit64": (Argument(0, (0,)), Argument(2, (0,), wide=True)),
    }
    if profile is not Profile.PLANNER:
        # OpenMP makes its threads anew where a region wants another number of them.
        checks["clone"] = (Argument(0, (_NEW_THREAD,), wide=True),)
    return checks


def errors() -> Mapping[int, int]:
    """Calls that a C library must believe to be absent: clone3's flags lie in memory, where no filter can look."""
    return {_CLONE3[_ARCHITECTURES[ARCHITECTURE][0]]: errno.ENOSYS}
