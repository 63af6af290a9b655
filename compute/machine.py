"""How much memory this machine has, or the container where that is less, and how much of it is free."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """In bytes. `available` could be had now, without swapping."""

    total: int
    available: int

    def within(self, other: "MachineMemory") -> "MachineMemory":
        return MachineMemory(min(self.total, other.total), min(self.available, other.available))


@dataclass(frozen=True, slots=True)
class _Names:
    """Of a control group's files."""

    limit: str
    usage: str
    reclaimable: str
    """The member of `memory.stat` that counts file pages which the kernel drops first."""


_MEMINFO = re.compile(r"(MemTotal|MemAvailable):\s+(\d+)", re.ASCII)
_V2 = _Names("memory.max", "memory.current", "inactive_file")
_V1 = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


_MOST_BYTES = 1 << 16
"""More than any of these files has."""


class Machine:
    """Read by calling it: what holds now, by the kernel's figures and those of each control group of this process."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._meminfo = str(root / "proc/meminfo")
        self._groups = tuple(_groups(root))

    def __call__(self) -> MachineMemory:
        kib = {name: int(value) for name, value in _MEMINFO.findall(_content(self._meminfo))}
        memory = MachineMemory(kib["MemTotal"] << 10, kib["MemAvailable"] << 10)
        for folder, names in self._groups:
            group = _of_group(folder, names, memory.total)
            if group is not None:
                memory = memory.within(group)
        return memory


def _groups(root: Path) -> Iterator[tuple[Path, _Names]]:
    """The folders of this process' memory groups, innermost first: a limit on an outer one binds as well."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            mount, names = root / "sys/fs/cgroup", _V2
        elif "memory" in controllers.split(","):
            mount, names = root / "sys/fs/cgroup/memory", _V1
        else:
            continue
        inner = mount / path.lstrip("/")
        # A container may be told the host's path of its group, where its own mount begins with that group.
        group = inner if inner.is_dir() else mount
        while group != mount:
            yield group, names
            group = group.parent
        yield mount, names


def _of_group(folder: Path, names: _Names, total: int) -> MachineMemory | None:
    """None where it sets no limit below the machine's memory."""
    try:
        limit = _content(f"{folder}/{names.limit}").strip()
        if not limit.isdecimal() or int(limit) >= total:
            return None
        used = int(_content(f"{folder}/{names.usage}"))
        stat = _content(f"{folder}/memory.stat").splitlines()
    except OSError:
        return None
    members = dict(line.split() for line in stat)
    free = int(limit) - used + int(members.get(names.reclaimable, 0))
    return MachineMemory(int(limit), max(free, 0))


def _content(path: str) -> str:
    """Of a file of the kernel's, in one call: it is read for each task, and Path adds a text file's layers."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, _MOST_BYTES).decode("ascii")
    finally:
        os.close(fd)
