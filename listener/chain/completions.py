"""The pairs that this node was paid for, by its own transactions: what a lost journal must not have run again."""

import random
from dataclasses import dataclass, field
from typing import Final

from solders.pubkey import Pubkey

from listener.chain.backfill import signatures_since
from listener.chain.calls import Call, Proof, read_proof
from listener.chain.history import ASSIGN, Deed, requester_of
from listener.chain.idl import Program
from listener.chain.rpc import Rpc, SignatureRow, TransactionRead
from shared.backoff import Backoff
from shared.clock import Clock
from shared.errors import AccountInvalid, InvalidId, RpcInvalid, RpcRefused, RpcUnavailable
from shared.ids import Requester, Slot, TaskKey, parse_execution_id, parse_task_id

COMPLETE: Final = "task_completed"
TRIES: Final = 5
"""At one transaction, before the search is given up."""
RETRY: Final = Backoff(base_s=0.5, cap_s=8.0)


@dataclass(slots=True)
class Completions:
    """What was found. A completion names no requester: the assignment before it does."""

    pairs: list[tuple[TaskKey, Requester]] = field(default_factory=list)
    without_requester: set[TaskKey] = field(default_factory=set)
    """Those of which the assignment was not found."""
    unread: int = 0
    """Transactions that the endpoint, or our parser, could not read."""
    oldest: Slot | None = None
    """How far back the endpoint's list goes."""


class CompletionSearch:
    """From the newest finalized transaction back to the oldest that the endpoint knows."""

    def __init__(self, rpc: Rpc, program: Program, node: Pubkey, clock: Clock, rng: random.Random) -> None:
        self._rpc = rpc
        self._program = program
        self._node = node
        self._clock = clock
        self._rng = rng
        self._found = Completions()

    async def run(self) -> Completions:
        """Raises ChainError."""
        address = self._program.mentions(self._node)
        async for page in signatures_since(self._rpc, address, Slot(0), commitment="finalized"):
            for row in page:
                self._found.oldest = row.slot
                if row.err is None:
                    await self._look_at(row)
        return self._found

    async def _look_at(self, row: SignatureRow) -> None:
        read = await self._read(row)
        proof = None if read is None else read_proof(self._program, row.signature, read)
        if proof is None:
            self._found.unread += 1
            return
        for call in reversed(proof.calls):
            self._note(row.slot, call, proof)

    async def _read(self, row: SignatureRow) -> TransactionRead | None:
        """None where it is refused or not understood. Raises RpcUnavailable where the endpoint does not give it."""
        for failures in range(TRIES):
            try:
                read = await self._rpc.get_transaction(row.signature, "finalized")
            except (RpcInvalid, RpcRefused):
                return None
            except RpcUnavailable:
                read = None
            if read is not None:
                return read
            await self._clock.sleep(RETRY.delay_s(failures, self._rng))
        raise RpcUnavailable(f"the endpoint does not give a transaction that it listed: {row.signature}")

    def _note(self, slot: Slot, call: Call, proof: Proof) -> None:
        try:
            key = TaskKey(
                parse_execution_id(str(call.args.get("execution_id"))),
                parse_task_id(str(call.args.get("task_id"))),
            )
        except InvalidId:
            return  # no pair of ours
        if call.name == COMPLETE and call.accounts.get("assigned_node") == self._node:
            self._found.without_requester.add(key)
        elif call.name == ASSIGN and key in self._found.without_requester:
            try:
                requester = requester_of(Deed(slot, call, proof))
            except AccountInvalid:
                return  # no assignment that this node would have taken
            self._found.pairs.append((key, Requester(str(requester))))
            self._found.without_requester.remove(key)
