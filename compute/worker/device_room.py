"""The device's memory as tasks share it: each has what it needs before it begins, or waits for it.

On the host nothing is counted here: compute/memory.py does.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import ceil

from shared.errors import OutOfMemory
from shared.logs import fields

log = logging.getLogger(__name__)

WORKER_BYTES = 1 << 30
"""What the driver and its libraries keep on the device for one process, at most."""
BEYOND_THE_PLAN = 1.1
"""Torch's allocator takes memory in blocks, larger than what is asked for."""
LOOK_AGAIN_S = 0.1
PATIENCE_S = 30.0
"""So long may it take until the device shows as free what an ended worker held; then somebody else has it."""

Look = Callable[[], Awaitable[int | None]]
"""The bytes that the device has free now, whoever uses it; None: nobody can say. Raises nothing."""


class DeviceRoom:
    """Counts what tasks were promised; the device is only asked after a worker ended that computed on it."""

    def __init__(self, look: Look, workers: int) -> None:
        """`workers`: as many can be there at once, beside the one that told how much is free."""
        self._look = look
        self._kept = workers * WORKER_BYTES
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
        elif self._promised == 0:  # else part of it is missing
            self._bytes = max(free - self._kept, 0, self._bytes or 0)

    def doubt(self) -> None:
        """A worker ended that computed: until the device shows its memory as free, nothing begins."""
        self._is_certain = False

    def check(self, needed: int) -> None:
        """Raises OutOfMemory for what never fits."""
        if self._bytes is not None and needed > self._bytes:
            raise OutOfMemory(f"the task needs {needed} bytes on the device, which has {self._bytes} for tasks")

    @asynccontextmanager
    async def promised(self, needed: int) -> AsyncIterator[None]:
        """So much of the device, until the block ends; waits until others gave it back. Raises OutOfMemory."""
        self.check(needed)
        async with self._turn:
            await self._be_certain()
            # With what is beyond the plan it may have to wait until it is alone, but is not refused.
            taken = ceil(needed * BEYOND_THE_PLAN)
            while self._bytes is not None and self._promised > 0 and self._promised + taken > self._bytes:
                self._returned.clear()
                await self._returned.wait()
                await self._be_certain()
            self._promised += taken
        try:
            yield
        finally:
            self._promised -= taken
            self._returned.set()

    async def _be_certain(self) -> None:
        loop = asyncio.get_running_loop()
        since = loop.time()
        while not self._is_certain and self._bytes is not None:
            self._is_certain = True  # unless another one ends while the device is looked at
            free = await self._look()
            expected = self._bytes - self._promised
            if free is not None and free >= expected:
                continue
            if loop.time() - since > PATIENCE_S:
                told = fields(free_bytes=free, expected_bytes=expected)
                log.error("the device does not show the memory of an ended worker as free", extra=told)
                return
            self._is_certain = False
            await asyncio.sleep(LOOK_AGAIN_S)
