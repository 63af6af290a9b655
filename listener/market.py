"""What it takes now to get a transaction into a block: the price that slots cost, a blockhash, and how long one lives.

Each is asked for once for all submissions that want it at the same moment.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from listener.chain.budget import Urgency
from listener.chain.endpoints import Endpoints
from listener.chain.rpc import LatestBlockhash, Rpc
from listener.fees import percentile
from listener.settings import ListenerSettings
from shared.clock import Clock
from shared.errors import ChainError
from shared.logs import fields

PRICE_AGE_S: Final = 5.0
BLOCKHASH_AGE_S: Final = 1.0
"""So much of its life a blockhash may have lost before it is signed with."""
LIFE_AGE_S: Final = 60.0

log = logging.getLogger("listener.market")


@dataclass(frozen=True, slots=True)
class PriceTerms:
    """`percentile` of recent slots' prices; None: always `fixed`, in micro-lamports for each compute unit."""

    fixed: int
    percentile: int | None

    @classmethod
    def of(cls, settings: ListenerSettings) -> "PriceTerms":
        return cls(settings.priority_fee_micro_lamports, settings.priority_fee_percentile)


class Market:
    def __init__(
        self,
        endpoints: Endpoints,
        terms: PriceTerms,
        seconds_per_slot: Callable[[], float | None],
        clock: Clock,
    ) -> None:
        self._endpoints = endpoints
        self._terms = terms
        self._seconds_per_slot = seconds_per_slot
        self._clock = clock
        self._asking = asyncio.Lock()
        self._price: tuple[int, float] | None = None
        self._blockhash: tuple[LatestBlockhash, float] | None = None
        self._blocks: tuple[int, float] | None = None

    @property
    def moves(self) -> bool:
        """Whether slots may cost less after a while."""
        return self._terms.percentile is not None

    async def price(self) -> int:
        """Micro-lamports for each compute unit. Where it cannot be read: the last one, else the fixed one."""
        if self._terms.percentile is None:
            return self._terms.fixed
        async with self._asking:
            if self._price is None or self._age_s(self._price[1]) > PRICE_AGE_S:
                try:
                    price = percentile(
                        await self._endpoints.ask(_recent_fees, Urgency.SUBMIT), self._terms.percentile
                    )
                except ChainError as error:
                    log.warning("the price of slots cannot be read", extra=fields(error=str(error)))
                    price = self._price[0] if self._price else self._terms.fixed
                self._price = price, self._clock.monotonic()
            return self._price[0]

    async def blockhash(self) -> LatestBlockhash:
        """Raises ChainError."""
        async with self._asking:
            if self._blockhash is None or self._age_s(self._blockhash[1]) > BLOCKHASH_AGE_S:
                await self._ask_blockhash()
            assert self._blockhash is not None
            return self._blockhash[0]

    async def _ask_blockhash(self) -> None:
        asked_at = self._clock.monotonic()
        if self._blocks is not None and self._age_s(self._blocks[1]) <= LIFE_AGE_S:
            found = await self._endpoints.ask(lambda rpc: rpc.get_latest_blockhash(), Urgency.SUBMIT)
        else:
            found, height = await self._endpoints.ask(_blockhash_and_height, Urgency.SUBMIT)
            self._blocks = found.last_valid_block_height - height, asked_at
        self._blockhash = found, asked_at

    def life_s(self) -> float | None:
        """Seconds that a new blockhash lives; None while that was not measured."""
        seconds = self._seconds_per_slot()
        return None if self._blocks is None or seconds is None else self._blocks[0] * seconds

    def _age_s(self, since: float) -> float:
        return self._clock.monotonic() - since


async def _recent_fees(rpc: Rpc) -> list[int]:
    return await rpc.get_recent_prioritization_fees()


async def _blockhash_and_height(rpc: Rpc) -> tuple[LatestBlockhash, int]:
    found = await rpc.get_latest_blockhash()
    return found, (await rpc.get_epoch_info()).block_height
