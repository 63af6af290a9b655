"""Transactions that tell of the assignment of listener_world, as notifications and as the endpoint gives them."""

import base64
import struct
from collections.abc import Mapping

from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import Transaction

from listener.chain.answers import InnerInstruction, SignatureRow, TransactionError, TransactionRead
from listener.chain.feed import Notification
from shared.ids import Slot
from tests.program.instructions import EXECUTION_ID, TASK_ID, discriminator, string, strings
from tests.unit.chain_bytes import ADDRESS, PROGRAM_ID
from tests.unit.listener_world import NODE, OURS

SLOT = Slot(1_000)
FIRST, SECOND = Signature(bytes([1] * 64)), Signature(bytes([2] * 64))
FAILED = TransactionError("instruction 0 failed with InsufficientFunds", 0)


def assigned_event(node: Pubkey = NODE, task_id: str = TASK_ID) -> bytes:
    ids = string(EXECUTION_ID) + string(task_id) + string("f" * 64) + strings(OURS.input_uris)
    return discriminator("event", "TaskAssigned") + ids + struct.pack("<BqQ", 1, OURS.deadline, 7) + bytes(node)


def cancelled_event(node: Pubkey = NODE) -> bytes:
    ids = string(EXECUTION_ID) + string(TASK_ID)
    return (
        discriminator("event", "ExecutionCancelled") + ids + bytes(node) + struct.pack("<q", OURS.deadline - 570)
    )


def cancelled_execution_event(node: Pubkey = NODE) -> bytes:
    """Of a program whose event names neither task nor notice."""
    return discriminator("event", "ExecutionCancelled") + string(EXECUTION_ID) + bytes(node)


def logs(*events: bytes, program_id: Pubkey = PROGRAM_ID) -> tuple[str, ...]:
    told = [f"Program data: {base64.b64encode(event).decode()}" for event in events]
    return f"Program {program_id} invoke [1]", *told, f"Program {program_id} success"


def notification(
    lines: tuple[str, ...], signature: Signature = FIRST, slot: Slot = SLOT, err: TransactionError | None = None
) -> Notification:
    return Notification(slot, signature, err, lines)


def result_of(told: Notification) -> dict[str, object]:
    """As the websocket brings it."""
    err = None if told.err is None else told.err.text
    value = {"signature": str(told.signature), "err": err, "logs": list(told.logs)}
    return {"context": {"slot": told.slot}, "value": value}


def row(signature: Signature = FIRST, slot: Slot = SLOT, err: TransactionError | None = None) -> SignatureRow:
    return SignatureRow(signature, slot, err)


def transaction(
    lines: tuple[str, ...],
    slot: Slot = SLOT,
    err: TransactionError | None = None,
    inner: Mapping[int, tuple[InnerInstruction, ...]] | None = None,
) -> TransactionRead:
    """One that calls the program once, with the account and the program itself among its keys."""
    payer = Keypair.from_seed(bytes([3] * 32))
    call = Instruction(PROGRAM_ID, b"assign", [AccountMeta(ADDRESS, False, True)])
    message = Message.new_with_blockhash([call], payer.pubkey(), Hash.default())
    raw = bytes(Transaction([payer], message, Hash.default()))
    return TransactionRead(slot, raw, err, lines, inner or {}, (), None)
