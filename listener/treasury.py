"""The node's balance over time: under a floor no new task is taken, above a ceiling the rest goes to a cold address."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer

from listener.alarms import Alarm, sound
from listener.chain.agreement import Agreement, Question
from listener.chain.rpc import Commitment, Rpc
from listener.chain.transactions import sign_transaction
from listener.compute_units import UNITS_PER_BUILTIN, limit_for
from listener.decisions import Decision
from listener.fees import BASE_FEE, price_within, priority_fee, share_of
from listener.journal.changes import Sweep
from listener.journal.states import WaitsFor
from listener.market import Market
from listener.purse import Purse
from listener.settings import ListenerSettings
from listener.steps import Steps
from shared.clock import Clock
from shared.errors import ChainError, StateConflict
from shared.ids import Lamports, Slot
from shared.logs import fields

INTERVAL_S: Final = 60.0
BELOW_INTERVAL_S: Final = 10.0
"""Between two looks at a balance that keeps the intake closed."""
LEAST_SWEEP: Final = Lamports(1_000_000)
"""A new account must hold nearly so much, and a hundred of its fees."""
SWEEP_UNITS: Final = 3 * UNITS_PER_BUILTIN

log = logging.getLogger("listener.treasury")


@dataclass(frozen=True, slots=True)
class TreasuryTerms:
    """Lamports. Without a cold address nothing is swept."""

    floor: int
    ceiling: int
    cold: Pubkey | None
    fee_share: float

    @classmethod
    def of(cls, settings: ListenerSettings) -> "TreasuryTerms":
        cold = settings.sweep_address
        return cls(
            floor=settings.balance_floor_lamports,
            ceiling=settings.sweep_above_lamports or 0,
            cold=None if cold is None else Pubkey.from_string(cold),
            fee_share=settings.fee_share,
        )


def to_sweep(balance: int, in_flight: int, fee: int, terms: TreasuryTerms) -> Lamports:
    """What of `balance` goes to the cold address; 0 where it is not worth its fee.

    `in_flight` is what signatures take that may still land.
    """
    rest = balance - in_flight - fee - max(terms.ceiling, terms.floor)
    return Lamports(rest if terms.cold is not None and rest >= LEAST_SWEEP else 0)


class Treasury:
    def __init__(
        self,
        agreement: Agreement,
        market: Market,
        purse: Purse,
        key: Keypair,
        steps: Steps,
        terms: TreasuryTerms,
        clock: Clock,
    ) -> None:
        self._agreement = agreement
        self._market = market
        self._purse = purse
        self._key = key
        self._steps = steps
        self._terms = terms
        self._clock = clock
        self._is_above: bool | None = None

    def takes(self) -> bool:
        """Whether new work is taken: not below the floor, nor while the balance was never read."""
        return bool(self._is_above)

    async def check(self) -> tuple[bool, str, str | None]:
        """For /ready."""
        balance = await self._purse.read()
        waiting = sum(task.waits_for is WaitsFor.FUNDS for task in await self._steps.journal.waiting())
        told = f"{balance} lamports, the floor is {self._terms.floor}"
        if waiting:
            told += f"; {waiting} submissions wait for funds"
        is_well = balance >= self._terms.floor and not waiting
        return is_well, told, f"send some SOL to {self._key.pubkey()}: new work is taken above the floor"

    async def run(self, on_recovered: Callable[[], None]) -> None:
        """Until cancelled. `on_recovered` is called when the balance is first seen to be enough, and enough again."""
        while True:
            try:
                balance = await self._purse.read()
                self._mind_floor(balance, on_recovered)
                await self._sweep(balance)
            except (ChainError, StateConflict) as error:
                log.warning("the balance is looked at again later", extra=fields(error=str(error)))
            await self._clock.sleep(INTERVAL_S if self._is_above else BELOW_INTERVAL_S)

    def _mind_floor(self, balance: Lamports, on_recovered: Callable[[], None]) -> None:
        is_above = balance >= self._terms.floor
        if is_above and not self._is_above:
            log.info("the balance is enough", extra=fields(lamports=balance))
            on_recovered()
        elif not is_above and self._is_above is not False:
            sound(Alarm.BELOW_FLOOR, lamports=balance, floor=self._terms.floor, node=str(self._key.pubkey()))
        self._is_above = is_above

    async def _sweep(self, balance: Lamports) -> None:
        """Sign and store; the lander sends it. Raises ChainError, and StateConflict where the journal forbids it."""
        cold, terms = self._terms.cold, self._terms
        if cold is None or not to_sweep(balance, 0, BASE_FEE, terms):
            return
        limit = limit_for(SWEEP_UNITS)
        price = min(await self._market.price(), price_within(share_of(LEAST_SWEEP, terms.fee_share), limit))
        fee = BASE_FEE + priority_fee(price, limit)
        final = await self._final_balance()
        lamports = to_sweep(min(balance, final), await self._purse.in_flight(), fee, terms)
        if not lamports:
            return
        blockhash = await self._market.blockhash()
        away = transfer(TransferParams(from_pubkey=self._key.pubkey(), to_pubkey=cold, lamports=lamports))
        signed = sign_transaction([away], self._key, blockhash.blockhash, limit, price)
        sweep = Sweep(str(signed.signature), signed.raw, blockhash.last_valid_block_height, signed.fee, lamports)
        await self._steps.take(None, Decision((sweep,)))

    async def _final_balance(self) -> Lamports:
        """What two endpoints, where there are two, show at `finalized`."""

        async def read(rpc: Rpc, at_least: Slot, commitment: Commitment) -> tuple[Slot, Lamports]:
            found = await rpc.get_account(self._key.pubkey(), commitment=commitment, min_context_slot=at_least)
            return found.slot, found.account.lamports if found.account else Lamports(0)

        question = Question("the node's balance", read, same=lambda shown: shown[1], slot=lambda shown: shown[0])
        return (await self._agreement.on(question, Slot(0), "finalized"))[1]
