"""Landlock: what this thread, and every thread and process that it makes from now on, may open."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path

from compute.worker.lock.kernel import system_call

# The same on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_FOR_ABI = 1
_PATH_BENEATH = 1


class Access(IntFlag):
    """Of linux/landlock.h, LANDLOCK_ACCESS_FS_*. EXECUTE is of execve alone; a library is mapped by READ_FILE."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


READ = Access.READ_FILE | Access.READ_DIR
USE_DEVICE = Access.READ_FILE | Access.WRITE_FILE | Access.IOCTL_DEV
_OF_A_FILE = Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE | Access.IOCTL_DEV

_FILE_SYSTEM_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many kinds of access to files each ABI knows; later ones know no more."""
_NETWORK_FROM_ABI, _NETWORK = 4, 0b11  # bind and connect of TCP
_SCOPES_FROM_ABI, _SCOPES = 6, 0b11  # abstract unix sockets and signals that lead out


@dataclass(frozen=True, slots=True)
class Absent:
    """This kernel has no Landlock, or a container's profile keeps it away; `why` says which."""

    why: str


def abi() -> int | Absent:
    """The newest ABI of Landlock that the kernel has. Changes nothing."""
    try:
        return system_call(_CREATE_RULESET, None, 0, _ASK_FOR_ABI)
    except OSError as exc:
        return Absent(f"landlock_create_ruleset: {exc.strerror}")


def restrict(allowed: Mapping[Path, Access], version: int) -> None:
    """Everything that Landlock of this ABI governs is denied from now on, but what `allowed` names.

    Paths that are not there are left out. A second call can only take away. Raises OSError.
    """
    files = (1 << _FILE_SYSTEM_BITS[min(version, max(_FILE_SYSTEM_BITS))]) - 1
    network = _NETWORK if version >= _NETWORK_FROM_ABI else 0
    scopes = _SCOPES if version >= _SCOPES_FROM_ABI else 0
    attributes = b"".join(part.to_bytes(8, "little") for part in (files, network, scopes) if part)
    ruleset = system_call(_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for path, access in allowed.items():
            _allow(ruleset, path, access & files)
        system_call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, access: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rights = access if path.is_dir() else access & _OF_A_FILE
        system_call(_ADD_RULE, ruleset, _PATH_BENEATH, rights.to_bytes(8, "little") + fd.to_bytes(4, "little"), 0)
    finally:
        os.close(fd)
