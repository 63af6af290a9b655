"""Reads of single accounts that come at the same moment go to an endpoint in one call."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

from solders.pubkey import Pubkey

from listener.chain.answers import AccountRead, Commitment, clock_time
from listener.chain.rpc import CLOCK_SYSVAR, MAX_ACCOUNTS, Rpc
from shared.errors import ChainError, RpcInvalid, RpcRefused
from shared.ids import Slot, UnixSeconds

AT_ONCE: Final = 2
"""Calls to one endpoint; who comes meanwhile waits, and goes with the others in the next."""


@dataclass(eq=False, slots=True)
class _Wish:
    address: Pubkey
    at_least: Slot
    read: asyncio.Future[AccountRead | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    """None: whoever read it for this one has gone; it is wished for again."""


@dataclass(eq=False, slots=True)
class _Queue:
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    waiting: deque[_Wish] = field(default_factory=deque)

    def take(self) -> list[_Wish]:
        return [self.waiting.popleft() for _ in range(min(MAX_ACCOUNTS, len(self.waiting)))]


class AccountReader:
    def __init__(self) -> None:
        self._queues: WeakKeyDictionary[Rpc, dict[Commitment, _Queue]] = WeakKeyDictionary()

    async def read(self, rpc: Rpc, address: Pubkey, at_least: Slot, commitment: Commitment) -> AccountRead:
        """What stands there, at a slot not below `at_least`. Raises ChainError."""
        queue = self._queues.setdefault(rpc, {}).setdefault(commitment, _Queue())
        while True:
            wish = _Wish(address, at_least)
            queue.waiting.append(wish)
            try:
                read = await self._granted(wish, queue, rpc, commitment)
            finally:
                _forget(wish, queue)
            if read is not None:
                return read

    async def clock(self, rpc: Rpc, commitment: Commitment) -> UnixSeconds:
        """The chain's time, read with whatever else is read now. Raises ChainError."""
        return clock_time((await self.read(rpc, CLOCK_SYSVAR, Slot(0), commitment)).account)

    async def _granted(self, wish: _Wish, queue: _Queue, rpc: Rpc, commitment: Commitment) -> AccountRead | None:
        async with queue.places:
            await asyncio.sleep(0)  # what is wished for in this very moment goes too
            if wish in queue.waiting:
                await _grant(queue.take(), rpc, commitment)
        return await wish.read


def _forget(wish: _Wish, queue: _Queue) -> None:
    """Nobody waits for it any more, whether it was granted or not."""
    if wish in queue.waiting:
        queue.waiting.remove(wish)
    if not wish.read.cancel() and not wish.read.cancelled():
        wish.read.exception()


async def _grant(wishes: Sequence[_Wish], rpc: Rpc, commitment: Commitment) -> None:
    """Read for all of them; a cancellation leaves them to one of the others."""
    try:
        for wish, read in zip(wishes, await _read(wishes, rpc, commitment), strict=True):
            if not wish.read.done():
                _settle(wish, read)
    finally:
        for wish in wishes:
            if not wish.read.done():
                wish.read.set_result(None)


def _settle(wish: _Wish, read: AccountRead | Exception) -> None:
    if isinstance(read, Exception):
        wish.read.set_exception(read)
    else:
        wish.read.set_result(read)


async def _read(wishes: Sequence[_Wish], rpc: Rpc, commitment: Commitment) -> Sequence[AccountRead | Exception]:
    """Together at the highest of their slots; each alone where that is refused, or not reached yet."""
    if len(wishes) > 1:
        highest = max(wish.at_least for wish in wishes)
        try:
            return await rpc.get_multiple_accounts(
                [wish.address for wish in wishes], commitment=commitment, min_context_slot=highest
            )
        except (RpcRefused, RpcInvalid):
            pass
        except ChainError as error:
            return [error] * len(wishes)
    reads: list[AccountRead | BaseException] = await asyncio.gather(
        *(rpc.get_account(wish.address, commitment=commitment, min_context_slot=wish.at_least) for wish in wishes),
        return_exceptions=True,
    )
    return [_unless_fatal(read) for read in reads]


def _unless_fatal(read: AccountRead | BaseException) -> AccountRead | Exception:
    if isinstance(read, AccountRead | Exception):
        return read
    raise read
