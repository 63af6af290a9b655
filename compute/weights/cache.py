"""Weights that stay in memory between tasks, each in a sealed buffer, the least recently used first to go.

It knows nothing of who may read what: whoever asks was allowed the URI, and has just read the object's header, whose
validator is part of the key. So a hit needs the same right and the same version as a fetch would.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from compute.shared_memory import SharedBuffer
from compute.weights.key import WeightsKey

MOST_OBJECTS = 128
"""Each has two open descriptors, so it counts as at least this part of the budget, however small it is."""

Owner = str | None
"""The tenant whose share pays for it; None: the operator, for what is preloaded."""


@dataclass(slots=True)
class _Held:
    buffer: SharedBuffer
    owner: Owner
    users: int = 0


class WeightsCache:
    """At most `budget_bytes` (0: nothing is kept). What one tenant had fetched takes at most half of them."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._held: OrderedDict[WeightsKey, _Held] = OrderedDict()
        self._being_fetched: dict[WeightsKey, asyncio.Event] = {}

    def is_settled(self, keys: Collection[WeightsKey | None]) -> bool:
        """Whether nobody fetches any of it now."""
        return not any(key in self._being_fetched for key in keys)

    async def settled(self, keys: Collection[WeightsKey | None]) -> None:
        """Returns once nobody fetches any of it."""
        while fetched := next((self._being_fetched[key] for key in keys if key in self._being_fetched), None):
            await fetched.wait()

    @asynccontextmanager
    async def lease(self, keys: Collection[WeightsKey | None], owner: Owner) -> AsyncIterator["Lease"]:
        """What is held of `keys` stays until the block ends. The rest is for the caller to fetch and `keep`.

        Waits while somebody else fetches any of it, and holds nothing meanwhile: who waits stands in nobody's way.
        """
        await self.settled(keys)
        share = self._share(owner)
        wanted = {key for key in keys if key is not None and (key in self._held or self._cost(key) <= share)}
        lease = Lease(self, wanted, owner)
        try:
            yield lease
        finally:
            lease.end()

    def holds(self, key: WeightsKey) -> bool:
        return key in self._held

    def __str__(self) -> str:
        size = sum(key.size for key in self._held)
        return f"{len(self._held)} held, {size >> 20} MiB of {self._budget_bytes >> 20} MiB"

    def reclaim(self, wanted_bytes: int) -> int:
        """Free at least so many bytes, or all that is not in use; what is preloaded goes last. The bytes freed."""
        idle = self._idle(lambda held: held.owner is not None) + self._idle(lambda held: held.owner is None)
        freed = 0
        while freed < wanted_bytes and idle:
            freed += idle[0].size
            self._drop(idle.pop(0))
        return freed

    def _take(self, key: WeightsKey, buffer: SharedBuffer, owner: Owner) -> _Held | None:
        """None where it would not fit without what is in use, is preloaded, or is another's share."""
        older = [other for other in self._held if other.uri == key.uri and other.version != key.version]
        if any(self._held[other].owner is None and other.names == key.names for other in older):
            owner = None  # the newer version of what was preloaded
        for other in older:
            if not self._held[other].users:
                self._drop(other)
        victims = self._victims(key, owner)
        if victims is None:
            return None
        for victim in victims:
            self._drop(victim)
        buffer.lend(writable=False)
        self._held[key] = _Held(buffer, owner)
        return self._held[key]

    def _victims(self, key: WeightsKey, owner: Owner) -> list[WeightsKey] | None:
        """Who must go for it; None: that would not be enough."""
        cost = self._cost(key)
        share = self._share(owner) - self._costs(
            other for other, held in self._held.items() if held.owner == owner
        )
        room = self._budget_bytes - self._costs(self._held)
        victims: list[WeightsKey] = []
        own = self._idle(lambda held: held.owner is not None and held.owner == owner)
        while share < cost and own:
            victims.append(own.pop(0))
            share += self._cost(victims[-1])
        room += self._costs(victims)
        others = [other for other in self._idle(lambda held: held.owner is not None) if other not in victims]
        while room < cost and others:
            victims.append(others.pop(0))
            room += self._cost(victims[-1])
        return victims if min(share, room) >= cost else None

    def _idle(self, which: Callable[[_Held], bool]) -> list[WeightsKey]:
        """The least recently used first."""
        return [key for key, held in self._held.items() if not held.users and which(held)]

    def _drop(self, key: WeightsKey) -> None:
        self._held.pop(key).buffer.close()

    def _share(self, owner: Owner) -> int:
        return self._budget_bytes if owner is None else self._budget_bytes // 2

    def _cost(self, key: WeightsKey) -> int:
        return max(key.size, self._budget_bytes // MOST_OBJECTS)

    def _costs(self, keys: Iterable[WeightsKey]) -> int:
        return sum(map(self._cost, keys))


class Lease:
    """Made by `WeightsCache.lease`, of which it is a part."""

    def __init__(self, cache: WeightsCache, wanted: Iterable[WeightsKey], owner: Owner) -> None:
        self._cache = cache
        self._owner = owner
        self._used: dict[WeightsKey, _Held] = {}
        self._fetching: dict[WeightsKey, asyncio.Event] = {}
        for key in wanted:
            held = cache._held.get(key)
            if held is None:
                self._fetching[key] = cache._being_fetched[key] = asyncio.Event()
            else:
                cache._held.move_to_end(key)
                self._use(key, held)

    def buffer(self, key: WeightsKey | None) -> SharedBuffer | None:
        """What is held, to be read only; None is for the caller to fetch."""
        held = None if key is None else self._used.get(key)
        return None if held is None else held.buffer

    def keep(self, key: WeightsKey | None, buffer: SharedBuffer) -> bool:
        """Offer what was fetched whole and found well. True: it is the cache's now, and sealed; who offered it may
        read it until the lease ends."""
        if key is None or key not in self._fetching:
            return False
        held = self._cache._take(key, buffer, self._owner)
        if held is not None:
            self._use(key, held)
        self._told(key)
        return held is not None

    def end(self) -> None:
        for key in list(self._fetching):
            self._told(key)
        for held in self._used.values():
            held.users -= 1
        self._used.clear()

    def _use(self, key: WeightsKey, held: _Held) -> None:
        self._used[key] = held
        held.users += 1

    def _told(self, key: WeightsKey) -> None:
        """Whoever waits looks again; whoever is first fetches what is not held."""
        self._fetching.pop(key)
        self._cache._being_fetched.pop(key).set()
