"""What a stranger's code would try from inside a worker, as system calls; each is made and its answer told."""

import ctypes
import errno
import os
import signal
import socket
from collections.abc import Callable

from compute.worker.lock.kernel import ARCHITECTURE, system_call

_PATH = ctypes.c_char_p(b"/etc/passwd")
# Should the lock not hold, nothing is lost by these: the one to delete is not there, the others are not changed.
OPENED = ("/etc", "/", "/proc", "/proc/1/cmdline", "/tmp", "/dev/shm", "/etc/hosts")
"""Anyone may read each of these."""
_NOT_THERE = ctypes.c_char_p(b"/nothing-of-this-name/file")
_AT_FDCWD = -100
_O_CREAT_WRONLY = os.O_CREAT | os.O_WRONLY
# x86_64, aarch64
_NUMBERS = {
    "openat": (257, 56),
    "openat2": (437, 437),
    "newfstatat": (262, 79),
    "unlinkat": (263, 35),
    "mkdirat": (258, 34),
    "getdents64": (217, 61),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "bind": (49, 200),
    "sendto": (44, 206),
    "kill": (62, 129),
    "tgkill": (234, 131),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "execve": (59, 221),
    "execveat": (322, 281),
    "clone": (56, 220),
    "clone3": (435, 435),
    "io_uring_setup": (425, 425),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "mount": (165, 40),
    "unshare": (272, 97),
    "setns": (308, 268),
    "perf_event_open": (298, 241),
    "memfd_create": (319, 279),
    "shmget": (29, 194),
    "prlimit64": (302, 261),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "prctl": (157, 167),
    "ftruncate": (77, 46),
    "landlock_create_ruleset": (444, 444),
    "seccomp": (317, 277),
    "setresuid": (117, 147),
    "personality": (135, 92),
}
_COLUMN = {"x86_64": 0, "aarch64": 1}[ARCHITECTURE]


def _call(name: str, *arguments: int | ctypes.c_void_p | None) -> Callable[[], object]:
    return lambda: system_call(_NUMBERS[name][_COLUMN], *arguments)


def _openings() -> dict[str, Callable[[], object]]:
    return {
        name: _call(
            "openat", _AT_FDCWD, ctypes.cast(ctypes.create_string_buffer(name.encode()), ctypes.c_void_p), 0
        )
        for name in OPENED
    }


def attempts(parent: int) -> dict[str, Callable[[], object]]:
    """By name. None may succeed; `parent` is the fork server's number."""
    room = ctypes.cast(ctypes.create_string_buffer(4096), ctypes.c_void_p)
    path = ctypes.cast(_PATH, ctypes.c_void_p)
    return _openings() | {
        "read a file": _call("openat", _AT_FDCWD, path, 0),
        "read a file by openat2": _call("openat2", _AT_FDCWD, path, room, 24),
        "make a file": _call("openat", _AT_FDCWD, path, _O_CREAT_WRONLY, 0o600),
        "look at a file": _call("newfstatat", _AT_FDCWD, path, room, 0),
        "delete a file": _call("unlinkat", _AT_FDCWD, ctypes.cast(_NOT_THERE, ctypes.c_void_p), 0),
        "make a folder": _call("mkdirat", _AT_FDCWD, path, 0o700),
        "list a folder": _call("getdents64", 0, room, 4096),
        "an IPv4 socket": _call("socket", socket.AF_INET, socket.SOCK_STREAM, 0),
        "an IPv6 socket": _call("socket", socket.AF_INET6, socket.SOCK_DGRAM, 0),
        "a unix socket": _call("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0),
        "a netlink socket": _call("socket", socket.AF_NETLINK, socket.SOCK_RAW, 0),
        "a pair of sockets": _call("socketpair", socket.AF_UNIX, socket.SOCK_STREAM, 0, room),
        "connect": _call("connect", 3, room, 16),
        "bind": _call("bind", 3, room, 16),
        "send to an address": _call("sendto", 3, room, 1, 0, room, 16),
        "kill the parent": _call("kill", parent, 0),
        "kill everyone": _call("kill", -1, 0),
        "kill the parent's thread": _call("tgkill", parent, parent, signal.SIGTERM),
        "hold the parent": _call("pidfd_open", parent, 0),
        "kill by descriptor": _call("pidfd_send_signal", 3, signal.SIGTERM, 0, 0),
        "trace the parent": _call("ptrace", 16, parent, 0, 0),
        "read the parent's memory": _call("process_vm_readv", parent, room, 1, room, 1, 0),
        "write the parent's memory": _call("process_vm_writev", parent, room, 1, room, 1, 0),
        "run a program": _call("execve", path, room, room),
        "run a program by descriptor": _call("execveat", 3, path, room, room, 0),
        "fork": os.fork,
        "a process that shares memory": _call("clone", 0x4100 | signal.SIGCHLD, 0, 0, 0, 0),
        "a thread in a new namespace": _call("clone", 0x3D0F00 | 0x1000_0000, 0, 0, 0, 0),
        "clone3": _call("clone3", room, 88),
        "io_uring": _call("io_uring_setup", 8, room),
        "bpf": _call("bpf", 0, room, 128),
        "userfaultfd": _call("userfaultfd", 1),
        "keys": _call("keyctl", 0, -3, 0),
        "mount": _call("mount", path, path, path, 0, 0),
        "a namespace": _call("unshare", 0x1000_0000),
        "another's namespace": _call("setns", 3, 0),
        "performance counters": _call("perf_event_open", room, 0, -1, -1, 0),
        "memory of its own to pass on": _call("memfd_create", path, 0),
        "System V memory": _call("shmget", 0, 4096, 0o1600),
        "the parent's limits": _call("prlimit64", parent, 7, None, room),
        "higher limits": _call("prlimit64", 0, 7, room, None),
        "another seal": _call("fcntl", 3, 1033, 1),
        "signals on input": _call("fcntl", 3, 8, parent),
        "ioctl": _call("ioctl", 0, 0x5401, room),
        "dumpable again": _call("prctl", 4, 1, 0, 0, 0),
        "cut what is shared": _call("ftruncate", 4, 0),
        "another Landlock": _call("landlock_create_ruleset", None, 0, 1),
        "another filter": _call("seccomp", 2, 0, room),
        "root again": _call("setresuid", 0, 0, 0),
        "another personality": _call("personality", 0x0040000),
    }


def answers(parent: int) -> dict[str, str]:
    """What came of each attempt in this thread: the name of an errno, or `succeeded`."""
    told = {}
    for name, attempt in attempts(parent).items():
        try:
            attempt()
            told[name] = "succeeded"
        except OSError as exc:
            told[name] = errno.errorcode[exc.errno or 0]
    return told
