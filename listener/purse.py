"""What the node can pay now: its balance, less what is signed and may still land."""

import asyncio
from typing import Final

from solders.pubkey import Pubkey

from listener.chain.agreement import Agreement
from listener.journal.journal import Journal
from listener.journal.states import OutboxStatus
from shared.clock import Clock
from shared.ids import Lamports

MAX_AGE_S: Final = 90.0
SHORT_AGE_S: Final = 2.0
"""Where it would not pay, a balance that was read so long ago is read again."""


class Purse:
    def __init__(self, agreement: Agreement, journal: Journal, node: Pubkey, clock: Clock) -> None:
        self._agreement = agreement
        self._journal = journal
        self._node = node
        self._clock = clock
        self._reading = asyncio.Lock()
        self._balance: tuple[Lamports, float] | None = None
        self._rent: Lamports | None = None
        self._promised = 0
        """Of the last balance that was read, what is or will be signed for."""
        self._is_blocked = False

    @property
    def balance(self) -> Lamports | None:
        """The last that was read."""
        return None if self._balance is None else self._balance[0]

    async def pays(self, lamports: int) -> bool:
        """Take so many out of it, where it holds them. Raises ChainError."""
        is_held = await self.holds(lamports)
        if is_held:
            self._promised += lamports
            self._is_blocked = False
        return is_held

    async def holds(self, lamports: int) -> bool:
        """Whether it would pay so many, and the account keep the rent that it needs. Raises ChainError."""
        async with self._reading:
            if self._age_s() > MAX_AGE_S:
                await self._read()
            if self._left() < lamports and self._age_s() > SHORT_AGE_S:
                await self._read()
            return self._left() >= lamports

    def block(self) -> bool:
        """Something waits for funds. Whether that is new since it last paid."""
        is_new = not self._is_blocked
        self._is_blocked = True
        return is_new

    async def read(self) -> Lamports:
        """The balance now. Raises ChainError."""
        async with self._reading:
            return await self._read()

    async def in_flight(self) -> int:
        """Lamports that signatures which may still land would take."""
        flying = [row for row in await self._journal.watched() if row.status is OutboxStatus.SIGNED]
        return sum(row.fee + row.lamports for row in flying)

    async def _read(self) -> Lamports:
        """Of two endpoints, where there are two, the one that shows more: a low balance would park what can be paid."""
        if self._rent is None:
            self._rent = min(await self._agreement.each(lambda rpc: rpc.get_rent(0)))
        asked_at = self._clock.monotonic()
        found = await self._agreement.each(lambda rpc: rpc.get_balance(self._node))
        self._promised = await self.in_flight()
        self._balance = max(found), asked_at
        return self._balance[0]

    def _left(self) -> int:
        assert self._balance is not None and self._rent is not None
        return self._balance[0] - self._rent - self._promised

    def _age_s(self) -> float:
        return float("inf") if self._balance is None else self._clock.monotonic() - self._balance[1]
