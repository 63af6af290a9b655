"""From a result that may be submitted to a signed transaction in the journal: what it bids, and what pays for it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer

from listener.alarms import Alarm
from listener.chain.agreement import Agreement
from listener.chain.idl import Program
from listener.chain.rpc import LatestBlockhash
from listener.chain.transactions import SignedTransaction, sign_transaction
from listener.compute_units import UNITS_PER_BUILTIN, limit_for
from listener.decisions import Decision
from listener.failure_budget import FailureBudget, is_within
from listener.fees import BASE_FEE, NO_HURRY, Moment, price, price_within, share_of, waits_for_cheaper_slots
from listener.journal.changes import Sign, Spend, Wait
from listener.journal.records import Outbox, Task
from listener.journal.states import OutboxStatus, State, SubmissionKind, WaitsFor
from listener.landing import (
    OUT_OF_UNITS,
    RENT_MISSING,
    Landed,
    Sort,
    on_rejected_too_often,
    on_rent_above_reward,
    on_simulated,
    on_untold,
    sort,
)
from listener.market import Market
from listener.missing_rent import missing_rent
from listener.purse import Purse
from listener.settings import ListenerSettings
from listener.standing import is_newcomer
from listener.steps import Steps
from listener.unit_meter import UnitMeter
from shared.ids import Day, Lamports, day_of
from shared.logs import fields

AGAIN_S: Final = 2.0
"""Between two tries to sign what could not be signed now."""
CHEAPER_AGAIN_S: Final = 5.0
FUNDS_AGAIN_S: Final = 10.0

log = logging.getLogger("listener.signing")


@dataclass(frozen=True, slots=True)
class SigningTerms:
    """`compute_unit_limit` None: by what the submission needs."""

    fee_share: float
    compute_unit_limit: int | None
    failure_budget: FailureBudget
    allowlist: frozenset[str]

    @classmethod
    def of(cls, settings: ListenerSettings) -> "SigningTerms":
        return cls(
            settings.fee_share,
            settings.compute_unit_limit,
            FailureBudget.of(settings),
            settings.requester_allowlist,
        )


class Signer:
    def __init__(
        self,
        agreement: Agreement,
        market: Market,
        meter: UnitMeter,
        purse: Purse,
        program: Program,
        key: Keypair,
        steps: Steps,
        terms: SigningTerms,
    ) -> None:
        self._agreement = agreement
        self._market = market
        self._meter = meter
        self._purse = purse
        self._program = program
        self._key = key
        self._steps = steps
        self._terms = terms
        self._alarmed_on: Day | None = None

    async def is_blocked(self, task: Task) -> bool:
        """Whether it waits for funds, and they have not come."""
        return task.waits_for is WaitsFor.FUNDS and not await self._purse.holds(BASE_FEE)

    async def sign(self, task: Task, now: float) -> float:
        """Sign and store. `now` is Unix seconds by the chain's clock. Returns seconds to wait before more.

        Raises ChainError.
        """
        earlier = await self._steps.journal.signatures_of(task.id)
        if await self._steps.take(task, on_rejected_too_often(task, earlier)):
            return 0.0
        blockhash = await self._market.blockhash()
        instruction = self._instruction(task)
        units = await self._units(task, instruction, blockhash)
        if isinstance(units, Landed):
            return await self._on_refused(task, units)
        rent = await self._rent(task, earlier)
        if await self._steps.take(task, on_rent_above_reward(task, rent)):
            return 0.0
        limit = self._terms.compute_unit_limit or limit_for(
            units + UNITS_PER_BUILTIN * bool(rent), _ran_out(earlier)
        )
        bid = await self._bid(task, limit, len(earlier), now)
        if bid is None:
            return await self._park(task, WaitsFor.CHEAPER_SLOTS, CHEAPER_AGAIN_S)
        signed = self._signed(task, instruction, rent, blockhash, limit, bid)
        return await self._store(task, signed, rent, blockhash, earlier, now)

    async def _units(self, task: Task, instruction: Instruction, blockhash: LatestBlockhash) -> int | Landed:
        if self._terms.compute_unit_limit and not self._meter.must_ask(task.submission):
            return self._terms.compute_unit_limit
        return await self._meter.units(task.submission, instruction, blockhash.blockhash)

    async def _on_refused(self, task: Task, simulated: Landed) -> float:
        log.warning("the program would refuse it", extra=fields(**task.log_fields, error=simulated.error))
        if sort(simulated) is Sort.FUNDS:
            return await self._park(task, WaitsFor.FUNDS, FUNDS_AGAIN_S)
        return 0.0 if await self._steps.take(task, on_simulated(task, simulated)) else AGAIN_S

    async def _rent(self, task: Task, earlier: Sequence[Outbox]) -> Lamports:
        """What the execution's account lacks, where the last signature failed for that."""
        if not earlier or earlier[-1].error != RENT_MISSING or task.submission is not SubmissionKind.COMPLETED:
            return Lamports(0)
        return await missing_rent(self._agreement, task)

    async def _bid(self, task: Task, limit: int, earlier: int, now: float) -> int | None:
        """Micro-lamports for each compute unit; None: it waits for cheaper slots.

        A failure earns nothing: it neither waits, nor bids more since time presses.
        """
        cap = price_within(max(0, share_of(task.reward, self._terms.fee_share) - BASE_FEE), limit)
        going = await self._market.price()
        if task.submission is SubmissionKind.FAILED:
            return price(going, cap, earlier, limit, NO_HURRY)
        moment = Moment(task.end - now, self._market.life_s(), is_in_notice=bool(task.refund_at))
        if self._market.moves and waits_for_cheaper_slots(going, cap, moment):
            return None
        return price(going, cap, earlier, limit, moment)

    def _signed(
        self,
        task: Task,
        instruction: Instruction,
        rent: Lamports,
        blockhash: LatestBlockhash,
        limit: int,
        bid: int,
    ) -> SignedTransaction:
        execution = Pubkey.from_string(task.account)
        top_up = TransferParams(from_pubkey=self._key.pubkey(), to_pubkey=execution, lamports=rent)
        instructions = [transfer(top_up), instruction] if rent else [instruction]
        return sign_transaction(instructions, self._key, blockhash.blockhash, limit, bid)

    async def _store(
        self,
        task: Task,
        signed: SignedTransaction,
        rent: Lamports,
        blockhash: LatestBlockhash,
        earlier: Sequence[Outbox],
        now: float,
    ) -> float:
        day = day_of(now)
        spends = await self._spends(task, signed.fee, earlier, day)
        if not is_within(spends, await self._steps.journal.budgets(day) if spends else {}):
            alarm = None if day == self._alarmed_on else Alarm.FAILURE_BUDGET_SPENT
            self._alarmed_on = day
            await self._steps.take(task, Decision(on_untold(task).changes, alarm))
            return 0.0
        if not await self._purse.pays(signed.fee + rent):
            return await self._park(task, WaitsFor.FUNDS, FUNDS_AGAIN_S)
        sign = Sign(
            task.id,
            task.submission,
            task.attempt,
            str(signed.signature),
            signed.raw,
            blockhash.last_valid_block_height,
            signed.fee,
            rent,
        )
        await self._steps.take(task, Decision((*spends, sign)))
        return 0.0

    async def _spends(self, task: Task, fee: Lamports, earlier: Sequence[Outbox], day: Day) -> tuple[Spend, ...]:
        """What telling a failure takes out of the day's budget: once, however often its signature expires."""
        told = [row for row in earlier if row.kind is SubmissionKind.FAILED]
        is_paid_for = bool(told) and told[-1].status is not OutboxStatus.REJECTED
        if task.ends_as not in (State.FAILED, State.REFUSED) or is_paid_for:
            return ()
        has_paid = await self._steps.journal.has_paid(task.requester)
        return self._terms.failure_budget.spends(
            day, fee, is_newcomer(task.requester, has_paid, self._terms.allowlist)
        )

    async def _park(self, task: Task, waits_for: WaitsFor, pause_s: float) -> float:
        """It stays as it is until that has changed; the operator is told once that funds are missing."""
        if task.waits_for is not waits_for:
            is_alarming = waits_for is WaitsFor.FUNDS and self._purse.block()
            alarm = Alarm.BLOCKED_FUNDS if is_alarming else None
            await self._steps.take(task, Decision((Wait(task.id, task.state, waits_for),), alarm))
        return pause_s

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
