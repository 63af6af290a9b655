"""A look at one execution account by its transactions, where the IDL does not describe what the account holds."""

from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from solders.pubkey import Pubkey
from solders.signature import Signature

from listener.chain.accounts import check_address
from listener.chain.agreement import Agreement
from listener.chain.backfill import signatures_since
from listener.chain.calls import Proof, read_proof
from listener.chain.history import ASSIGN, Deed, deeds_on, execution_by
from listener.chain.idl import ExecutionCancelled, Program
from listener.chain.rpc import Commitment, Rpc
from listener.journal.journal import Journal
from listener.journal.records import EventRow
from listener.look import View, question, sighting
from shared.errors import AccountInvalid, ChainError, RpcInvalid, RpcRefused, RpcUnavailable
from shared.ids import Slot

FORKED_SLOTS: Final = 32
"""So many finalized slots above what was seen, a list that does not show it tells of a fork and is not just late."""
REMEMBERED: Final = 4_096
"""Transactions read lately: what stands in a slot does not change, and anybody can mention an account."""
ALL_SLOTS: Final = Slot(0)
_Place = tuple[Signature, Slot]
_Told = tuple[Rpc, _Place]
"""Where a transaction stands, and the endpoint that says so."""


class TransactionLook:
    """By the newest instructions on the account in transactions that succeeded and whose signatures hold."""

    def __init__(self, agreement: Agreement, program: Program, node: Pubkey, journal: Journal) -> None:
        self._agreement = agreement
        self._program = program
        self._node = node
        self._journal = journal
        self._proofs: OrderedDict[_Told, Proof | None] = OrderedDict()

    async def at(
        self,
        account: str,
        at_least: Slot,
        commitment: Commitment,
        *,
        is_new: bool,  # noqa: ARG002 (what the account must hold is for the program to know)
        told: tuple[EventRow, ...] = (),
    ) -> View:
        cancelled = await self._cancelled_elsewhere(account, told)

        async def read(rpc: Rpc, at_least: Slot, commitment: Commitment) -> View:
            return await self._view(rpc, Pubkey.from_string(account), cancelled, at_least, commitment)

        return await self._agreement.on(question(account, read), at_least, commitment)

    async def _view(
        self, rpc: Rpc, address: Pubkey, cancelled: list[_Place], at_least: Slot, commitment: Commitment
    ) -> View:
        newest, deeds = await self._deeds(rpc, address, cancelled, commitment)
        slot = await self._checked(rpc, newest, at_least)
        if not deeds or deeds[-1].call.name != ASSIGN:
            return View(slot, None, "no transaction on the account assigns it")
        try:
            execution = execution_by(deeds, address, self._node)
            if execution is None:
                return View(slot, None)
            check_address(self._program, execution)
        except AccountInvalid as error:
            return View(slot, None, str(error))
        return View(slot, sighting(execution, slot))

    async def _deeds(
        self, rpc: Rpc, address: Pubkey, cancelled: list[_Place], commitment: Commitment
    ) -> tuple[Slot, list[Deed]]:
        """The slot of which the list tells, and what was done to the account, back to what assigned it."""
        newest = ALL_SLOTS
        deeds: list[Deed] = []
        unread: ChainError | None = None
        async with aclosing(self._places(rpc, address, cancelled, commitment)) as places:
            async for place, is_listed in places:
                try:
                    proof = await self._proof(rpc, place, commitment, is_listed=is_listed)
                except (RpcInvalid, RpcRefused) as error:
                    unread, proof = error, None
                if is_listed or proof is not None:
                    newest = max(newest, place[1])
                for deed in () if proof is None else deeds_on(address, place[1], proof):
                    deeds.append(deed)
                    if deed.call.name == ASSIGN:
                        return newest, deeds
        if unread is not None:
            raise unread  # it may be the one that assigns it
        return newest, deeds

    async def _cancelled_elsewhere(self, account: str, told: tuple[EventRow, ...]) -> list[_Place]:
        """Cancellations that an event told of, newest first: one of a whole execution need not name this account."""
        rows = [row for row in told if row.name == ExecutionCancelled.__name__]
        rows += await self._journal.cancellations_of(account)
        places = {(Signature.from_string(row.signature), row.slot) for row in rows}
        return sorted(places, key=lambda place: place[1], reverse=True)

    async def _places(
        self, rpc: Rpc, address: Pubkey, cancelled: list[_Place], commitment: Commitment
    ) -> AsyncGenerator[tuple[_Place, bool]]:
        """Where transactions that may concern the account stand, newest first, and whether the list shows them."""
        waiting = list(cancelled)
        listed = signatures_since(rpc, address, ALL_SLOTS, commitment=commitment)
        async for page in listed:
            for row in page:
                place = row.signature, row.slot
                waiting = [one for one in waiting if one != place]
                while waiting and waiting[0][1] >= row.slot:
                    yield waiting.pop(0), False
                if row.err is None:
                    yield place, True
        for place in waiting:
            yield place, False

    async def _checked(self, rpc: Rpc, newest: Slot, at_least: Slot) -> Slot:
        """The slot of which the list tells. Raises RpcUnavailable where it may not show yet what was seen before."""
        if newest >= at_least:
            return newest
        if await rpc.get_slot("finalized") <= at_least + FORKED_SLOTS:
            raise RpcUnavailable(f"the list of signatures ends at slot {newest}, before {at_least}")
        return Slot(at_least + 1)

    async def _proof(self, rpc: Rpc, place: _Place, commitment: Commitment, *, is_listed: bool) -> Proof | None:
        """None where it proves nothing. Raises ChainError where the endpoint does not give it."""
        if is_listed and (rpc, place) in self._proofs:
            return self._proofs[rpc, place]
        signature, slot = place
        read = await rpc.get_transaction(signature, commitment)
        if read is None or read.slot != slot:
            if is_listed:
                raise RpcUnavailable(f"the endpoint does not have a transaction that it listed: {signature}")
            return None  # a fork took it back
        proof = read_proof(self._program, signature, read)
        if is_listed:
            self._proofs[rpc, place] = proof
            if len(self._proofs) > REMEMBERED:
                self._proofs.popitem(last=False)
        return proof
