"""The machine's memory as tasks share it: each has what it needs before it begins, or waits for it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from math import ceil

from compute.buffer_pool import BufferPool, Wanted
from compute.machine import Machine, MachineMemory
from compute.margin import Margin
from compute.shared_memory import SharedBuffer
from shared.errors import OutOfMemory

MEMORY_FLOOR_BYTES = 256 << 20
"""Left to the process itself and to the rest of the machine."""
LOOK_AGAIN_S = 0.2
"""What others do to the machine's memory is told by nobody."""
ALONE_PATIENCE_S = 15.0
"""So long may it take until what a task held that has ended is free; then it is others' and does not come back."""

Reclaim = Callable[[int], int]
"""Gives back at least so many bytes of what is kept without need, as far as there are any: how many it was."""


class Allotment:
    """What one task was given: `buffers`, and room for the values that its computation holds beside them."""

    def __init__(self, buffers: Sequence[SharedBuffer], values_bytes: int) -> None:
        self.buffers = tuple(buffers)
        self.values_bytes = values_bytes
        self.kept: set[SharedBuffer] = set()

    def keep(self, buffer: SharedBuffer) -> None:
        """It outlives the task and counts as taken until its new owner closes it or gives it back."""
        self.kept.add(buffer)


class HostMemory:
    """Counts what it gave out: a memfd takes its memory only when it is written, and then the kernel kills.

    `reclaim` is asked before a task waits. What it gives back are buffers that it closes. `limit_bytes` is the most
    that all tasks together may hold. `pool` keeps buffers for the next tasks, as far as these leave room.
    """

    def __init__(
        self,
        reclaim: Reclaim = lambda _: 0,
        limit_bytes: int | None = None,
        read: Callable[[], MachineMemory] | None = None,
        pool: BufferPool | None = None,
    ) -> None:
        self._reclaim = reclaim
        self._limit_bytes = limit_bytes
        self._read = read or Machine()
        self.margin = Margin()
        self._allotments: set[Allotment] = set()
        self._buffers: dict[SharedBuffer, Wanted] = {}
        self.pool = pool or BufferPool(0)
        self._unheld_bytes = 0
        # Who comes first is served first, or the small ones would pass a large one by for ever.
        self._turn = asyncio.Lock()
        self._returned = asyncio.Event()

    @property
    def promised_bytes(self) -> int:
        """What tasks and whoever keeps buffers may hold, written or not; without the pool's."""
        return self._taken_bytes() - self.pool.idle_bytes

    def room_bytes(self) -> int:
        """What could be promised now."""
        taken = self._taken_bytes()
        available = self._read().available
        # What would be available if nothing were held here. What is written in buffers is known; how much of their
        # values tasks hold at present is not, so it is known only within bounds while there are any.
        least = available + sum(buffer.capacity - buffer.unwritten_bytes for buffer in self._buffers)
        most = least + sum(allotment.values_bytes for allotment in self._allotments)
        self._unheld_bytes = min(max(self._unheld_bytes, least), most)
        return max(self._within_limit(self._unheld_bytes - MEMORY_FLOOR_BYTES) - taken, 0)

    @asynccontextmanager
    async def allotted(self, wanted: Sequence[Wanted], values_bytes: int) -> AsyncIterator[Allotment]:
        """These buffers and so much beside them, until the block ends; waits until others gave it back.

        Raises OutOfMemory where that is more than this machine has, or more than it has while nothing else runs.
        """
        size = sum(one.size for one in wanted)
        most = max(self._within_limit(self._read().total - MEMORY_FLOOR_BYTES), 0)
        if size + values_bytes > most:
            raise OutOfMemory(
                f"the task needs {size + values_bytes} bytes of memory; this machine has {most} for tasks"
            )
        # What was learned may have a task wait until it is alone, but refuses none.
        values_bytes = min(ceil(values_bytes * self.margin.factor), most - size)
        async with self._turn:
            found = self._from_pool(wanted, values_bytes)
            if not any(found):
                await self._wait_for(size + values_bytes)
            allotment = Allotment(self._completed(wanted, found), values_bytes)
            self._allotments.add(allotment)
        try:
            yield allotment
        finally:
            self._allotments.discard(allotment)
            for buffer in allotment.buffers:
                if buffer not in allotment.kept:
                    self.give_back(buffer)
            self._returned.set()

    def give_back(self, buffer: SharedBuffer) -> None:
        """One that its task, or who kept it beyond that, needs no more."""
        self.pool.give(buffer, self._buffers[buffer])
        self._returned.set()

    def _from_pool(self, wanted: Sequence[Wanted], values_bytes: int) -> list[SharedBuffer | None]:
        """None where there is none; all None where there is no room for the rest, so that nobody waits with them."""
        found = [self.pool.take(one) for one in wanted]
        if self.room_bytes() < _missing_bytes(wanted, found) + values_bytes:
            for buffer in filter(None, found):
                self.give_back(buffer)
            return [None] * len(wanted)
        return found

    def _completed(self, wanted: Sequence[Wanted], found: Sequence[SharedBuffer | None]) -> list[SharedBuffer]:
        """With new ones for those that are None. Raises OutOfMemory."""
        buffers: list[SharedBuffer] = []
        try:
            for one, buffer in zip(wanted, found, strict=True):
                buffers.append(buffer or SharedBuffer("tensors", one.size))
                self._buffers[buffers[-1]] = one
        except OutOfMemory:
            for buffer in {*buffers, *filter(None, found)}:
                self.give_back(buffer)
            raise
        return buffers

    def _taken_bytes(self) -> int:
        self._buffers = {buffer: wanted for buffer, wanted in self._buffers.items() if buffer.fd >= 0}
        values = sum(allotment.values_bytes for allotment in self._allotments)
        return sum(buffer.capacity for buffer in self._buffers) + values

    @property
    def _keeps_outputs(self) -> bool:
        """Whether some are being stored, which outlive their task's allotment. Asked once the pool is empty."""
        return any(wanted.writable for buffer, wanted in self._buffers.items() if buffer.fd >= 0)

    def _within_limit(self, size: int) -> int:
        return size if self._limit_bytes is None else min(size, self._limit_bytes)

    async def _wait_for(self, needed: int) -> None:
        loop = asyncio.get_running_loop()
        alone_since: float | None = None
        while (room := self.room_bytes()) < needed:
            if self._reclaimed(needed - room):
                continue
            if self._allotments or self._keeps_outputs:
                alone_since = None
            elif alone_since is None:
                alone_since = loop.time()
            elif loop.time() - alone_since > ALONE_PATIENCE_S:
                raise OutOfMemory(
                    f"the task needs {needed} bytes of memory; this machine has {room} free, with no other task in work"
                )
            self._returned.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN_S):
                    await self._returned.wait()

    def _reclaimed(self, wanted_bytes: int) -> bool:
        """Whether anything was."""
        freed = self.pool.reclaim(wanted_bytes)
        if freed < wanted_bytes:
            freed += self._reclaim(wanted_bytes - freed)
        return freed > 0


def _missing_bytes(wanted: Sequence[Wanted], found: Sequence[SharedBuffer | None]) -> int:
    return sum(one.size for one, buffer in zip(wanted, found, strict=True) if buffer is None)
