"""How the node hears of work: the websocket, the signature lists and the listing of live accounts.

All three only name accounts; what an account shows when it is read decides (observe.py).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final

from solders.pubkey import Pubkey
from solders.signature import Signature

from listener.allowance import Allowance
from listener.chain.accounts import ExecutionHead, list_live
from listener.chain.backfill import signatures_since
from listener.chain.budget import Urgency
from listener.chain.endpoints import Endpoints
from listener.chain.feed import Notification
from listener.chain.feeds import Feeds
from listener.chain.idl import Program
from listener.chain.rpc import Rpc, SignatureRow
from listener.chain.tip import Tip
from listener.decisions import is_worth_a_look
from listener.journal.journal import Journal
from listener.journal.records import Cursor
from listener.journal.states import UNSIGNED
from listener.looks import Looks
from listener.mentions import Mentions, OtherWays
from listener.outside import Outside
from listener.settings import ListenerSettings
from shared.backoff import Backoff
from shared.errors import ChainError, IdlInvalid, RpcRefused
from shared.ids import Slot
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
        journal: Journal,
        settings: ListenerSettings,
        outside: Outside,
        tip: Tip,
        is_own: Callable[[str], bool],
    ) -> None:
        """`is_own` is called with the signature of every transaction that is notified, and says whether it is ours."""
        self._endpoints = endpoints
        self._program = program
        self._node = node
        self._looks = looks
        self._journal = journal
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
            journal,
            looks,
            Allowance(settings.mention_reads_per_minute, self._clock),
            OtherWays(self._list_soon.set, self._can_list, is_own),
            self._clock,
            self._rng,
        )
        self._group = asyncio.TaskGroup()
        self._taken_up = 0
        self._settling: asyncio.Task[None] | None = None
        self._listing_refused = False
        self._listing_tried = asyncio.Event()
        self.listed = asyncio.Event()
        """Set once the live accounts were listed."""

    @property
    def is_listing_refused(self) -> bool:
        """The provider refuses getProgramAccounts: signature lists alone are followed."""
        return self._listing_refused

    @property
    def websocket_in_use(self) -> str | None:
        """The endpoint whose websocket is followed; None where none stands."""
        return self._feeds.in_use

    def _can_list(self) -> bool:
        return self._program.by_transactions is None and not self._listing_refused

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            self._group.create_task(self._feeds.run(self._address, self))
            self._group.create_task(self._repeat(self._list, self._list_soon, self._settings.list_interval_s))
            await self._listing_tried.wait()  # the newest work does not wait for the oldest
            self._group.create_task(
                self._repeat(self._backfill, self._backfill_soon, self._settings.backfill_interval_s)
            )

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
        if told is None:
            return
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
        """Look at every live account that may say more than the journal, and at every task that none of them is."""
        if self._program.by_transactions is not None:
            await self._look_at_open_tasks(self._program.by_transactions)
            return
        newest = await self._newest_finalized() if await self._journal.cursor() is None else None
        try:
            heads = await self._endpoints.ask(self._live, Urgency.SEARCH)
        except (RpcRefused, IdlInvalid) as error:
            self._refused(error)
            return
        except ChainError:
            self._listing_tried.set()
            raise
        self._listing_refused = False
        async with asyncio.TaskGroup() as group:
            for address, head in heads:
                if await self._is_worth_a_look(str(address), head):
                    group.create_task(self._looks.take(str(address), listed=head.attempt))
            listed = {str(address) for address, _ in heads}
            for task in await self._journal.tasks_in(UNSIGNED):
                if task.account not in listed:
                    group.create_task(self._looks.take(task.account))
        if newest is not None:
            await self._journal.apply(newest)
        self._has_listed()
        await self._clock.sleep(LISTING_PAUSE_S)

    def _has_listed(self) -> None:
        if not self.listed.is_set():
            self._backfill_soon.set()
        self.listed.set()
        self._listing_tried.set()

    async def _look_at_open_tasks(self, why: str) -> None:
        """Where no account can be told from its bytes, the signature lists tell of new work."""
        if not self.listed.is_set():
            log.warning("accounts are not listed; signature lists alone are followed", extra=fields(why=why))
        self._has_listed()
        async with asyncio.TaskGroup() as group:
            for task in await self._journal.tasks_in(UNSIGNED):
                group.create_task(self._looks.take(task.account))
        await self._clock.sleep(LISTING_PAUSE_S)

    async def _is_worth_a_look(self, account: str, head: ExecutionHead) -> bool:
        """Whether the journal does not know this attempt, or the head says more than its row, or a fork's attempt."""
        known = await self._journal.latest(account)
        if known is None or head.attempt > known.attempt:
            return not await self._journal.knows(account, head.attempt)
        return head.attempt < known.attempt or is_worth_a_look(head.state, known)

    def _refused(self, error: ChainError) -> None:
        """By the provider, or since the IDL's account has no fixed head to filter by."""
        if not self._listing_refused:
            log.warning(
                "the endpoint refuses getProgramAccounts; signature lists alone are followed",
                extra=fields(error=str(error)),
            )
        self._listing_refused = True
        self._has_listed()

    async def _backfill(self) -> None:
        """Read what mentions the address since the cursor, then move the cursor."""
        newest = await self._newest_finalized()
        cursor = await self._journal.cursor()
        if cursor is None and not self.listed.is_set():
            return  # the listing sets the first cursor: what is older than that is over or listed
        until, until_slot = (cursor.parsed_signature, cursor.slot) if cursor else (None, Slot(0))
        rows = await self._endpoints.ask(partial(self._since, until, until_slot), Urgency.SEARCH)
        for row in rows:
            await self._mentions.on_listed(row)
        if newest is not None:
            await self._journal.apply(newest)

    async def _newest_finalized(self) -> Cursor | None:
        async def ask(rpc: Rpc) -> list[SignatureRow]:
            return await rpc.get_signatures_for_address(self._address, limit=1, commitment="finalized")

        rows = await self._endpoints.ask(ask, Urgency.SEARCH)
        return Cursor(str(rows[0].signature), rows[0].slot) if rows else None

    async def _live(self, rpc: Rpc) -> list[tuple[Pubkey, ExecutionHead]]:
        return await list_live(rpc, self._program, self._node)

    async def _since(self, until: Signature | None, until_slot: Slot, rpc: Rpc) -> list[SignatureRow]:
        pages = signatures_since(rpc, self._address, until, until_slot)
        return [row async for page in pages for row in page]
