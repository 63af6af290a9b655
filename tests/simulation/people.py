"""Everybody else on the chain: requesters who assign, cancel, assign again and reclaim, and strangers who mention."""

import asyncio
import base64
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import Transaction

from tests.program.instructions import (
    ASSIGNED,
    CANCELLED,
    COMPLETED,
    FAILED,
    Assignment,
    Builder,
    discriminator,
)
from tests.simulation.chain import Chain
from tests.simulation.program_model import GRACE_S, PROGRAM_ID, Execution
from tests.simulation.runtime import STRANGER

PATIENCE_S: Final = 900.0
"""For one transaction to land."""
REFUND_MARGIN_S: Final = 2


@dataclass(frozen=True, slots=True)
class Wish:
    """What one requester wants of one pair. Seconds; None where it does not do so."""

    execution_id: str
    task_id: str
    requester: int
    begins_s: float
    deadline_s: int
    reward: int
    model_id: str
    outputs: int = 1
    node: Pubkey | None = None
    """Another node than the one that is watched."""
    cancels_s: float | None = None
    again: int = 0
    """How often it is assigned again after it ended."""
    changes: bool = False
    """With other content then."""
    reclaims: bool = True


class People:
    def __init__(self, chain: Chain, node: Pubkey, keys: Sequence[Keypair], rng: random.Random) -> None:
        self._chain = chain
        self._node = node
        self.keys = tuple(keys)
        self._rng = rng

    async def run(self, wishes: Sequence[Wish], mentions: Sequence[float]) -> None:
        """Until everybody has done what it wanted. `mentions`: when strangers mention the node."""
        async with asyncio.TaskGroup() as group:
            for wish in wishes:
                group.create_task(self._pursue(wish))
            for at in mentions:
                group.create_task(self._mention(at))

    # ---- requesters ----

    async def _pursue(self, wish: Wish) -> None:
        await asyncio.sleep(wish.begins_s)
        key = self.keys[wish.requester]
        builder = Builder(PROGRAM_ID, key.pubkey(), wish.node or self._node, wish.execution_id, wish.task_id)
        for round_ in range(1 + wish.again):
            if round_ and wish.changes:
                wish = replace(wish, reward=wish.reward + 1)
            if not await self._assign(key, builder, wish):
                return
            await self._wait_for_the_end(key, builder, wish)
        if wish.reclaims:
            await self._reclaim(key, builder)

    async def _assign(self, key: Keypair, builder: Builder, wish: Wish) -> bool:
        """Whether it stands on the chain. It does not where the pair is somebody else's, or was completed."""
        if self._state(builder) is not None and not await self._may_assign(key, builder):
            return False
        deadline = int(self._chain.now) + wish.deadline_s
        terms = Assignment(
            execution_id=wish.execution_id,
            task_id=wish.task_id,
            model_id=wish.model_id,
            expected_output_count=wish.outputs,
            deadline=deadline,
            compute_units=7,
            reward=wish.reward,
        )
        await self._send(key, lambda: builder.assign_task(terms), lambda: self._is_assigned(builder, deadline))
        return self._is_assigned(builder, deadline)

    async def _may_assign(self, key: Keypair, builder: Builder) -> bool:
        known = self._state(builder)
        if known is not None and known.state == COMPLETED and known.requester == key.pubkey():
            await self._reclaim(key, builder)
        known = self._state(builder)
        return known is None or known.requester == key.pubkey()

    def _is_assigned(self, builder: Builder, deadline: int) -> bool:
        known = self._state(builder)
        return known is not None and known.state == ASSIGNED and known.deadline == deadline

    async def _wait_for_the_end(self, key: Keypair, builder: Builder, wish: Wish) -> None:
        """Until the account may be taken again or reclaimed; cancel it meanwhile where that is wished."""
        if wish.cancels_s is not None:
            await asyncio.sleep(wish.cancels_s)
            known = self._state(builder)
            if known is not None and known.state == ASSIGNED:
                await self._send(key, builder.cancel_execution, lambda: not self._is_in_state(builder, ASSIGNED))
        while not self._is_over(builder):
            await self._sleep_a_slot()
        await asyncio.sleep(self._rng.choice([0.0, 1.0, 20.0]))

    def _is_over(self, builder: Builder) -> bool:
        known, now = self._state(builder), self._chain.head.now
        if known is None:
            return True
        if known.state == ASSIGNED:
            return now > known.deadline + GRACE_S + REFUND_MARGIN_S
        if known.state == CANCELLED:
            return now > known.refund_at + REFUND_MARGIN_S
        return known.state in (FAILED, COMPLETED)

    async def _reclaim(self, key: Keypair, builder: Builder) -> None:
        if self._state(builder) is not None:
            await self._send(key, builder.reclaim, lambda: self._state(builder) is None)

    def _state(self, builder: Builder) -> Execution | None:
        cell = self._chain.head.cells.get(builder.address)
        return Execution.read(cell.data) if cell is not None and cell.owner == PROGRAM_ID else None

    def _is_in_state(self, builder: Builder, state: int) -> bool:
        known = self._state(builder)
        return known is not None and known.state == state

    # ---- transactions ----

    async def _send(self, key: Keypair, make: Callable[[], Instruction], is_done: Callable[[], bool]) -> None:
        """Sent again, with a new signature each time, until what it should do is done, or it is refused."""
        async with asyncio.timeout(PATIENCE_S):
            while not is_done():
                block = self._chain.head
                for _ in range(3):
                    block = block.parent or block
                message = Message.new_with_blockhash([make()], key.pubkey(), Hash.from_string(block.blockhash))
                transaction = Transaction([key], message, message.recent_blockhash)
                self._chain.send(bytes(transaction))
                for _ in range(12):
                    await self._sleep_a_slot()
                    landed = self._chain.canonical(transaction.signatures[0])
                    if is_done() or (landed is not None and landed.err is not None):
                        return

    async def _sleep_a_slot(self) -> None:
        await asyncio.sleep(self._chain.terms.slot_s)

    # ---- strangers ----

    async def _mention(self, at_s: float) -> None:
        """Something that names the node, and looks like more than it is."""
        await asyncio.sleep(at_s)
        key = self.keys[-1]
        metas = [AccountMeta(self._node, False, False), AccountMeta(PROGRAM_ID, False, False)]
        lines = self._rng.choice(LOOKS_LIKE_WORK)(self._node)
        call = Instruction(STRANGER, json.dumps(lines).encode(), metas)
        message = Message.new_with_blockhash([call], key.pubkey(), Hash.from_string(self._chain.head.blockhash))
        self._chain.send(bytes(Transaction([key], message, message.recent_blockhash)))


def _event(node: Pubkey) -> str:
    terms = Assignment()
    told = terms.strings() + terms.arguments()[len(terms.strings()) :][:17] + bytes(node)
    return base64.b64encode(discriminator("event", "TaskAssigned") + told).decode()


LOOKS_LIKE_WORK: Final[tuple[Callable[[Pubkey], list[str]], ...]] = (
    lambda node: [f"Program data: {_event(node)}"],
    lambda node: [f"Program log: Program data: {_event(node)}"],
    lambda _: ["Log truncated"],
    lambda _: ["Program data: %%%%"],
    lambda node: [
        f"Program {PROGRAM_ID} invoke [2]",
        f"Program data: {_event(node)[:40]}",
        f"Program {PROGRAM_ID} success",
    ],
    lambda _: [],
)
