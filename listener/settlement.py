"""What an ended task still owes: compute is told to stop, and, once the end stands at `finalized`, to forget it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

from listener.chain.accounts import ExecutionState
from listener.compute_client import ComputeClient, Storing
from listener.decisions import NOTHING, Decision, Sighting
from listener.journal.changes import Change, Complete, Move, Observe, Owe
from listener.journal.records import Outbox, Task
from listener.journal.states import ENDED, WATCHED, OutboxStatus, Owed, State, SubmissionKind
from listener.landing import Landed, books, loss
from listener.look import Look
from listener.steps import Steps
from shared.clock import Clock
from shared.errors import ChainError, ComputeError, StateConflict
from shared.ids import Attempt
from shared.logs import fields

AT_ONCE: Final = 16
AGAIN_S: Final = 5.0
"""Between two tries for what could not be settled: compute is away, or the end is not finalized."""

log = logging.getLogger("listener.settlement")

PAID_ELSEWHERE: Final = "PaidByAnotherSignature"
FAILED_ELSEWHERE: Final = "FailedByAnotherSignature"
PAID_LATE: Final = "PaidThoughCalledExpired"
FAILED_LATE: Final = "FailedThoughCalledExpired"

FinalTime = Callable[[], Awaitable[float]]
"""Unix seconds by the Clock of the newest finalized bank."""


class Settlement:
    def __init__(
        self, steps: Steps, compute: ComputeClient, look: Look, final_time: FinalTime, clock: Clock
    ) -> None:
        self._clock = clock
        self._places = asyncio.Semaphore(AT_ONCE)
        self._steps = steps
        self._compute = compute
        self._look = look
        self._final_time = final_time
        self._wake = asyncio.Event()

    def changed(self, _task: int | None = None) -> None:
        self._wake.set()

    async def run(self) -> None:
        tried_at: dict[tuple[int, Owed], float] = {}
        while True:
            self._wake.clear()
            owing = {(task.id, task.owed): task for task in await self._steps.journal.owing()}
            now = self._clock.monotonic()
            tried_at = {debt: at for debt, at in tried_at.items() if debt in owing and now - at < AGAIN_S}
            due = [task for debt, task in owing.items() if debt not in tried_at]
            # What runs on is stopped before anything is tidied up.
            due.sort(key=lambda task: task.owed is not Owed.STOP)
            tried_at |= dict.fromkeys(((task.id, task.owed) for task in due), now)
            async with asyncio.TaskGroup() as group:
                for task in due:
                    group.create_task(self._settle(task))
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S if owing else None):
                    await self._wake.wait()

    async def _settle(self, task: Task) -> None:
        try:
            async with self._places:
                await _PAY_OFF[task.owed](self, task)
        except StateConflict:
            self._wake.set()
        except (ComputeError, ChainError) as error:
            log.warning("not settled yet", extra=fields(**task.log_fields, owed=task.owed.value, error=str(error)))

    async def _stop(self, task: Task) -> None:
        held = await self._attempt_at_compute(task)
        if not isinstance(await self._compute.stop(task.key, held, force=True), Storing):
            await self._steps.take(task, Decision((Owe(task.id, Owed.STOP, Owed.UNPAID),)))

    async def _acknowledge_unpaid(self, task: Task) -> None:
        if task.state not in ENDED:
            return  # it was stopped to be handed back
        for attempt in await self._steps.journal.tasks_of(task.key):
            if any(row.status in WATCHED for row in await self._steps.journal.signatures_of(attempt.id)):
                return  # one of them may have been paid
        if task.state in (State.CANCELLED, State.MISSED):
            seen = await self._look.at(task.account, task.verified_slot, "finalized", is_new=False)
            signed = await self._steps.journal.signatures_of(task.id)
            decision = on_final_account(task, seen.sighting, await self._final_time(), signed)
            if decision is None or await self._steps.take(task, decision):
                return
        # Compute knows the objects of a pair, not of an attempt: an earlier one may have been paid for them.
        was_paid = await self._steps.journal.is_completed(task.pair_hash)
        await self._acknowledge(task, paid=was_paid)
        await self._steps.take(task, on_unpaid(task))

    async def _acknowledge_paid(self, task: Task) -> None:
        await self._acknowledge(task, paid=True)
        await self._steps.take(task, Decision((Owe(task.id, Owed.PAID, Owed.NOTHING),)))

    async def _acknowledge(self, task: Task, *, paid: bool) -> None:
        held = await self._attempt_at_compute(task)
        await self._compute.acknowledge(task.key, held, task.requester, paid=paid)

    async def _attempt_at_compute(self, task: Task) -> Attempt:
        """Under which number compute has it: a task that went on under a higher one while compute was away was never
        posted again. What compute has under another attempt's number is that one's: of a later task, or of a lower one
        that goes on since a fork took this one back. An operator's own is no task.
        """
        held = await self._compute.status(task.key, 0, None)
        if held is None or held.requester != task.requester or held.attempt > task.attempt:
            return task.attempt
        others = {row.attempt for row in await self._steps.journal.tasks_of(task.key) if row.id != task.id}
        return task.attempt if held.attempt in others else held.attempt


_PAY_OFF: Final = {
    Owed.STOP: Settlement._stop,
    Owed.UNPAID: Settlement._acknowledge_unpaid,
    Owed.PAID: Settlement._acknowledge_paid,
}


def on_unpaid(task: Task) -> Decision:
    """Its end is final, and compute has dropped what it kept."""
    settled = Owe(task.id, Owed.UNPAID, Owed.NOTHING)
    was_computed = task.result is not None and task.result.success
    return Decision((settled, loss(task)) if was_computed else (settled,))


def on_final_account(
    task: Task, seen: Sighting | None, final_time: float, signed: Sequence[Outbox]
) -> Decision | None:
    """What the account, read at `finalized`, says of a task that ended without one of its signatures, `signed`.

    None: its end is not final yet. NOTHING: it ended unpaid. Else it was ended by another signature of this key, or by
    one of its own that was called expired: by an endpoint alone, whose history does not reach back to it.
    It was read at a slot not below the one in which the task was seen last: what shows another attempt, a lower one
    too (a fork took this one back), is final.
    """
    if seen is None or seen.assignment.attempt != task.attempt:
        return NOTHING
    match seen.state:
        case ExecutionState.COMPLETED:
            late = _landed_late(SubmissionKind.COMPLETED, task, seen, signed)
            reason = PAID_LATE if late else PAID_ELSEWHERE
            paid = Move(task.id, task.state, State.PAID, reason, owed=Owed.PAID)
            return Decision((paid, Complete(task.pair_hash), *late))
        case ExecutionState.FAILED:
            late = _landed_late(SubmissionKind.FAILED, task, seen, signed)
            reason = FAILED_LATE if late else FAILED_ELSEWHERE
            return Decision((Move(task.id, task.state, State.FAILED, reason, owed=Owed.UNPAID), *late))
        case _:
            return NOTHING if final_time > seen.assignment.end else None


def _landed_late(kind: SubmissionKind, task: Task, seen: Sighting, signed: Sequence[Outbox]) -> tuple[Change, ...]:
    """Books the expired signature that did what the account shows. Of several it was the last, as far as is known."""
    expired = [row for row in signed if row.status is OutboxStatus.EXPIRED]
    fitting = [row for row in expired if (row.kind, row.attempt) == (kind, task.attempt)]
    if not fitting:
        return ()
    landed = Landed(seen.assignment.verified_slot, is_finalized=True)
    observed = Observe(fitting[-1].id, OutboxStatus.EXPIRED, OutboxStatus.FINALIZED, landed.slot)
    return observed, *books(fitting[-1], task, landed)
