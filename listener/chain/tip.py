"""The newest slot and root that the websocket told of, for whoever waits for one of them."""

import asyncio

from listener.chain.slot_pace import SlotPace
from shared.clock import Clock
from shared.ids import Slot


class Tip:
    """What one endpoint says, and not checked: whoever is woken by it asks for what it waits for."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._risen = asyncio.Event()
        self._seen_at: float | None = None
        self._pace = SlotPace(clock)
        self.slot = Slot(0)
        self.root = Slot(0)
        """What is below it is finalized."""

    def see(self, slot: Slot, root: Slot) -> None:
        self._seen_at = self._clock.monotonic()
        self.slot = slot
        self._pace.note(slot)
        if root != self.root:
            self.root = root
            self._risen.set()
            self._risen = asyncio.Event()

    def age_s(self) -> float | None:
        """Seconds since a newer slot was told; None where none was yet."""
        return None if self._seen_at is None else self._clock.monotonic() - self._seen_at

    def seconds_per_slot(self) -> float | None:
        """None while too few slots were told of."""
        return self._pace.seconds()

    async def root_reaches(self, slot: Slot) -> None:
        """Until the root is at `slot` or above. Without a websocket that is never."""
        while self.root < slot:
            await self._risen.wait()
