"""Whether a result may be submitted: the account is looked at, then it is signed and stored; the lander sends it."""

import logging
from dataclasses import dataclass
from typing import Final

from solders.signature import Signature

from listener.chain.agreement import Agreement, Question
from listener.chain.budget import Urgency
from listener.chain.idl import Program
from listener.chain.rpc import Commitment, Rpc
from listener.chain_clock import ChainClock
from listener.computation import on_time
from listener.decisions import may_be_signed, on_completed_before
from listener.journal.records import Task
from listener.journal.states import WATCHED, State, SubmissionKind
from listener.observe import Observer
from listener.settings import ListenerSettings
from listener.signing import FUNDS_AGAIN_S, Signer
from listener.steps import Steps
from shared.errors import RpcUnavailable
from shared.ids import Slot
from shared.logs import fields

AGAIN_S: Final = 2.0
"""Between two looks at an account that does not show what would be signed for."""

log = logging.getLogger("listener.submission")


@dataclass(frozen=True, slots=True)
class Terms:
    """What the operator set for every submission."""

    commitment: Commitment
    landing_margin_s: float

    @classmethod
    def of(cls, settings: ListenerSettings) -> "Terms":
        return cls(settings.submit_commitment, settings.landing_margin_s)


class Submission:
    def __init__(
        self,
        agreement: Agreement,
        program: Program,
        signer: Signer,
        observer: Observer,
        chain_clock: ChainClock,
        steps: Steps,
        terms: Terms,
    ) -> None:
        self._agreement = agreement
        self._program = program
        self._signer = signer
        self._observer = observer
        self._chain_clock = chain_clock
        self._steps = steps
        self._terms = terms

    async def submit(self, task: Task) -> float:
        """Sign and store, where the assignment still stands and time is left. Returns seconds to wait before more.

        Raises ChainError, such as while the assignment does not stand yet at the operator's commitment.
        """
        return FUNDS_AGAIN_S if await self._signer.is_blocked(task) else await self._look_and_sign(task)

    async def _look_and_sign(self, task: Task) -> float:
        view = await self._observer.observe(task.account, task.verified_slot, commitment=self._terms.commitment)
        task = await self._steps.journal.task(task.id)
        if task.state is not State.COMPUTED:
            return 0.0
        names_attempt = self._program.takes_attempt(task.submission)
        if not may_be_signed(view.sighting, task, names_attempt=names_attempt):
            shown = view.sighting.state.value if view.sighting else None
            log.warning("the account does not show this attempt", extra=fields(**task.log_fields, shown=shown))
            return AGAIN_S
        landed_before = await self._may_have_landed_before(task, view.slot)
        # Asked after it: what was seen as final in between is watched no more, and stands as completed.
        if await self._steps.journal.is_completed(task.pair_hash):
            await self._steps.take(task, on_completed_before(task))
            return 0.0
        if landed_before:
            log.warning("an older signature of the pair may have been paid", extra=fields(**task.log_fields))
            return AGAIN_S
        now = await self._chain_clock.now()
        if await self._steps.take(task, on_time(task, now, self._terms.landing_margin_s)):
            return 0.0
        return await self._signer.sign(task, now)

    async def _may_have_landed_before(self, task: Task, at: Slot) -> bool:
        """Whether a completion under an earlier attempt, whose answer was lost, was paid before this one began.

        Above the slot in which the account was assigned again it cannot land any more, so one answer is enough; but
        what does not name its attempt could still end this one, so the lander must have seen the end of it.
        """
        rows = [
            row
            for attempt in await self._steps.journal.tasks_of(task.key)
            for row in await self._steps.journal.signatures_of(attempt.id)
            if row.superseded and row.status in WATCHED
        ]
        if any(not self._program.takes_attempt(row.kind) for row in rows):
            return True
        older = [Signature.from_string(row.signature) for row in rows if row.kind is SubmissionKind.COMPLETED]
        if not older:
            return False

        async def read(rpc: Rpc, at_least: Slot, _: Commitment) -> tuple[Slot, bool]:
            answer = await rpc.get_signature_statuses(older, search_history=True)
            if answer.slot < at_least:
                raise RpcUnavailable(f"statuses of slot {answer.slot}, before {at_least}")
            return answer.slot, any(status is not None and status.err is None for status in answer.statuses)

        about = f"older signatures of {task.execution_id}/{task.task_id}"
        question = Question(about, read, same=lambda told: told[1], slot=lambda told: told[0])
        return (await self._agreement.on(question, at, "confirmed", Urgency.SUBMIT))[1]
