"""From a result that may be submitted to a signed transaction in the journal: what it bids, and for how many units."""

import logging
from dataclasses import dataclass
from typing import Final

from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from listener.chain.budget import Urgency
from listener.chain.endpoints import Endpoints
from listener.chain.idl import Program
from listener.chain.rpc import Simulation
from listener.chain.transactions import sign_transaction, unsigned_transaction
from listener.compute_units import MAX_LIMIT, UNITS_PER_BUILTIN, limit_for, of_reference_program
from listener.decisions import Decision
from listener.fees import BASE_FEE, Moment, price, price_within, share_of, waits_for_cheaper_slots
from listener.journal.changes import Sign
from listener.journal.records import Outbox, Task
from listener.journal.states import OutboxStatus, SubmissionKind
from listener.landing import OUT_OF_UNITS, Landed, on_rejected_too_often, on_simulated
from listener.market import Market
from listener.settings import ListenerSettings
from listener.steps import Steps
from shared.logs import fields

AGAIN_S: Final = 2.0
"""Between two tries to sign what could not be signed now."""
CHEAPER_AGAIN_S: Final = 5.0

log = logging.getLogger("listener.signing")


@dataclass(frozen=True, slots=True)
class SigningTerms:
    """`compute_unit_limit` None: by what the submission needs, which is known of the reference program."""

    fee_share: float
    compute_unit_limit: int | None
    is_reference_program: bool

    @classmethod
    def of(cls, settings: ListenerSettings) -> "SigningTerms":
        return cls(settings.fee_share, settings.compute_unit_limit, settings.idl is None)


class Signer:
    def __init__(
        self,
        endpoints: Endpoints,
        market: Market,
        program: Program,
        key: Keypair,
        steps: Steps,
        terms: SigningTerms,
    ) -> None:
        self._endpoints = endpoints
        self._market = market
        self._program = program
        self._key = key
        self._steps = steps
        self._terms = terms
        self._simulated_units: dict[tuple[SubmissionKind, int], int] = {}

    async def sign(self, task: Task, now: float) -> float:
        """Sign and store. `now` is Unix seconds by the chain's clock. Returns seconds to wait before more.

        Raises ChainError.
        """
        earlier = await self._steps.journal.signatures_of(task.id)
        if await self._steps.take(task, on_rejected_too_often(task, earlier)):
            return 0.0
        blockhash = await self._market.blockhash()
        instruction = self._instruction(task)
        units = await self._units(task, instruction, blockhash.blockhash)
        if isinstance(units, Landed):
            log.warning("the program would refuse it", extra=fields(**task.log_fields, error=units.error))
            return 0.0 if await self._steps.take(task, on_simulated(task, units)) else AGAIN_S
        limit = self._terms.compute_unit_limit or limit_for(units, _ran_out(earlier))
        bid = await self._bid(task, limit, len(earlier), now)
        if bid is None:
            log.info("slots cost more than its share", extra=fields(**task.log_fields))
            return CHEAPER_AGAIN_S
        signed = sign_transaction([instruction], self._key, blockhash.blockhash, limit, bid)
        sign = Sign(
            task.id,
            task.submission,
            task.attempt,
            str(signed.signature),
            signed.raw,
            blockhash.last_valid_block_height,
            signed.fee,
        )
        await self._steps.take(task, Decision((sign,)))
        return 0.0

    async def _bid(self, task: Task, limit: int, earlier: int, now: float) -> int | None:
        """Micro-lamports for each compute unit; None: it waits for cheaper slots."""
        cap = price_within(max(0, share_of(task.reward, self._terms.fee_share) - BASE_FEE), limit)
        going = await self._market.price()
        moment = Moment(task.end - now, self._market.life_s(), is_in_notice=bool(task.refund_at))
        is_paid = task.submission is SubmissionKind.COMPLETED
        if is_paid and self._market.moves and waits_for_cheaper_slots(going, cap, moment):
            return None
        return price(going, cap, earlier, limit, moment)

    async def _units(self, task: Task, instruction: Instruction, blockhash: Hash) -> int | Landed:
        """The chain's compute units that it takes, or how the program would refuse it.

        Without a described account the program alone knows whether it would pay, so each completion is simulated.
        """
        is_asked = self._program.by_transactions is not None and task.submission is SubmissionKind.COMPLETED
        if self._terms.is_reference_program and not is_asked:
            return of_reference_program(len(instruction.data)) + 2 * UNITS_PER_BUILTIN
        shape = task.submission, len(instruction.data)
        if is_asked or (self._terms.compute_unit_limit is None and shape not in self._simulated_units):
            simulated = await self._simulate(instruction, blockhash)
            if simulated.err is not None:
                return Landed.of(simulated.slot, simulated.err, self._program, is_finalized=False)
            self._simulated_units[shape] = simulated.compute_units or MAX_LIMIT
        return self._simulated_units.get(shape, MAX_LIMIT)

    async def _simulate(self, instruction: Instruction, blockhash: Hash) -> Simulation:
        raw = unsigned_transaction([instruction], self._key.pubkey(), blockhash, MAX_LIMIT, compute_unit_price=1)
        return await self._endpoints.ask(lambda rpc: rpc.simulate_transaction(raw), Urgency.SUBMIT)

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


def _ran_out(earlier: list[Outbox]) -> int:
    """How many of them had too few compute units."""
    return sum(row.status is OutboxStatus.REJECTED and row.error == OUT_OF_UNITS for row in earlier)
