"""Looks at accounts that were heard of: a bounded number at once, each tried again while the endpoint lags."""

import asyncio
import logging
import random
from typing import Final

from listener.alarms import Alarm, sound
from listener.journal.records import EventRow
from listener.observe import Observer
from shared.backoff import Backoff
from shared.clock import Clock
from shared.errors import ChainError, Disputed
from shared.ids import Attempt, Slot
from shared.logs import fields

AT_ONCE: Final = 32
TRIES: Final = 8
"""After these the next listing finds the account."""
ANY_SLOT: Final = Slot(0)
RETRY: Final = Backoff(base_s=0.1, cap_s=5.0)

log = logging.getLogger("listener.looks")


class Looks:
    def __init__(self, observer: Observer, clock: Clock, rng: random.Random) -> None:
        self._observer = observer
        self._clock = clock
        self._rng = rng
        self._places = asyncio.Semaphore(AT_ONCE)

    async def take(
        self,
        account: str,
        at_least: Slot = ANY_SLOT,
        events: tuple[EventRow, ...] = (),
        listed: Attempt | None = None,
    ) -> bool:
        """Read the account at a slot not below `at_least`, and write what follows. False: it could not be read."""
        for failures in range(TRIES):
            try:
                async with self._places:
                    await self._observer.observe(account, at_least, events, listed=listed)
            except Disputed as error:
                sound(Alarm.DISPUTED, account=account, error=str(error))
                return False  # the next listing asks again
            except ChainError as error:
                log.info("an account cannot be read yet", extra=fields(account=account, error=str(error)))
                await self._clock.sleep(RETRY.delay_s(failures, self._rng))
            else:
                return True
        log.warning("an account could not be read; the next listing tries again", extra=fields(account=account))
        return False
