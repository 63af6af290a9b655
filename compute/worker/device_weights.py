"""Weights that stay on the device between tasks, each in the worker of one tenant, the least recently used first to go.

A copy is known by the buffer of `compute/weights/` that it was made from: what is no longer held there is asked for by
nobody. It counts from the moment that a worker is asked to keep it, and until that worker has answered that it is
dropped, or has ended, whatever came of the runs between.
"""

import asyncio
import itertools
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from compute.shared_memory import SharedBuffer
from compute.worker.answers import Answer
from compute.worker.process import WorkerProcess

BEYOND_THE_PLAN = 1.1
"""Torch's allocator takes memory in blocks, larger than what is asked for."""

DROPPED_AT_ONCE = 1_000
"""Numbers in one packet to a worker, whose length is limited."""

Key = tuple[WorkerProcess, SharedBuffer]


def in_blocks(size: int) -> int:
    """What tensors of so many bytes take of the device."""
    return ceil(size * BEYOND_THE_PLAN)


@dataclass(slots=True)
class _Copy:
    number: int
    """By which its worker knows it."""
    users: int = 0


class DeviceWeights:
    """Counts and chooses; what one worker keeps takes at most half of the budget."""

    def __init__(self, came_back: Callable[[bool], None]) -> None:
        """`came_back` is called when memory was given back; its argument says whether a worker's end is the reason."""
        self._came_back = came_back
        self._numbers = itertools.count()
        self._copies: OrderedDict[Key, _Copy] = OrderedDict()
        self._going: dict[asyncio.Future[Answer], int] = {}

    @property
    def held_bytes(self) -> int:
        """All that lies on the device, or may."""
        return _bytes(self._copies) + sum(self._going.values())

    def __str__(self) -> str:
        living = [key for key in self._copies if key[0].alive]
        return f"{len(living)} kept, {_bytes(living) >> 20} MiB"

    def keepable(self, weights: Sequence[Key], budget_bytes: int) -> list[Key]:
        """Those of one task's `weights` that its worker has, and more as far as the budget goes for what is in use."""
        wanted = dict.fromkeys(weights)
        chosen = [key for key in wanted if key in self._copies]
        taken = [key for key, copy in self._copies.items() if copy.users or key in chosen]
        for key in wanted:
            own = [other for other in taken if other[0] is key[0]]
            room = min(budget_bytes - _bytes(taken), budget_bytes // 2 - _bytes(own))
            if key not in chosen and _bytes([key]) <= room:
                chosen.append(key)
                taken.append(key)
        return chosen

    def beside(self, keys: Collection[Key]) -> int:
        """Bytes of all others."""
        return self.held_bytes - _bytes(key for key in keys if key in self._copies)

    def use(self, keys: Sequence[Key], budget_bytes: int) -> dict[SharedBuffer, int]:
        """The number of each; none of them goes until `leave`. What is idle goes where the budget asks for it."""
        self._drop_lost()
        for key in keys:
            if key not in self._copies:
                self._copies[key] = _Copy(next(self._numbers))
            self._copies.move_to_end(key)
            self._copies[key].users += 1
        for worker in {worker for worker, _ in keys}:
            own = [key for key in self._copies if key[0] is worker]
            self._drop(_bytes(own) - budget_bytes // 2, self._idle(own))
        self._drop(_bytes(self._copies) - budget_bytes, self._idle(self._copies))
        return {buffer: self._copies[worker, buffer].number for worker, buffer in keys}

    def leave(self, keys: Sequence[Key]) -> None:
        """After `use`. Of a worker that has ended meanwhile there may be none left."""
        for key in keys:
            if key in self._copies:
                self._copies[key].users -= 1

    def make_room(self, wanted_bytes: int, spared: Collection[Key]) -> None:
        """Have at least so many bytes on their way back, as far as there are idle copies beside the spared ones."""
        self._drop_lost()
        idle = [key for key in self._idle(self._copies) if key not in spared]
        self._drop(wanted_bytes - sum(self._going.values()), idle)

    def drop_idle(self, worker: WorkerProcess) -> None:
        own = [key for key in self._idle(self._copies) if key[0] is worker]
        self._drop(_bytes(own), own)

    def forget_ended(self) -> bool:
        """Copies of workers that have ended; whether there were any."""
        ended = [key for key in self._copies if not key[0].alive]
        for key in ended:
            del self._copies[key]
        return bool(ended)

    def _drop_lost(self) -> None:
        """Idle copies of what the host no longer has, which nobody can ask for."""
        lost = [key for key in self._idle(self._copies) if key[1].fd < 0]
        self._drop(_bytes(lost), lost)

    def _idle(self, keys: Collection[Key]) -> list[Key]:
        """The least recently used first."""
        return [key for key in keys if not self._copies[key].users]

    def _drop(self, wanted_bytes: int, idle: Sequence[Key]) -> None:
        """As many of `idle` as it takes, in their order."""
        chosen: defaultdict[WorkerProcess, list[Key]] = defaultdict(list)
        for key in idle:
            if wanted_bytes <= 0:
                break
            wanted_bytes -= _bytes([key])
            chosen[key[0]].append(key)
        for worker, keys in chosen.items():
            for begin in range(0, len(keys), DROPPED_AT_ONCE):
                together = keys[begin : begin + DROPPED_AT_ONCE]
                answer = worker.drop([self._copies.pop(key).number for key in together])
                self._going[answer] = _bytes(together)
                answer.add_done_callback(self._gone)

    def _gone(self, answer: asyncio.Future[Answer]) -> None:
        del self._going[answer]
        self._came_back(answer.exception() is not None)


def _bytes(keys: Iterable[Key]) -> int:
    return sum(in_blocks(buffer.size) for _, buffer in keys)
