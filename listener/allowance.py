"""How many transactions that merely mention the node are read: anybody can write them, for next to nothing."""

from shared.clock import Clock


class Allowance:
    """Fills up evenly, and holds what a minute allows."""

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._left = float(per_minute)
        self._filled_at = clock.monotonic()

    def take(self) -> bool:
        """Whether one more may be read now."""
        now = self._clock.monotonic()
        self._left = min(self._per_minute, self._left + (now - self._filled_at) * self._per_minute / 60.0)
        self._filled_at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def give_back(self) -> None:
        """What was read told of work: only what tells of nothing is bounded."""
        self._left = min(self._per_minute, self._left + 1.0)

    async def wait(self) -> None:
        """Until one more may be read."""
        while not self.take():
            await self._clock.sleep(60.0 / self._per_minute)
