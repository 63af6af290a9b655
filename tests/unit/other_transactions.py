"""Signed transactions on the account of listener_world, in the history that an endpoint gives."""

import dataclasses
from typing import Any

from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import Transaction

from listener.chain.answers import InnerInstruction, SignatureRow, TransactionError, TransactionRead
from shared.ids import Slot
from tests.program.instructions import Assignment, Builder, discriminator, string
from tests.unit.chain_bytes import PROGRAM_ID
from tests.unit.listener_world import KEY, NODE, OURS
from tests.unit.mentions_bytes import assigned_event, cancelled_event, logs

REQUESTER = Keypair.from_seed(bytes([5] * 32))
STRANGER = Keypair.from_seed(bytes([6] * 32))
BUILDER = Builder(PROGRAM_ID, REQUESTER.pubkey(), NODE)
TERMS = Assignment(deadline=OURS.deadline, compute_units=7, reward=1_000_000)
KEYS = {one.pubkey(): one for one in (KEY, REQUESTER, STRANGER)}
ASSIGN = BUILDER.assign_task(TERMS)
CANCEL = BUILDER.cancel_execution()
COMPLETE = BUILDER.task_completed(1000)
FAIL = BUILDER.task_failed(1000)
RECLAIM = BUILDER.reclaim()
ASSIGNED, CANCELLED = logs(assigned_event()), logs(cancelled_event())


def assign(**terms: Any) -> Instruction:
    return BUILDER.assign_task(dataclasses.replace(TERMS, **terms))


def with_keys(instruction: Instruction, *metas: AccountMeta) -> Instruction:
    """The same call with other accounts."""
    return Instruction(instruction.program_id, bytes(instruction.data), list(metas))


def cancel_of_whole_execution(execution_id: str, named: Pubkey) -> Instruction:
    """As a program has it whose cancellation names no task, and an account of its own."""
    data = discriminator("global", "cancel_execution") + string(execution_id)
    metas = [AccountMeta(named, False, True), AccountMeta(REQUESTER.pubkey(), True, False)]
    return Instruction(PROGRAM_ID, data, [*metas, AccountMeta(NODE, False, False)])


def signed(*instructions: Instruction, slot: int, payer: Keypair) -> Transaction:
    """By all who must; those of another slot are others."""
    message = Message.new_with_blockhash(list(instructions), payer.pubkey(), Hash(slot.to_bytes(32, "big")))
    needed = message.account_keys[: message.header.num_required_signatures]
    transaction = Transaction.new_unsigned(message)
    transaction.sign([KEYS[key] for key in needed], message.recent_blockhash)
    return transaction


class History:
    """What an endpoint lists, newest first, and gives."""

    def __init__(self, rpc: Any) -> None:
        self.rpc = rpc

    def add(
        self,
        slot: int,
        *instructions: Instruction,
        lines: tuple[str, ...] = ASSIGNED,
        err: TransactionError | None = None,
        is_listed: bool = True,
        **changed: Any,
    ) -> SignatureRow:
        """A transaction in this slot. `changed`: what the endpoint gives otherwise than it is."""
        payer = changed.pop("payer", KEY if instructions[0] in (COMPLETE, FAIL) else REQUESTER)
        transaction = signed(*instructions, slot=slot, payer=payer)
        read = TransactionRead(Slot(slot), bytes(transaction), err, lines, {}, (), None)
        row = SignatureRow(transaction.signatures[0], Slot(slot), err)
        self.rpc.transactions[row.signature] = dataclasses.replace(read, **changed)
        if is_listed:
            self.rpc.rows.insert(0, row)
        return row

    def add_inner(self, slot: int, instruction: Instruction) -> SignatureRow:
        """A transaction in which another program calls this one."""
        outer = Instruction(STRANGER.pubkey(), b"call", [*instruction.accounts, _readable(PROGRAM_ID)])
        keys = signed(outer, slot=slot, payer=REQUESTER).message.account_keys
        places = tuple(keys.index(meta.pubkey) for meta in instruction.accounts)
        called = InnerInstruction(keys.index(PROGRAM_ID), places, bytes(instruction.data), 2)
        return self.add(slot, outer, lines=(), inner={0: (called,)})


def _readable(key: Pubkey) -> AccountMeta:
    return AccountMeta(key, False, False)
