"""The machine that figures are named with, and who may use which of its cores."""

import os
import platform
from collections.abc import Iterable
from pathlib import Path


def machine() -> str:
    """Such as `2 cores of AMD EPYC`."""
    return f"{len(os.sched_getaffinity(0))} cores of {_processor()}"


def pin(pid: int, cores: Iterable[int]) -> None:
    """Every thread of the process to these cores."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


def cpu_s(group: int) -> float:
    """CPU seconds that the processes of this process group took so far, those that they waited for included."""
    ticks = sum(sum(map(int, fields[11:15])) for fields in _stats() if int(fields[2]) == group)
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Memory that the process holds now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _stats() -> Iterable[list[str]]:
    """The fields of each process's `stat` that follow its name: state, parent, group, …"""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                yield (folder / "stat").read_text(encoding="utf-8").rpartition(") ")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue


def _processor() -> str:
    names = [
        line for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if "model name" in line
    ]
    return names[0].partition(":")[2].strip() if names else platform.machine()
