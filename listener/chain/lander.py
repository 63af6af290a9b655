"""Lands signed transactions: the same bytes are sent until the chain shows them, or until they cannot land any more.

All of them are watched at once and asked for in one call. What is watched stands in the journal, stored before it was
first sent, so a restart goes on with the same bytes.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from solders.signature import Signature

from listener.alarms import Alarm, sound
from listener.chain.agreement import Agreement, Question
from listener.chain.budget import Urgency
from listener.chain.endpoints import Endpoints
from listener.chain.idl import Program
from listener.chain.rpc import MAX_STATUSES, Commitment, Rpc, Status, Statuses
from listener.journal.records import Outbox, Task
from listener.journal.states import OutboxStatus
from listener.landing import Landed, on_expired, on_landed, on_lost
from listener.settings import ListenerSettings
from listener.steps import Steps
from shared.clock import Clock
from shared.errors import ChainError, Disputed, RpcUnavailable, StateConflict
from shared.ids import Slot
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
    def __init__(
        self,
        endpoints: Endpoints,
        agreement: Agreement,
        program: Program,
        steps: Steps,
        pace: Pace,
        clock: Clock,
    ) -> None:
        self._endpoints = endpoints
        self._agreement = agreement
        self._program = program
        self._steps = steps
        self._pace = pace
        self._clock = clock
        self._wake = asyncio.Event()
        self._watched: frozenset[str] = frozenset()
        self._sent_at: dict[int, float] = {}
        self._finality_asked_at = -FINALITY_INTERVAL_S
        self._height_asked_at = -EXPIRY_INTERVAL_S

    def changed(self, _task: int | None = None) -> None:
        """A signature may be new."""
        self._wake.set()

    def notices(self, signature: str) -> bool:
        """Whether a notified transaction is one of those that are watched; then its status is asked at once."""
        if signature not in self._watched:
            return False
        self._wake.set()
        return True

    async def run(self) -> None:
        while True:
            self._wake.clear()
            watched = await self._steps.journal.watched()
            self._watched = frozenset(row.signature for row in watched)
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
            raw = await self._steps.journal.raw(row.id)
            await self._endpoints.tell_all(lambda rpc: rpc.send_transaction(raw, skip_preflight=True))
        except ChainError as error:
            log.warning("not sent", extra=fields(signature=row.signature, error=str(error)))

    async def _ask(self, rows: list[Outbox], *, history: bool) -> list[Outbox]:
        """Apply what the chain says of each. Returns those of which it says nothing."""
        unknown: list[Outbox] = []
        for start in range(0, len(rows), MAX_STATUSES):
            part = rows[start : start + MAX_STATUSES]
            signatures = _signatures(part)
            answer = await self._endpoints.ask(
                partial(_statuses, signatures=signatures, history=history), Urgency.SUBMIT
            )
            for row, status in zip(part, answer.statuses, strict=True):
                if status is None:
                    unknown.append(row)
                with _disputes_alarmed(row):
                    await self._apply(row, await self._checked(row, status))
        return unknown

    async def _checked(self, row: Outbox, status: Status | None) -> Status | None:
        """An end, and that what had landed is gone, counts where two endpoints say so."""
        is_end = status is not None and status.confirmation_status == "finalized"
        is_lost = status is None and row.status is not OutboxStatus.SIGNED
        if not (is_end or is_lost):
            return status

        async def read(rpc: Rpc, at_least: Slot, _: Commitment) -> tuple[Slot, Status | None]:
            answer = await _statuses(rpc, signatures=_signatures([row]), history=True)
            if answer.slot < at_least:
                raise RpcUnavailable(f"statuses of slot {answer.slot}, before {at_least}")
            return answer.slot, answer.statuses[0]

        about = f"signature {row.signature}"
        question = Question(
            about, read, same=lambda told: _end(told[1]), slot=lambda told: told[0], patience_s=0.0
        )
        _, status = await self._agreement.on(question, row.slot or Slot(0), "finalized", Urgency.SUBMIT)
        return status

    async def _apply(self, row: Outbox, status: Status | None) -> None:
        if status is None and row.status is OutboxStatus.SIGNED:
            return
        if status is not None and status.confirmation_status == "processed":
            return
        task = await self._task_of(row)
        decision = on_lost(row, task) if status is None else on_landed(row, task, self._landed(status))
        await self._steps.take(task, decision)

    def _landed(self, status: Status) -> Landed:
        is_finalized = status.confirmation_status == "finalized"
        return Landed.of(status.slot, status.err, self._program, is_finalized=is_finalized)

    async def _expire(self, rows: list[Outbox]) -> None:
        """End what is unknown above its last valid block height, where two endpoints say so alike.

        Each of them by its own height and its own history.
        """
        at = await self._endpoints.ask(lambda rpc: rpc.get_epoch_info(), Urgency.SUBMIT)
        for row in rows:
            if at.block_height <= row.last_valid_block_height:
                continue
            with _disputes_alarmed(row):
                if await self._has_expired(row):
                    task = await self._task_of(row)
                    await self._steps.take(task, on_expired(row, task))

    async def _task_of(self, row: Outbox) -> Task | None:
        return None if row.task is None else await self._steps.journal.task(row.task)

    async def _has_expired(self, row: Outbox) -> bool:
        async def read(rpc: Rpc, at_least: Slot, _: Commitment) -> tuple[Slot, bool]:
            at = await rpc.get_epoch_info()
            if at.absolute_slot < at_least:
                raise RpcUnavailable(f"a block height of slot {at.absolute_slot}, before {at_least}")
            answer = await _statuses(rpc, signatures=_signatures([row]), history=True)
            is_over = at.block_height > row.last_valid_block_height and answer.slot >= at.absolute_slot
            return at.absolute_slot, is_over and answer.statuses[0] is None

        about = f"the expiry of {row.signature}"
        question = Question(about, read, same=lambda told: told[1], slot=lambda told: told[0], patience_s=0.0)
        return (await self._agreement.on(question, Slot(0), "confirmed", Urgency.SUBMIT))[1]


@contextmanager
def _disputes_alarmed(row: Outbox) -> Iterator[None]:
    """What endpoints disagree on stays as it is until they agree; the others' ends do not wait for it."""
    try:
        yield
    except Disputed as error:
        sound(Alarm.DISPUTED, signature=row.signature, error=str(error))


async def _statuses(rpc: Rpc, *, signatures: list[Signature], history: bool) -> Statuses:
    return await rpc.get_signature_statuses(signatures, search_history=history)


def _end(status: Status | None) -> object:
    """What two endpoints must say alike of an end."""
    if status is None:
        return None
    return status.slot, str(status.err), status.confirmation_status == "finalized"


def _signatures(rows: list[Outbox]) -> list[Signature]:
    return [Signature.from_string(row.signature) for row in rows]
