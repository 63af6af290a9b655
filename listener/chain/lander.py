"""Lands signed transactions: the same bytes are sent until the chain shows them, or until they cannot land any more.

All of them are watched at once and asked for in one call. What is watched stands in the journal, stored before it was
first sent, so a restart goes on with the same bytes.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

from solders.signature import Signature

from listener.alarms import Alarm, sound
from listener.chain.agreement import Agreement, Question
from listener.chain.budget import Urgency
from listener.chain.endpoints import Endpoints
from listener.chain.ends import agreed, end_of, is_end
from listener.chain.idl import Program
from listener.chain.rpc import MAX_STATUSES, Commitment, Rpc, Status, Statuses
from listener.chain.tip import Tip
from listener.chain.when_to_ask import Pace, WhenToAsk
from listener.journal.records import Outbox, Task
from listener.journal.states import OutboxStatus
from listener.landing import Landed, on_expired, on_landed, on_lost
from listener.steps import Steps
from shared.clock import Clock
from shared.errors import ChainError, Disputed, RpcUnavailable, StateConflict
from shared.ids import Slot
from shared.logs import fields

LAG_S: Final = 60.0
"""So long one endpoint may call confirmed what another calls finalized, before they are taken to disagree."""

log = logging.getLogger("listener.lander")


class Lander:
    def __init__(
        self,
        endpoints: Endpoints,
        agreement: Agreement,
        program: Program,
        steps: Steps,
        pace: Pace,
        tip: Tip,
        clock: Clock,
    ) -> None:
        self._endpoints = endpoints
        self._agreement = agreement
        self._program = program
        self._steps = steps
        self._pace = pace
        self._clock = clock
        self._when = WhenToAsk(tip, pace, clock)
        self._wake = asyncio.Event()
        self._watched: frozenset[str] = frozenset()
        self._sent_at: dict[int, float] = {}
        self._ended_at: dict[int, float] = {}
        """When one endpoint first told of an end that another does not tell of."""

    def changed(self, _task: int | None = None) -> None:
        """A signature may be new."""
        self._wake.set()

    def notices(self, signature: str) -> bool:
        """Whether a notified transaction is one of those that are watched; then its status is asked at once."""
        if signature not in self._watched:
            return False
        self._when.notice(signature)
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
        landed = [row for row in watched if row.status is not OutboxStatus.SIGNED]
        self._ended_at = {row.id: self._ended_at[row.id] for row in watched if row.id in self._ended_at}
        await self._send_due([row for row in flying if not row.superseded])
        if self._when.landed(landed):
            await self._settle(landed)
        if self._when.flying(flying):
            unknown = await self._look_for(flying)
            if self._when.expiry(unknown):
                await self._expire(unknown)

    async def _send_due(self, rows: list[Outbox]) -> None:
        now = self._clock.monotonic()
        self._sent_at = {row.id: self._sent_at[row.id] for row in rows if row.id in self._sent_at}
        due = [row for row in rows if now - self._sent_at.get(row.id, -1e9) >= self._pace.resend_interval_s]
        for row in due:
            self._sent_at[row.id] = now
        async with asyncio.TaskGroup() as group:
            for row in due:
                group.create_task(self._send(row))

    async def _send(self, row: Outbox) -> None:
        try:
            raw = await self._steps.journal.raw(row.id)
            await self._endpoints.tell_all(lambda rpc: rpc.send_transaction(raw, skip_preflight=True))
        except ChainError as error:
            log.warning("not sent", extra=fields(signature=row.signature, error=str(error)))

    async def _look_for(self, rows: list[Outbox]) -> list[Outbox]:
        """See which have landed, by one endpoint. Returns those of which it knows nothing."""
        unknown: list[Outbox] = []
        ended: list[Outbox] = []
        for part in _parts(rows):
            question = partial(_statuses, signatures=_signatures(part), history=False)
            answer = await self._endpoints.ask(question, Urgency.SUBMIT)
            told = list(zip(part, answer.statuses, strict=True))
            unknown += [row for row, status in told if status is None]
            ended += [row for row, status in told if is_end(row, status)]
            await _all(self._apply(row, status) for row, status in told if not is_end(row, status))
        await self._settle(ended)
        return unknown

    async def _settle(self, rows: list[Outbox]) -> None:
        """An end, and that what had landed is gone, counts where two endpoints say so: all are asked for at once.

        Where they differ about one, that one is asked for alone.
        """
        for part in _parts(rows):
            question = partial(_statuses, signatures=_signatures(part), history=True)
            answers = await self._agreement.each(question, Urgency.SUBMIT)
            await _all(self._settle_one(row, place, answers) for place, row in enumerate(part))

    async def _settle_one(self, row: Outbox, place: int, answers: list[Statuses]) -> None:
        told = agreed(row, place, answers)
        is_told = any(is_end(row, answer.statuses[place]) for answer in answers)
        if told is not None and is_told and not is_end(row, told.status):
            first_told_at = self._ended_at.setdefault(row.id, self._clock.monotonic())
            told = told if self._clock.monotonic() - first_told_at < LAG_S else None
        with _disputes_alarmed(row):
            await self._apply(row, await self._judged(row) if told is None else told.status)

    async def _judged(self, row: Outbox) -> Status | None:
        """What the endpoints agree on when they are asked once more. Raises Disputed."""

        async def read(rpc: Rpc, at_least: Slot, _: Commitment) -> tuple[Slot, Status | None]:
            answer = await _statuses(rpc, signatures=_signatures([row]), history=True)
            if answer.slot < at_least:
                raise RpcUnavailable(f"statuses of slot {answer.slot}, before {at_least}")
            return answer.slot, answer.statuses[0]

        about = f"signature {row.signature}"
        question = Question(
            about, read, same=lambda told: end_of(told[1]), slot=lambda told: told[0], patience_s=0.0
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
        self._when.saw(at)
        over = [row for row in rows if at.block_height > row.last_valid_block_height]
        for part in _parts(over):
            try:
                await self._end_expired(part)
            except Disputed:  # about some of them, which hold up no other
                for row in part:
                    with _disputes_alarmed(row):
                        await self._end_expired([row])

    async def _end_expired(self, rows: list[Outbox]) -> None:
        unexpired: list[Outbox] = []
        for row, has_expired in zip(rows, await self._have_expired(rows), strict=True):
            if has_expired:
                task = await self._task_of(row)
                await self._steps.take(task, on_expired(row, task))
            else:
                unexpired.append(row)
        # What landed while nobody could be asked stands in the history, and in no endpoint's recent statuses.
        await self._settle(unexpired)

    async def _task_of(self, row: Outbox) -> Task | None:
        return None if row.task is None else await self._steps.journal.task(row.task)

    async def _have_expired(self, rows: list[Outbox]) -> list[bool]:
        async def read(rpc: Rpc, at_least: Slot, _: Commitment) -> tuple[Slot, list[bool]]:
            at = await rpc.get_epoch_info()
            if at.absolute_slot < at_least:
                raise RpcUnavailable(f"a block height of slot {at.absolute_slot}, before {at_least}")
            answer = await _statuses(rpc, signatures=_signatures(rows), history=True)
            is_whole = answer.slot >= at.absolute_slot
            over = [is_whole and at.block_height > row.last_valid_block_height for row in rows]
            told = zip(over, answer.statuses, strict=True)
            return at.absolute_slot, [is_over and status is None for is_over, status in told]

        about = "the expiry of " + ", ".join(row.signature for row in rows)
        question = Question(
            about, read, same=lambda told: tuple(told[1]), slot=lambda told: told[0], patience_s=0.0
        )
        return (await self._agreement.on(question, Slot(0), "confirmed", Urgency.SUBMIT))[1]


@contextmanager
def _disputes_alarmed(row: Outbox) -> Iterator[None]:
    """What endpoints disagree on stays as it is until they agree; the others' ends do not wait for it."""
    try:
        yield
    except Disputed as error:
        sound(Alarm.DISPUTED, signature=row.signature, error=str(error))


async def _all(steps: Iterable[Coroutine[None, None, None]]) -> None:
    """Each of them, whatever becomes of the others: their commits go to the disk together. Raises the first error."""
    outcomes = await asyncio.gather(*steps, return_exceptions=True)
    for outcome in outcomes:
        if outcome is not None:
            raise outcome


def _parts(rows: list[Outbox]) -> Iterator[list[Outbox]]:
    """As many as one question may name."""
    for start in range(0, len(rows), MAX_STATUSES):
        yield rows[start : start + MAX_STATUSES]


async def _statuses(rpc: Rpc, *, signatures: list[Signature], history: bool) -> Statuses:
    return await rpc.get_signature_statuses(signatures, search_history=history)


def _signatures(rows: list[Outbox]) -> list[Signature]:
    return [Signature.from_string(row.signature) for row in rows]
