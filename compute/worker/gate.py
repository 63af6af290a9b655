"""Places beside each other, or one alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from compute.worker.tenants import Tenant


class Gate:
    """Lets `places` in beside each other, or one alone. In the order of asking, so that nobody waits forever."""

    def __init__(self, places: int) -> None:
        self._count = places
        self._places = asyncio.Semaphore(places)
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def beside(self) -> AsyncIterator[None]:
        async with self._turn:
            await self._places.acquire()
        try:
            yield
        finally:
            self._places.release()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        taken = 0
        async with self._turn:
            try:
                while taken < self._count:
                    await self._places.acquire()
                    taken += 1
                yield
            finally:
                for _ in range(taken):
                    self._places.release()


class Gates:
    """One for each tenant that has something to run or to plan: what hangs or crashes holds up its own."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._gates: WeakValueDictionary[Tenant, Gate] = WeakValueDictionary()

    def of(self, tenant: Tenant) -> Gate:
        """The same one for as long as anyone holds it."""
        return self._gates.setdefault(tenant, Gate(self._places))
