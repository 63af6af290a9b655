"""A look at one execution account: read at a slot not older than what told of it, and verified.

Where the IDL does not describe the account, look_by_transactions.py gives the same view of it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from solders.pubkey import Pubkey

from listener.chain.account_reader import AccountReader
from listener.chain.accounts import Execution, ExecutionState, content_hash, verify
from listener.chain.agreement import Agreement, Question
from listener.chain.idl import Program
from listener.chain.rpc import Account, Commitment, Rpc
from listener.decisions import Sighting
from listener.journal.changes import GONE
from listener.journal.records import Assignment, EventRow
from shared.errors import AccountInvalid
from shared.ids import Lamports, Requester, Slot, UnixSeconds

NO_NOTICE: Final = UnixSeconds(1)
"""When a notice ended that never began: a moment that has passed."""


@dataclass(frozen=True, slots=True)
class View:
    """`sighting` is None where there is no execution account of this node; `why` then says what is there."""

    slot: Slot
    sighting: Sighting | None
    why: str = GONE


class Look(Protocol):
    async def at(
        self,
        account: str,
        at_least: Slot,
        commitment: Commitment,
        *,
        is_new: bool,
        told: tuple[EventRow, ...] = (),
    ) -> View:
        """What stands there, at a slot not below `at_least`. `told` are the events that told of it.

        Raises ChainError, such as where the endpoint has not reached the slot.
        """


class AccountLook:
    """By the account itself, which is the truth, as two endpoints show it where there are two."""

    def __init__(self, agreement: Agreement, program: Program, node: Pubkey, reader: AccountReader) -> None:
        self._agreement = agreement
        self._program = program
        self._node = node
        self._reader = reader
        self._rents: dict[int, Lamports] = {}

    async def at(
        self,
        account: str,
        at_least: Slot,
        commitment: Commitment,
        *,
        is_new: bool,
        told: tuple[EventRow, ...] = (),  # noqa: ARG002 (the account says all)
    ) -> View:
        """Read it. A new one must hold its rent too: later the cluster may ask for more than when it was taken in."""
        address = Pubkey.from_string(account)
        verified: dict[tuple[Account, Lamports], Execution | AccountInvalid] = {}
        """Endpoints show the same bytes as a rule: they are decoded once."""

        async def read(rpc: Rpc, at_least: Slot, commitment: Commitment) -> View:
            found = await self._reader.read(rpc, address, at_least, commitment)
            if found.account is None:
                return View(found.slot, None)
            rent = await self._rent(rpc, found.account) if is_new else Lamports(0)
            shown = found.account, rent
            if shown not in verified:
                verified[shown] = self._verified(*shown, address)
            execution = verified[shown]
            if isinstance(execution, AccountInvalid):
                return View(found.slot, None, str(execution))
            return View(found.slot, sighting(execution, found.slot))

        return await self._agreement.on(question(account, read), at_least, commitment)

    def _verified(self, account: Account, rent: Lamports, address: Pubkey) -> Execution | AccountInvalid:
        try:
            return verify(self._program, account, address, self._node, rent=rent)
        except AccountInvalid as error:
            return error

    async def _rent(self, rpc: Rpc, account: Account) -> Lamports:
        size = len(account.data)
        if size not in self._rents:
            self._rents[size] = await rpc.get_rent(size)
        return self._rents[size]


def question(account: str, read: Callable[[Rpc, Slot, Commitment], Awaitable[View]]) -> Question[View]:
    return Question(about=f"account {account}", ask=read, same=_shown, slot=lambda view: view.slot)


def _shown(view: View) -> object:
    """All that a view says but the slot at which it was read. Why there is nothing is for people."""
    if view.sighting is None:
        return None
    return view.sighting.state, replace(view.sighting.assignment, verified_slot=Slot(0))


def sighting(execution: Execution, slot: Slot) -> Sighting:
    """What a verified execution said at `slot`."""
    assignment = Assignment(
        account=str(execution.address),
        attempt=execution.attempt,
        execution_id=execution.execution_id,
        task_id=execution.task_id,
        requester=Requester(str(execution.requester)),
        content_hash=content_hash(execution),
        model_id=execution.model_id,
        input_uris=execution.input_uris,
        output_count=execution.expected_output_count,
        compute_units=execution.compute_units,
        reward=execution.reward,
        deadline=execution.deadline,
        refund_at=_refund_at(execution),
        verified_slot=slot,
    )
    return Sighting(assignment, execution.state)


def _refund_at(execution: Execution) -> UnixSeconds:
    """0 unless cancelled. A cancellation that names no time takes effect at once."""
    if execution.state is ExecutionState.CANCELLED:
        return execution.refund_at or NO_NOTICE
    return execution.refund_at
