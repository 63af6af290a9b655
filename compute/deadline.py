"""A task's deadline, by the chain's time as the POST told it, counted on the monotonic clock."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

from shared.clock import Clock
from shared.errors import DeadlinePassed
from shared.messages import TaskRequest


@dataclass(frozen=True, slots=True)
class Deadline:
    """`at_s` on the monotonic clock, None where there is none; `margin_s` is what a result needs to land."""

    at_s: float | None
    margin_s: float
    clock: Clock

    @classmethod
    def of(cls, request: TaskRequest, clock: Clock) -> Self:
        if request.deadline is None:
            return cls(None, 0.0, clock)
        now = clock.wall() if request.chain_time is None else request.chain_time
        return cls(clock.monotonic() + request.deadline - now, request.landing_margin, clock)

    def left_s(self) -> float | None:
        """Seconds until the deadline itself."""
        return None if self.at_s is None else self.at_s - self.clock.monotonic()

    def check_margin(self) -> None:
        """Raises DeadlinePassed where nothing new may be begun."""
        left = self.left_s()
        if left is not None and left <= self.margin_s:
            raise DeadlinePassed(self._message())

    @asynccontextmanager
    async def enforce(self) -> AsyncIterator[asyncio.Timeout]:
        """Cancels the block at the margin and raises DeadlinePassed. `storing` moves what it yields to the end."""
        left = self.left_s()
        try:
            async with asyncio.timeout(None if left is None else max(0.0, left - self.margin_s)) as limit:
                yield limit
        except TimeoutError as exc:
            if not limit.expired():
                raise
            raise DeadlinePassed(self._message()) from exc

    def storing(self, limit: asyncio.Timeout) -> None:
        """The computation is over: from here on only the deadline itself counts."""
        left = self.left_s()
        if left is not None:
            limit.reschedule(asyncio.get_running_loop().time() + left)

    def _message(self) -> str:
        left = self.left_s() or 0.0
        return f"{left:.1f} s are left until the deadline, and a result needs {self.margin_s:g} s to land"
