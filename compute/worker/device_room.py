"""The device's memory as tasks share it: each has what it needs before it begins, or waits for it.

On the host nothing is counted here: compute/memory.py does.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from compute.shared_memory import SharedBuffer
from compute.worker.device_weights import DeviceWeights, Key, in_blocks
from compute.worker.process import WorkerProcess
from shared.errors import OutOfMemory
from shared.logs import fields

log = logging.getLogger(__name__)

WORKER_BYTES = 1 << 30
"""What the driver and its libraries keep on the device for one process, at most."""
LOOK_AGAIN_S = 0.1
PATIENCE_S = 30.0
"""So long may it take until the device shows as free what an ended worker held; then somebody else has it."""

Look = Callable[[], Awaitable[int | None]]
"""The bytes that the device has free now, whoever uses it; None: nobody can say. Raises nothing."""


class DeviceRoom:
    """Counts what tasks were promised and what weights lie there between tasks; the device is only asked after a
    worker ended that computed on it."""

    def __init__(self, look: Look, workers: int, weights_bytes: int | None = None) -> None:
        """`workers`: as many can be there at once, beside the one that told how much is free. `weights_bytes`: the most
        that stays between tasks; None: half of what there is for tasks."""
        self._look = look
        self._for_workers = workers * WORKER_BYTES
        self._weights_bytes = weights_bytes
        self._weights = DeviceWeights(self._came_back)
        self._bytes: int | None = None
        self._promised = 0
        self._is_certain = True
        # Who comes first is served first, or the small ones would pass a large one by for ever.
        self._turn = asyncio.Lock()
        self._returned = asyncio.Event()

    def measured(self, free: int | None) -> None:
        """By a worker that holds nothing: so much is free on its device. None: it computes on the host."""
        if free is None:
            self._bytes = None
        elif self._promised == self._weights.held_bytes == 0:  # else part of it is missing
            self._bytes = max(free - self._for_workers, 0, self._bytes or 0)

    def doubt(self) -> None:
        """A worker ended that computed: until the device shows its memory as free, nothing begins."""
        self._is_certain = False

    def check(self, needed: int) -> None:
        """Raises OutOfMemory for what never fits."""
        if self._bytes is not None and needed > self._bytes:
            raise OutOfMemory(f"the task needs {needed} bytes on the device, which has {self._bytes} for tasks")

    @property
    def weights(self) -> str:
        """For people: what stays there between tasks; empty on the host."""
        return "" if self._bytes is None else f"{self._weights} of {self._budget >> 20} MiB"

    def drop_idle(self, worker: WorkerProcess) -> None:
        """What stays in this one between tasks."""
        self._weights.drop_idle(worker)

    @asynccontextmanager
    async def promised(
        self, needed: int, weights: Sequence[Key] = ()
    ) -> AsyncIterator[Mapping[SharedBuffer, int]]:
        """So much of the device, until the block ends; waits until others gave it back. Raises OutOfMemory.

        `weights` are part of what is needed. Yields those that are to stay in their worker, and under which number;
        what lies there already is not promised again.
        """
        self.check(needed)
        # A task that waits holds none of its weights: two that each did would wait for each other.
        async with self._turn:
            await self._be_certain()
            kept, rest, lacking = self._need(needed, weights)
            while lacking > 0:
                self._weights.make_room(lacking, spared=kept)
                self._returned.clear()
                await self._returned.wait()
                await self._be_certain()
                kept, rest, lacking = self._need(needed, weights)
            self._promised += rest
            numbers = self._weights.use(kept, self._budget)
        try:
            yield numbers
        finally:
            self._weights.leave(kept)
            self._promised -= rest
            self._returned.set()

    def _need(self, needed: int, weights: Sequence[Key]) -> tuple[list[Key], int, int]:
        """What may stay of a task's weights, what it takes beside them, and for how much of both there is no room.

        With what is beyond the plan it may have to wait until it is alone, but is not refused.
        """
        kept = self._weights.keepable(weights, self._budget)
        sizes = [buffer.size for _, buffer in kept]
        rest = in_blocks(max(needed - sum(sizes), 0))
        others = self._promised + self._weights.beside(kept)
        if self._bytes is None or others == 0:
            return kept, rest, 0
        return kept, rest, others + rest + sum(map(in_blocks, sizes)) - self._bytes

    @property
    def _budget(self) -> int:
        if self._bytes is None:
            return 0
        return self._bytes // 2 if self._weights_bytes is None else self._weights_bytes

    def _came_back(self, worker_ended: bool) -> None:
        if worker_ended:
            self.doubt()
        self._returned.set()

    async def _be_certain(self) -> None:
        loop = asyncio.get_running_loop()
        since = loop.time()
        if self._weights.forget_ended():
            self.doubt()
        while not self._is_certain and self._bytes is not None:
            self._is_certain = True  # unless another one ends while the device is looked at
            free = await self._look()
            expected = self._bytes - self._promised - self._weights.held_bytes
            if free is not None and free >= expected:
                continue
            if loop.time() - since > PATIENCE_S:
                told = fields(free_bytes=free, expected_bytes=expected)
                log.error("the device does not show the memory of an ended worker as free", extra=told)
                return
            self._is_certain = False
            await asyncio.sleep(LOOK_AGAIN_S)
