"""Keeps the journal small, a little at a time, so that a task costs the same after a million others."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from listener.journal.journal import Journal
from listener.journal.tidying import (
    add_up_ledger,
    before_days,
    forget_events,
    forget_history,
    forget_the_many,
    move_finished,
)
from shared.clock import Clock
from shared.errors import ChainError
from shared.ids import UnixSeconds
from shared.logs import fields

INTERVAL_S: Final = 60.0
PAUSE_S: Final = 0.1
"""Between two batches: who works on a task goes first."""

log = logging.getLogger("listener.housekeeping")


async def keep_house(
    journal: Journal, final_time: Callable[[], Awaitable[float]], history_days: int, clock: Clock
) -> None:
    """For ever. `final_time`: Unix seconds by the Clock of the newest finalized bank."""
    while True:
        try:
            await tidy(journal, UnixSeconds(int(await final_time())), history_days, clock)
        except ChainError as error:
            log.info("the journal is not tidied now", extra=fields(error=str(error)))
        await clock.sleep(INTERVAL_S)


async def tidy(journal: Journal, now: UnixSeconds, history_days: int, clock: Clock) -> None:
    """Until nothing is left to be done at this moment."""
    before = before_days(now, history_days)
    for piece in (
        partial(move_finished, now=now),
        partial(forget_history, before=before),
        partial(add_up_ledger, before=before),
        forget_events,
        forget_the_many,
    ):
        while await journal.tidy(piece):
            await clock.sleep(PAUSE_S)
