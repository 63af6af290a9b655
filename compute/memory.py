"""The machine's memory as tasks share it: each has what it needs before it begins, or waits for it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from math import ceil

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
    """What one task was given: zeroed `buffers`, and room for the values that its computation holds beside them."""

    def __init__(self, sizes: Sequence[int], values_bytes: int) -> None:
        """Raises OutOfMemory."""
        self.buffers: list[SharedBuffer] = []
        self.values_bytes = values_bytes
        self._kept: set[SharedBuffer] = set()
        try:
            for size in sizes:
                self.buffers.append(SharedBuffer("tensors", size))
        except OutOfMemory:
            self.close()
            raise

    def keep(self, buffer: SharedBuffer) -> None:
        """It outlives the task and counts as taken until its new owner closes it."""
        self._kept.add(buffer)

    def close(self) -> None:
        self.values_bytes = 0
        for buffer in self.buffers:
            if buffer not in self._kept:
                buffer.close()


class HostMemory:
    """Counts what it gave out: a memfd takes its memory only when it is written, and then the kernel kills.

    `reclaim` is asked before a task waits. What it gives back are buffers that it closes. `limit_bytes` is the most
    that all tasks together may hold.
    """

    def __init__(
        self,
        reclaim: Reclaim = lambda _: 0,
        limit_bytes: int | None = None,
        read: Callable[[], MachineMemory] | None = None,
    ) -> None:
        self._reclaim = reclaim
        self._limit_bytes = limit_bytes
        self._read = read or Machine()
        self.margin = Margin()
        self._allotments: set[Allotment] = set()
        self._buffers: set[SharedBuffer] = set()
        self._unheld_bytes = 0
        # Who comes first is served first, or the small ones would pass a large one by for ever.
        self._turn = asyncio.Lock()
        self._returned = asyncio.Event()

    @property
    def promised_bytes(self) -> int:
        """What tasks and whoever keeps buffers may hold, written or not."""
        self._buffers = {buffer for buffer in self._buffers if buffer.fd >= 0}
        values = sum(allotment.values_bytes for allotment in self._allotments)
        return sum(buffer.size for buffer in self._buffers) + values

    def room_bytes(self) -> int:
        """What could be promised now."""
        promised = self.promised_bytes
        available = self._read().available
        # What would be available if nothing were held here. What is written in buffers is known; how much of their
        # values tasks hold at present is not, so it is known only within bounds while there are any.
        least = available + sum(buffer.size - buffer.unwritten_bytes for buffer in self._buffers)
        most = least + sum(allotment.values_bytes for allotment in self._allotments)
        self._unheld_bytes = min(max(self._unheld_bytes, least), most)
        return max(self._within_limit(self._unheld_bytes - MEMORY_FLOOR_BYTES) - promised, 0)

    @asynccontextmanager
    async def allotted(self, sizes: Sequence[int], values_bytes: int) -> AsyncIterator[Allotment]:
        """Buffers of these sizes and so much beside them, until the block ends; waits until others gave it back.

        Raises OutOfMemory where that is more than this machine has, or more than it has while nothing else runs.
        """
        needed = sum(sizes) + values_bytes
        most = max(self._within_limit(self._read().total - MEMORY_FLOOR_BYTES), 0)
        if needed > most:
            raise OutOfMemory(f"the task needs {needed} bytes of memory; this machine has {most} for tasks")
        # What was learned may have a task wait until it is alone, but refuses none.
        values_bytes = min(ceil(values_bytes * self.margin.factor), most - sum(sizes))
        async with self._turn:
            await self._wait_for(sum(sizes) + values_bytes)
            allotment = Allotment(sizes, values_bytes)
            self._allotments.add(allotment)
            self._buffers.update(allotment.buffers)
        try:
            yield allotment
        finally:
            self._allotments.discard(allotment)
            allotment.close()
            self._returned.set()

    def give_back(self, buffer: SharedBuffer) -> None:
        """One that was kept beyond its task's block."""
        buffer.close()
        self._returned.set()

    def _within_limit(self, size: int) -> int:
        return size if self._limit_bytes is None else min(size, self._limit_bytes)

    async def _wait_for(self, needed: int) -> None:
        loop = asyncio.get_running_loop()
        alone_since: float | None = None
        while (room := self.room_bytes()) < needed:
            if self._reclaim(needed - room) > 0:
                continue
            if self._allotments:
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
