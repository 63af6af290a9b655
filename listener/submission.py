"""From a result to a signed transaction: the account is looked at, then signed and stored; the lander sends it."""

import logging
from dataclasses import dataclass
from typing import Final

from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from listener.chain.agreement import Agreement, Question
from listener.chain.budget import Urgency
from listener.chain.endpoints import Endpoints
from listener.chain.idl import Program
from listener.chain.rpc import Commitment, LatestBlockhash, Rpc
from listener.chain.transactions import sign_transaction, unsigned_transaction
from listener.chain_clock import ChainClock
from listener.computation import on_time
from listener.decisions import Decision, may_be_signed, on_completed_before
from listener.journal.changes import Sign
from listener.journal.records import Task
from listener.journal.states import WATCHED, State, SubmissionKind
from listener.landing import Landed, on_simulated
from listener.observe import Observer
from listener.settings import ListenerSettings
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
    compute_unit_limit: int
    priority_fee_micro_lamports: int

    @classmethod
    def of(cls, settings: ListenerSettings) -> "Terms":
        return cls(
            commitment=settings.submit_commitment,
            landing_margin_s=settings.landing_margin_s,
            compute_unit_limit=settings.compute_unit_limit,
            priority_fee_micro_lamports=settings.priority_fee_micro_lamports,
        )


class Submission:
    def __init__(
        self,
        endpoints: Endpoints,
        agreement: Agreement,
        program: Program,
        key: Keypair,
        observer: Observer,
        chain_clock: ChainClock,
        steps: Steps,
        terms: Terms,
    ) -> None:
        self._endpoints = endpoints
        self._agreement = agreement
        self._program = program
        self._key = key
        self._observer = observer
        self._chain_clock = chain_clock
        self._steps = steps
        self._terms = terms

    async def submit(self, task: Task) -> float:
        """Sign and store, where the assignment still stands and time is left. Returns seconds to wait before more.

        Raises ChainError, such as while the assignment does not stand yet at the operator's commitment.
        """
        view = await self._observer.observe(task.account, task.verified_slot, commitment=self._terms.commitment)
        task = await self._steps.journal.task(task.id)
        if task.state is not State.COMPUTED:
            return 0.0
        names_attempt = self._program.takes_attempt(task.submission)
        if not may_be_signed(view.sighting, task, names_attempt=names_attempt):
            shown = view.sighting.state.value if view.sighting else None
            log.warning("the account does not show this attempt", extra=fields(**task.log_fields, shown=shown))
            return AGAIN_S
        if await self._steps.journal.is_completed(task.pair_hash):
            await self._steps.take(task, on_completed_before(task))
            return 0.0
        if await self._may_have_landed_before(task, view.slot):
            log.warning("an older signature of the pair may have been paid", extra=fields(**task.log_fields))
            return AGAIN_S
        late = on_time(task, await self._chain_clock.now(), self._terms.landing_margin_s)
        if await self._steps.take(task, late):
            return 0.0
        return await self._sign(task)

    async def _sign(self, task: Task) -> float:
        blockhash = await self._endpoints.ask(lambda rpc: rpc.get_latest_blockhash(), Urgency.SUBMIT)
        if self._program.by_transactions is not None and task.submission is SubmissionKind.COMPLETED:
            simulated = await self._simulated(task, blockhash.blockhash)
            if simulated.error is not None:
                log.warning("the program would refuse it", extra=fields(**task.log_fields, error=simulated.error))
                return 0.0 if await self._steps.take(task, on_simulated(task, simulated)) else AGAIN_S
        await self._steps.take(task, Decision((self._signed(task, blockhash),)))
        return 0.0

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

    async def _simulated(self, task: Task, blockhash: Hash) -> Landed:
        """What the program would say now. Without a described account it alone knows whether it would pay."""
        raw = unsigned_transaction(
            [self._instruction(task)],
            self._key.pubkey(),
            blockhash,
            compute_unit_limit=self._terms.compute_unit_limit,
            compute_unit_price=self._terms.priority_fee_micro_lamports,
        )
        answer = await self._endpoints.ask(lambda rpc: rpc.simulate_transaction(raw), Urgency.SUBMIT)
        return Landed.of(answer.slot, answer.err, self._program, is_finalized=False)

    def _signed(self, task: Task, blockhash: LatestBlockhash) -> Sign:
        signed = sign_transaction(
            [self._instruction(task)],
            self._key,
            blockhash.blockhash,
            compute_unit_limit=self._terms.compute_unit_limit,
            compute_unit_price=self._terms.priority_fee_micro_lamports,
        )
        return Sign(
            task.id,
            task.submission,
            task.attempt,
            str(signed.signature),
            signed.raw,
            blockhash.last_valid_block_height,
            signed.fee,
        )

    def _instruction(self, task: Task) -> Instruction:
        """`task_completed` or `task_failed`; the encoder takes of these what the program's IDL asks for."""
        assert task.result is not None
        args = {
            "execution_id": task.execution_id,
            "task_id": task.task_id,
            "attempt": task.attempt,
            "output_uris": task.result.output_uris,
            "execution_time": task.result.execution_time,
            "error_message": task.result.error_message or "",
        }
        accounts = {
            "execution": Pubkey.from_string(task.account),
            "assigned_node": self._key.pubkey(),
            "requester": Pubkey.from_string(task.requester),
        }
        return self._program.encode_instruction(task.submission, args, accounts)
