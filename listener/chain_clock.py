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


class ChainClock:
    def __init__(self, read: Callable[[], Awaitable[float]], clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self._last: tuple[float, float] | None = None
        self._reading = asyncio.Lock()

    async def now(self) -> float:
        """Unix seconds by the chain's clock. Raises ChainError where it was never read and cannot be."""
        async with self._reading:  # one question for all who ask at this moment
            if self._last is None or self._clock.monotonic() - self._last[1] > MAX_AGE_S:
                try:
                    self._last = await self._read(), self._clock.monotonic()
                except ChainError:
                    if self._last is None:
                        raise
            chain_time, read_at = self._last
        return chain_time + self._clock.monotonic() - read_at

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
