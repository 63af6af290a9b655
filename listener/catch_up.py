"""What was not notified: the signatures since the cursor, read page by page from the newest down.

A round moves the cursor only when it has reached it; how far it came is kept in the journal, so that a restart goes on
from there. The cursor and the marks are finalized signatures.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from solders.pubkey import Pubkey

from listener.alarms import Alarm, sound
from listener.backfill_round import Round
from listener.chain.backfill import page_below
from listener.chain.budget import Urgency
from listener.chain.endpoints import NEXT_ONE, Endpoints
from listener.chain.rpc import MAX_SIGNATURES, Rpc, SignatureRow
from listener.journal.changes import ForgetPageMark, SetCondition
from listener.journal.journal import Journal
from listener.journal.records import Cursor, Gap
from listener.journal.states import ConditionName
from listener.mentions import Mentions
from shared.clock import Clock
from shared.errors import ChainError, HistoryPruned, PageMarkUnknown, RpcInvalid, RpcUnavailable
from shared.ids import Slot, UnixSeconds
from shared.logs import fields

FIRST_PAGE: Final = 100
"""Rows; most often a few are new."""
AT_ONCE: Final = 24
"""Transactions of a page that are read at once."""
MAX_RESTARTS: Final = 5
"""Of one round from the top, where no endpoint knows the mark."""
KEPT_S: Final = 3_600.0
"""Every provider keeps its history so long: who was up to date since then has missed nothing that is gone from it."""

log = logging.getLogger("listener.catch_up")


class CatchUp:
    def __init__(
        self,
        endpoints: Endpoints,
        address: Pubkey,
        journal: Journal,
        mentions: Mentions,
        list_now: Callable[[], Awaitable[bool]],
        oldest: Callable[[], Awaitable[UnixSeconds]],
        clock: Clock,
    ) -> None:
        """`list_now` lists the live accounts; False where it is refused. `oldest`: how far back a first start goes."""
        self._endpoints = endpoints
        self._address = address
        self._journal = journal
        self._mentions = mentions
        self._list_now = list_now
        self._oldest = oldest
        self._clock = clock
        self._places = asyncio.Semaphore(AT_ONCE)
        self._complete_at: float | None = None
        self.halted: str | None = None
        """Why the node cannot find new work; None where it can."""

    async def newest_finalized(self) -> Cursor | None:
        """Raises ChainError."""
        row = await self._endpoints.ask(self._newest, Urgency.SEARCH)
        return None if row is None else Cursor(str(row.signature), row.slot)

    async def run(self) -> None:
        """Read what was missed, down to the cursor. Raises ChainError; what was read by then is kept."""
        while await self._round():
            pass

    async def _round(self) -> bool:
        """Whether it went on with one from before the start, so that what is above that is still to be read."""
        cursor = await self._journal.cursor()
        mark = await self._journal.page_mark()
        way = Round(cursor, mark, await self._oldest() if cursor is None else None)
        try:
            await self._go(way)
        except HistoryPruned as pruned:
            if cursor is None or not await self._pass_over(way, cursor, str(pruned)):
                return False
        await self._resume()
        self._complete_at = self._clock.monotonic()
        return way.is_resumed

    async def _go(self, way: Round) -> None:
        """Read pages until the cursor is reached, then move it."""
        restarts = 0
        is_reached = False
        while not is_reached:
            try:
                rows = await self._page(way)
            except PageMarkUnknown as error:
                way.mark, restarts = None, restarts + 1
                if restarts > MAX_RESTARTS:
                    raise RpcInvalid(f"no endpoint goes on from its own rows: {error}") from error
                continue
            fresh, is_reached = way.take(rows)
            await self._read(fresh)
            is_reached = is_reached or not rows
            if not is_reached and way.reached is not None:
                await self._journal.apply(way.reached)
        await self._move(way.moves_to)

    async def _move(self, to: Cursor | None) -> None:
        if to is not None:
            await self._journal.apply(to, ForgetPageMark())
        elif await self._journal.page_mark() is not None:
            await self._journal.apply(ForgetPageMark())

    async def _page(self, way: Round) -> list[SignatureRow]:
        """The next page of the first endpoint that has one; none where the history ends as it should.

        Raises HistoryPruned where it ends above the cursor, PageMarkUnknown where nobody knows the mark.
        """
        errors: list[ChainError] = []
        for endpoint in self._endpoints.usable():
            try:
                rows = await endpoint.ask(partial(self._ask, way), Urgency.SEARCH)
            except (PageMarkUnknown, *NEXT_ONE) as error:
                errors.append(error)
                continue
            if rows or way.cursor is None or self._is_up_to_date():
                return rows
            errors.append(HistoryPruned(f"{endpoint.name} has no signatures of {self._address} {_below(way)}"))
        raise _worst(errors)

    def _is_up_to_date(self) -> bool:
        return self._complete_at is not None and self._clock.monotonic() - self._complete_at < KEPT_S

    async def _ask(self, way: Round, rpc: Rpc) -> list[SignatureRow]:
        if way.mark is not None:
            return await page_below(rpc, self._address, way.mark, limit=MAX_SIGNATURES)
        rows = await page_below(rpc, self._address, None, limit=FIRST_PAGE)
        newest = next((row for row in rows if row.is_finalized), None)
        if newest is None and rows:  # asked for before the list that is to show it
            newest = await self._newest(rpc)
            rows = await page_below(rpc, self._address, None, limit=FIRST_PAGE)
        way.begin(newest)
        return rows

    async def _newest(self, rpc: Rpc) -> SignatureRow | None:
        rows = await page_below(rpc, self._address, None, limit=1, commitment="finalized")
        return rows[0] if rows else None

    async def _read(self, rows: list[SignatureRow]) -> None:
        """Raises ChainError where one could not be read; the others are."""
        own = await self._journal.own_among([str(row.signature) for row in rows])
        others = [row for row in rows if str(row.signature) not in own]
        answers = await asyncio.gather(*(self._read_one(row) for row in others), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

    async def _read_one(self, row: SignatureRow) -> None:
        async with self._places:
            await self._mentions.on_listed(row)

    async def _pass_over(self, way: Round, cursor: Cursor, why: str) -> bool:
        """Nobody has what lies between: the live accounts stand in for it. False: they cannot be listed either."""
        if not await self._list_now():
            await self._halt(f"{why}, the cursor is at slot {cursor.slot}, and accounts cannot be listed")
            return False
        to = way.mark.slot if way.mark else await self._finalized_slot()
        gap = Gap(cursor.slot, max(cursor.slot, to))
        moved = way.moves_to
        await self._journal.apply(gap, ForgetPageMark(), *(() if moved is None else (moved,)))
        sound(Alarm.HISTORY_GAP, fromSlot=gap.from_slot, toSlot=gap.to_slot, why=why)
        return True

    async def _finalized_slot(self) -> Slot:
        return await self._endpoints.ask(lambda rpc: rpc.get_slot("finalized"), Urgency.SEARCH)

    async def _halt(self, why: str) -> None:
        if self.halted is None:
            await self._journal.apply(SetCondition(ConditionName.HALTED, why))
            sound(Alarm.INTAKE_HALTED, why=why)
        self.halted = why

    async def _resume(self) -> None:
        """Also after a restart, where the halt is only in the journal."""
        if self.halted is not None or self._complete_at is None:
            if ConditionName.HALTED in await self._journal.conditions():
                await self._journal.apply(SetCondition(ConditionName.HALTED, None))
                log.info("intake goes on", extra=fields(was=self.halted))
            self.halted = None


def _below(way: Round) -> str:
    return "at all" if way.mark is None else f"below slot {way.mark.slot}"


def _worst(errors: list[ChainError]) -> ChainError:
    """That the history ends, or that a mark is not known, says more than that another endpoint does not answer."""
    kinds = (HistoryPruned, PageMarkUnknown, ChainError)
    found = [error for kind in kinds for error in errors if isinstance(error, kind)]
    return found[0] if found else RpcUnavailable("no endpoint may be asked for signatures")
