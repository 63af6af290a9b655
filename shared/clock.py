"""Time, passed in: durations by `monotonic`, moments for people by `wall`."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds that only rise; for every duration and deadline."""
        ...

    def wall(self) -> float:
        """Unix seconds by this machine; for people, never for decisions."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
