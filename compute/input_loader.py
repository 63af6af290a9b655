"""Inputs in memory: what is held already is used where it lies, the rest is fetched into memory of its own."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from compute.buffer_pool import Wanted
from compute.inputs import Input, load_inputs, loading_bytes
from compute.memory import Allotment, HostMemory
from compute.shared_memory import SharedBuffer
from compute.storage.store import Storage
from compute.weights.cache import Owner, WeightsCache
from compute.weights.key import WeightsKey


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a task computes from, which nobody may write, and buffers `beside` it for a worker to fill."""

    inputs: tuple[SharedBuffer, ...]
    beside: tuple[SharedBuffer, ...]
    weights: frozenset[SharedBuffer]
    """Those of the inputs that stay in memory for other tasks."""
    _allotment: Allotment

    def keep(self, buffer: SharedBuffer) -> None:
        """One of `beside` stays when the block ends, until HostMemory.give_back."""
        self._allotment.keep(buffer)


class InputLoader:
    """For all tasks of the process."""

    def __init__(self, storage: Storage, memory: HostMemory, weights: WeightsCache) -> None:
        self._storage = storage
        self.memory = memory
        self._weights = weights
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def loaded(
        self, inputs: Sequence[Input], beside: Sequence[int], values_bytes: int, owner: Owner
    ) -> AsyncIterator[Loaded]:
        """The inputs' buffers, and ones of the sizes `beside`, until the block ends.

        Waits for memory. Raises TaskError where an object or the memory cannot be had.
        """
        keys = [given.weights for given in inputs]
        async with AsyncExitStack() as stack:
            # One after the other: weights that several held while each waits for memory could not be given back,
            # and none would get on.
            async with self._turn_for(keys):
                lease = await stack.enter_async_context(self._weights.lease(keys, owner))
                held = [lease.buffer(key) for key in keys]
                fresh = [given for given, buffer in zip(inputs, held, strict=True) if buffer is None]
                # Weights stay, in a buffer of exactly their size.
                wanted = [Wanted(given.buffer_bytes, None if given.weights else owner) for given in fresh]
                wanted += [Wanted(size, owner, writable=True) for size in beside]
                # Values come once all is read.
                most_beside = max(values_bytes, loading_bytes(fresh))
                allotment = await stack.enter_async_context(self.memory.allotted(wanted, most_beside))
            made, others = allotment.buffers[: len(fresh)], allotment.buffers[len(fresh) :]
            await load_inputs(self._storage, fresh, made)
            weights = {buffer for buffer in held if buffer is not None}
            for given, buffer in zip(fresh, made, strict=True):
                if lease.keep(given.weights, buffer):
                    allotment.keep(buffer)
                    weights.add(buffer)
            taken = iter(made)
            all_inputs = tuple(next(taken) if buffer is None else buffer for buffer in held)
            yield Loaded(all_inputs, others, frozenset(weights), allotment)

    @asynccontextmanager
    async def _turn_for(self, keys: Collection[WeightsKey | None]) -> AsyncIterator[None]:
        """The turn, at a moment when nobody fetches any of it: who waits for that would hold up all others."""
        while True:
            await self._weights.settled(keys)
            async with self._turn:
                if self._weights.is_settled(keys):
                    yield
                    return
