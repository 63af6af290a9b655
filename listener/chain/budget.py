"""How many requests a second one provider is asked: what is urgent goes before what is not."""

import heapq
import itertools
from enum import IntEnum
from typing import Final

from shared.clock import Clock

_LEAST_WAIT_S: Final = 0.001


class Urgency(IntEnum):
    """Why an endpoint is asked; the lowest goes first."""

    SUBMIT = 0
    """Sends, statuses, block heights, blockhashes."""
    WORK = 1
    """Looks at accounts: before work is taken, and before it is signed for."""
    SEARCH = 2
    """Listings, signature lists, and the transactions that they name."""


class Budget:
    """A token bucket that holds what one second allows."""

    def __init__(self, per_s: float, clock: Clock) -> None:
        self._per_s = per_s
        self._clock = clock
        self._tokens = self._most = max(1.0, per_s)
        self._filled_at = clock.monotonic()
        self._order = itertools.count()
        self._waiting: list[tuple[Urgency, int]] = []

    async def take(self, urgency: Urgency) -> None:
        """Wait until one request more is allowed, and none that is more urgent, or came before, waits."""
        turn = urgency, next(self._order)
        heapq.heappush(self._waiting, turn)
        try:
            while self._waiting[0] != turn or not self._has_token():
                await self._clock.sleep(self._until_next_s())
            self._tokens -= 1.0
        finally:
            self._waiting.remove(turn)
            heapq.heapify(self._waiting)

    def _has_token(self) -> bool:
        now = self._clock.monotonic()
        self._tokens = min(self._most, self._tokens + (now - self._filled_at) * self._per_s)
        self._filled_at = now
        return self._tokens >= 1.0

    def _until_next_s(self) -> float:
        """Until a token is there for the first who waits; whoever is not the first looks again then too."""
        return max(_LEAST_WAIT_S, (1.0 - self._tokens) / self._per_s)
