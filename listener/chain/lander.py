"""Lands signed transactions: the same bytes are sent until the chain shows them, or until they cannot land any more.

All of them are watched at once and asked for in one call. What is watched stands in the journal, stored before it was
first sent, so a restart goes on with the same bytes.
"""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from solders.signature import Signature

from listener.chain.idl import Program
from listener.chain.rpc import MAX_STATUSES, Rpc, Status
from listener.journal.records import Outbox
from listener.journal.states import OutboxStatus
from listener.landing import Landed, on_expired, on_landed, on_lost
from listener.settings import ListenerSettings
from listener.steps import Steps
from shared.clock import Clock
from shared.errors import ChainError, StateConflict
from shared.logs import fields

FINALITY_INTERVAL_S: Final = 2.0
"""Between two questions for what has landed and waits to be finalized."""
EXPIRY_INTERVAL_S: Final = 2.0
"""Between two questions for the block height, while something may expire."""

log = logging.getLogger("listener.lander")


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between two sends of the same bytes, and between two questions for statuses."""

    resend_interval_s: float
    status_interval_s: float

    @classmethod
    def of(cls, settings: ListenerSettings) -> "Pace":
        return cls(settings.resend_interval_s, settings.status_interval_s)


class Lander:
    def __init__(self, rpc: Rpc, program: Program, steps: Steps, pace: Pace, clock: Clock) -> None:
        self._rpc = rpc
        self._program = program
        self._steps = steps
        self._pace = pace
        self._clock = clock
        self._wake = asyncio.Event()
        self._sent_at: dict[int, float] = {}
        self._finality_asked_at = -FINALITY_INTERVAL_S
        self._height_asked_at = -EXPIRY_INTERVAL_S

    def changed(self, _task: int | None = None) -> None:
        """A signature may be new."""
        self._wake.set()

    async def run(self) -> None:
        while True:
            self._wake.clear()
            watched = await self._steps.journal.watched()
            try:
                await self._round(watched)
            except ChainError as error:
                log.warning("cannot see what landed", extra=fields(error=str(error)))
            except StateConflict:
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pace.status_interval_s if watched else None):
                    await self._wake.wait()

    async def _round(self, watched: list[Outbox]) -> None:
        """Send what is due, ask for every status that is due, and see what has expired."""
        flying = [row for row in watched if row.status is OutboxStatus.SIGNED]
        await self._send_due([row for row in flying if not row.superseded])
        now = self._clock.monotonic()
        if now - self._finality_asked_at >= FINALITY_INTERVAL_S:
            self._finality_asked_at = now
            await self._ask([row for row in watched if row.status is not OutboxStatus.SIGNED], history=True)
        unknown = await self._ask(flying, history=False)
        if unknown and now - self._height_asked_at >= EXPIRY_INTERVAL_S:
            self._height_asked_at = now
            await self._expire(unknown)

    async def _send_due(self, rows: list[Outbox]) -> None:
        now = self._clock.monotonic()
        self._sent_at = {row.id: self._sent_at[row.id] for row in rows if row.id in self._sent_at}
        due = [row for row in rows if now - self._sent_at.get(row.id, -1e9) >= self._pace.resend_interval_s]
        for row in due:
            self._sent_at[row.id] = now
        await asyncio.gather(*(self._send(row) for row in due))

    async def _send(self, row: Outbox) -> None:
        try:
            await self._rpc.send_transaction(await self._steps.journal.raw(row.id), skip_preflight=True)
        except ChainError as error:
            log.warning("not sent", extra=fields(signature=row.signature, error=str(error)))

    async def _ask(self, rows: list[Outbox], *, history: bool) -> list[Outbox]:
        """Apply what the chain says of each. Returns those of which it says nothing."""
        unknown: list[Outbox] = []
        for start in range(0, len(rows), MAX_STATUSES):
            part = rows[start : start + MAX_STATUSES]
            answer = await self._rpc.get_signature_statuses(_signatures(part), search_history=history)
            for row, status in zip(part, answer.statuses, strict=True):
                if status is None:
                    unknown.append(row)
                await self._apply(row, status)
        return unknown

    async def _apply(self, row: Outbox, status: Status | None) -> None:
        if status is None and row.status is OutboxStatus.SIGNED:
            return
        if status is not None and status.confirmation_status == "processed":
            return
        task = await self._steps.journal.task(row.task)
        decision = on_lost(row, task) if status is None else on_landed(row, task, self._landed(status))
        await self._steps.take(task, decision)

    def _landed(self, status: Status) -> Landed:
        is_finalized = status.confirmation_status == "finalized"
        return Landed.of(status.slot, status.err, self._program, is_finalized=is_finalized)

    async def _expire(self, rows: list[Outbox]) -> None:
        """End what is unknown above its last valid block height, by the height and history of one endpoint."""
        at = await self._rpc.get_epoch_info()
        old = [row for row in rows if at.block_height > row.last_valid_block_height][:MAX_STATUSES]
        if not old:
            return
        answer = await self._rpc.get_signature_statuses(_signatures(old), search_history=True)
        if answer.slot < at.absolute_slot:
            return
        for row, status in zip(old, answer.statuses, strict=True):
            if status is None:
                task = await self._steps.journal.task(row.task)
                await self._steps.take(task, on_expired(row, task))


def _signatures(rows: list[Outbox]) -> list[Signature]:
    return [Signature.from_string(row.signature) for row in rows]
