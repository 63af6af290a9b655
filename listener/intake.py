"""How the node hears of work: the websocket, the signature lists and the listing of live accounts.

All three only name accounts; what an account shows when it is read decides (observe.py).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from solders.pubkey import Pubkey

from listener.allowance import Allowance
from listener.catch_up import CatchUp
from listener.chain.budget import Urgency
from listener.chain.endpoints import Endpoints
from listener.chain.feed import Notification
from listener.chain.feeds import Feeds
from listener.chain.idl import Program
from listener.chain.tip import Tip
from listener.chain_clock import ChainClock
from listener.listing import Listing
from listener.looks import Looks
from listener.mentions import Mentions, OtherWays
from listener.outside import Outside
from listener.rules import Rules
from listener.settings import ListenerSettings
from listener.steps import Steps
from shared.backoff import Backoff
from shared.errors import ChainError
from shared.ids import Slot, UnixSeconds
from shared.logs import fields

SETTLED_SLOTS: Final = 8
"""So many slots the confirmed one is to be past the one that was processed when a subscription was answered.

Logs are collected only of what is executed after that; what was executed before is confirmed, and listed, by then.
"""
SETTLED_PAUSE_S: Final = 1.0
"""Between two looks at the confirmed slot."""
MAX_TAKEN_UP: Final = 2_000
"""Notifications that are worked on at once; beyond it the lists tell of them."""
LISTING_PAUSE_S: Final = 2.0
"""Between two listings, however often one is asked for."""
RETRY: Final = Backoff(base_s=0.3, cap_s=10.0)

log = logging.getLogger("listener.intake")


class Intake:
    def __init__(
        self,
        endpoints: Endpoints,
        program: Program,
        node: Pubkey,
        looks: Looks,
        steps: Steps,
        chain_clock: ChainClock,
        settings: ListenerSettings,
        outside: Outside,
        tip: Tip,
        is_own: Callable[[str], bool],
    ) -> None:
        """`is_own` is called with the signature of every transaction that is notified, and says whether it is ours."""
        self._endpoints = endpoints
        self._program = program
        self._journal = steps.journal
        self._settings = settings
        self._clock, self._rng = outside.clock, outside.rng
        self._address = program.mentions(node)
        self._feeds = Feeds(
            settings.ws_url,
            endpoints.all,
            outside.connect,
            settings.watchdog_silence_s,
            self._clock,
            self._rng,
        )
        self._tip = tip
        self._list_soon = asyncio.Event()
        self._backfill_soon = asyncio.Event()
        self._mentions = Mentions(
            endpoints,
            program,
            node,
            steps.journal,
            looks,
            Allowance(settings.mention_reads_per_minute, self._clock),
            OtherWays(self._list_soon.set, self._can_list, is_own),
            self._clock,
            self._rng,
        )
        self._group = asyncio.TaskGroup()
        self._taken_up = 0
        self._settling: asyncio.Task[None] | None = None
        rules, now = Rules.of(settings), chain_clock.now
        self._listing = Listing(endpoints, program, node, looks, steps, rules, now)
        self._catch_up = CatchUp(
            endpoints, self._address, steps.journal, self._mentions, self._listing.run, self._oldest, self._clock
        )
        self._chain_clock = chain_clock
        self._listing_tried = asyncio.Event()
        self.listed = asyncio.Event()
        """Set once the live accounts were listed, or that was refused."""

    @property
    def is_listing_refused(self) -> bool:
        """Signature lists alone are followed."""
        return self._listing.refused is not None

    @property
    def halted(self) -> str | None:
        """Why new work cannot be found; None where it can."""
        return self._catch_up.halted

    @property
    def websocket_in_use(self) -> str | None:
        """The endpoint whose websocket is followed; None where none stands."""
        return self._feeds.in_use

    def _can_list(self) -> bool:
        return self._listing.refused is None

    async def _oldest(self) -> UnixSeconds:
        return UnixSeconds(int(await self._chain_clock.now() - self._settings.first_start_hours * 3_600))

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            self._group.create_task(self._feeds.run(self._address, self))
            self._group.create_task(self._repeat(self._list, self._list_soon, self._settings.list_interval_s))
            await self._listing_tried.wait()  # the newest work does not wait for the oldest
            self._group.create_task(
                self._repeat(self._backfill, self._backfill_soon, self._settings.backfill_interval_s)
            )

    def list_again(self) -> None:
        """What was left alone may be taken now."""
        self._list_soon.set()

    def on_standing(self, processed: Slot) -> None:
        """What was executed before the subscription, or while none stood, was not notified."""
        self._list_soon.set()
        self._backfill_soon.set()
        if self._settling is not None:
            self._settling.cancel()
        self._settling = self._group.create_task(self._settle(processed))

    def on_slot(self, slot: Slot, root: Slot) -> None:
        self._tip.see(slot, root)

    def on_logs(self, result: object) -> None:
        told = self._mentions.sift(result)
        if told is None or self.halted is not None:
            return  # while halted the cursor stays, so that the lists tell of it once more
        if self._taken_up < MAX_TAKEN_UP:
            self._taken_up += 1
            self._group.create_task(self._take_up(told))
        else:
            self._list_soon.set()

    async def _take_up(self, told: Notification) -> None:
        try:
            await self._mentions.on_notification(told)
        finally:
            self._taken_up -= 1

    async def _settle(self, processed: Slot) -> None:
        """Backfill once more when what was processed as the subscription was answered is confirmed."""
        confirmed = processed
        while confirmed < processed + SETTLED_SLOTS:
            await self._clock.sleep(SETTLED_PAUSE_S)
            with suppress(ChainError):
                confirmed = await self._endpoints.ask(lambda rpc: rpc.get_slot("confirmed"), Urgency.SEARCH)
        self._backfill_soon.set()

    async def _repeat(self, step: Callable[[], Awaitable[None]], soon: asyncio.Event, interval_s: float) -> None:
        """Take the step at once, every `interval_s`, and whenever it is asked for; after a failure soon again."""
        failures = 0
        while True:
            soon.clear()
            try:
                await step()
                failures = 0
                async with asyncio.timeout(interval_s):
                    await soon.wait()
            except TimeoutError:
                pass
            except ChainError as error:
                log.warning("the chain could not be searched", extra=fields(error=str(error)))
                await self._clock.sleep(RETRY.delay_s(failures, self._rng))
                failures += 1

    async def _list(self) -> None:
        """At the first start the cursor is set at what was the newest before: all that is older is listed."""
        try:
            newest = await self._catch_up.newest_finalized() if await self._journal.cursor() is None else None
            is_listed = await self._listing.run()
        except ChainError:
            self._listing_tried.set()
            raise
        if newest is not None and is_listed:
            await self._journal.apply(newest)
        if not self.listed.is_set():
            self._backfill_soon.set()
        self.listed.set()
        self._listing_tried.set()
        await self._clock.sleep(LISTING_PAUSE_S)

    async def _backfill(self) -> None:
        if await self._journal.cursor() is None and not self.listed.is_set():
            return  # the listing sets the first cursor
        await self._catch_up.run()
