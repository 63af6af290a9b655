"""From a result to a signed transaction: the account is looked at, then signed and stored; the lander sends it."""

from dataclasses import dataclass

from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from listener.chain.idl import Program
from listener.chain.rpc import Commitment, Rpc
from listener.chain.transactions import sign_transaction
from listener.chain_clock import ChainClock
from listener.decisions import Decision, on_time
from listener.journal.changes import Sign
from listener.journal.records import Task
from listener.journal.states import State
from listener.observe import Observer
from listener.settings import ListenerSettings
from listener.steps import Steps


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
        rpc: Rpc,
        program: Program,
        key: Keypair,
        observer: Observer,
        chain_clock: ChainClock,
        steps: Steps,
        terms: Terms,
    ) -> None:
        self._rpc = rpc
        self._program = program
        self._key = key
        self._observer = observer
        self._chain_clock = chain_clock
        self._steps = steps
        self._terms = terms

    async def submit(self, task: Task) -> float:
        """Sign and store, where the assignment still stands and time is left. Returns seconds to wait: none.

        Raises ChainError, such as while the assignment does not stand yet at the operator's commitment.
        """
        await self._observer.observe(task.account, task.verified_slot, commitment=self._terms.commitment)
        task = await self._steps.journal.task(task.id)
        if task.state is not State.COMPUTED:
            return 0.0
        late = on_time(task, await self._chain_clock.now(), self._terms.landing_margin_s)
        if not await self._steps.take(task, late):
            await self._steps.take(task, Decision((await self._signed(task),)))
        return 0.0

    async def _signed(self, task: Task) -> Sign:
        blockhash = await self._rpc.get_latest_blockhash()
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
        accounts = {"assigned_node": self._key.pubkey(), "requester": Pubkey.from_string(task.requester)}
        return self._program.encode_instruction(task.submission, args, accounts)
