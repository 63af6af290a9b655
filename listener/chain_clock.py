"""The chain's time without a question for each moment: the last Clock that was read, and what has passed since."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from shared.clock import Clock
from shared.errors import ChainError
from shared.ids import UnixSeconds

MAX_AGE_S: Final = 20.0
"""The chain's clock may run some per cent faster or slower than ours, so this keeps the error near a second."""

AGAIN_S: Final = 10.0
"""After a reading that failed: what has passed since the last one is counted on, and no step waits for the endpoint."""


class ChainClock:
    def __init__(self, read: Callable[[], Awaitable[float]], clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self._last: tuple[float, float] | None = None
        self._reading = asyncio.Lock()
        self._failed_at = -AGAIN_S

    async def now(self) -> float:
        """Unix seconds by the chain's clock. Raises ChainError where it was never read and cannot be."""
        async with self._reading:  # one question for all who ask at this moment
            if self._last is None or self._is_due(self._last[1]):
                try:
                    self._last = await self._read(), self._clock.monotonic()
                except ChainError:
                    self._failed_at = self._clock.monotonic()
                    if self._last is None:
                        raise
            chain_time, read_at = self._last
        return chain_time + self._clock.monotonic() - read_at

    def _is_due(self, read_at: float) -> bool:
        now = self._clock.monotonic()
        return now - read_at > MAX_AGE_S and now - self._failed_at >= AGAIN_S

    async def refresh(self) -> None:
        """Read it beside what else is read now, where it is old. What goes wrong is told to whoever needs it."""
        with suppress(ChainError):
            await self.now()

    def known(self) -> UnixSeconds | None:
        """This moment without a question; None where the chain's clock was never read."""
        if self._last is None:
            return None
        chain_time, read_at = self._last
        return UnixSeconds(int(chain_time + self._clock.monotonic() - read_at))
