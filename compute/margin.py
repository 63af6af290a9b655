"""How much more memory computing takes than was planned, as this node has seen it."""

import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from shared.errors import ComputationFailed, OutOfMemory

WORTH_MEASURING_BYTES = 64 << 20
"""Below it, what a process takes for itself is more than what a run takes."""
REMEMBERED_RUNS = 32
MOST = 4.0
"""No single run may make the node look full to all that follow."""

_RESIDENT = re.compile(r"^Vm(HWM|RSS):\s+(\d+) kB$", re.MULTILINE | re.ASCII)
_OOM_KILLS = re.compile(r"^oom_kill (\d+)$", re.MULTILINE | re.ASCII)


@dataclass(frozen=True, slots=True)
class _Before:
    """What was known before a run: its worker, that one's resident bytes, processes the kernel had ended so far."""

    pid: int | None
    resident: int
    peak: int
    oom_kills: int


class Margin:
    """Learned by node, not by task: the worst ratio of the last runs that were measured, from 1 to MOST."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._ratios: deque[float] = deque([1.0], REMEMBERED_RUNS)
        self._under_way = 0
        self._begun = 0

    @property
    def factor(self) -> float:
        return min(max(1.0, *self._ratios), MOST)

    @contextmanager
    def measured(self, worker: Callable[[], int | None], planned_bytes: int) -> Iterator[None]:
        """Around one run, for which so many bytes were promised; `worker` gives the number of its process.

        What fails for want of memory says so with its numbers, also where the kernel ended the worker for it.
        """
        self._begun += 1
        number, is_alone = self._begun, self._under_way == 0
        before = self._look(worker()) if planned_bytes >= WORTH_MEASURING_BYTES else None
        self._under_way += 1
        try:
            yield
        except OutOfMemory as exc:
            raise OutOfMemory(f"{exc}; {_planned(planned_bytes)}") from exc
        except ComputationFailed as exc:
            if before is None or self._look(None).oom_kills == before.oom_kills:
                raise
            raise OutOfMemory(f"{exc}; the kernel found no memory meanwhile; {_planned(planned_bytes)}") from exc
        finally:
            self._under_way -= 1
        # Whose peak it was is known only of a run that had the process to itself.
        if before is not None and is_alone and number == self._begun and worker() == before.pid:
            self._learn(before, self._look(before.pid), planned_bytes)

    def _learn(self, before: _Before, after: _Before, planned_bytes: int) -> None:
        # A peak that is not a new one may be an earlier run's.
        if after.peak > before.peak > 0:
            self._ratios.append((after.peak - before.resident) / planned_bytes)

    def _look(self, pid: int | None) -> _Before:
        members = {name: int(kib) << 10 for name, kib in _RESIDENT.findall(self._read(f"{pid}/status"))}
        kills = _OOM_KILLS.search(self._read("vmstat"))
        return _Before(pid, members.get("RSS", 0), members.get("HWM", 0), int(kills[1]) if kills else 0)

    def _read(self, name: str) -> str:
        try:
            return (self._proc / name).read_text(encoding="utf-8", errors="replace")
        except OSError:  # no such process
            return ""


def _planned(size: int) -> str:
    return f"{size} bytes were planned for this task"
