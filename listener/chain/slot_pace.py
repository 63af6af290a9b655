"""How long a slot takes on this cluster, by the slots that were notified."""

from collections import deque
from typing import Final

from shared.clock import Clock
from shared.ids import Slot

WINDOW_S: Final = 30.0
STEP_S: Final = 0.5
"""Between two moments that are kept."""
LEAST_S: Final = 10.0
"""Over a shorter time the pace would be a guess: a stall of a second would make every slot look slow, and bids high."""


class SlotPace:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, Slot]] = deque()

    def note(self, slot: Slot) -> None:
        """A newer slot was heard of just now."""
        now = self._clock.monotonic()
        while self._seen and (now - self._seen[0][0] > WINDOW_S or slot < self._seen[-1][1]):
            self._seen.popleft()
        if not self._seen or now - self._seen[-1][0] >= STEP_S:
            self._seen.append((now, slot))

    def seconds(self) -> float | None:
        """Seconds per slot; None while too few were heard of."""
        if not self._seen:
            return None
        (since, first), (until, last) = self._seen[0], self._seen[-1]
        if until - since < LEAST_S or last <= first:
            return None
        return (until - since) / (last - first)
