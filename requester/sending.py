"""Sends a requester's transaction and waits until the chain shows it at `confirmed`."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import Message
from solders.signature import Signature
from solders.transaction import Transaction

from listener.chain import answers
from listener.chain.rpc import Rpc, Status
from listener.chain.transactions import MAX_TRANSACTION_BYTES
from requester.patience import PATIENCE_S, passes, patiently
from shared.clock import Clock, SystemClock
from shared.errors import (
    ChainError,
    RpcInvalid,
    RpcRefused,
    TransactionExpired,
    TransactionRefused,
    TransactionTooLarge,
)
from shared.ids import Slot

STATUS_INTERVAL_S: Final = 0.2
RESEND_ROUNDS: Final = 10
"""The same bytes are sent again after so many questions for their status."""

_CLOCK: Final = SystemClock()

ErrorName = Callable[[int], str | None]
"""The program's name for an error code."""


def _nameless(_code: int) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Landed:
    signature: Signature
    slot: Slot


async def send(
    rpc: Rpc,
    instructions: Sequence[Instruction],
    signers: Sequence[Keypair],
    error_name: ErrorName = _nameless,
    clock: Clock = _CLOCK,
) -> Landed:
    """Sign with all of `signers` (the first pays the fee), send, and wait until it is confirmed.

    Whether it was sent is not always known: then it is looked for, and sent again, until its blockhash has expired.

    Raises TransactionTooLarge, TransactionRefused (with the program's name for it by `error_name`),
    TransactionExpired, and ChainError where the endpoint does not take it.
    """
    latest = await patiently(rpc.get_latest_blockhash, clock, PATIENCE_S)
    raw = signed(instructions, signers, latest.blockhash)
    try:
        await rpc.send_transaction(raw, skip_preflight=False)
    except RpcRefused as error:
        raise _refusal(error, error_name) from error
    except ChainError as error:
        if not passes(error):
            raise
    status = await _confirmed(rpc, raw, latest.last_valid_block_height, clock)
    if status.err is not None:
        raise _failure(status.err, error_name)
    return Landed(_signature(raw), status.slot)


def signed(instructions: Sequence[Instruction], signers: Sequence[Keypair], blockhash: Hash) -> bytes:
    """The signed legacy transaction. Raises TransactionTooLarge."""
    message = Message(list(instructions), signers[0].pubkey())
    raw = bytes(Transaction(list(signers), message, blockhash))
    if len(raw) > MAX_TRANSACTION_BYTES:
        raise TransactionTooLarge(
            f"the transaction has {len(raw)} bytes, {len(raw) - MAX_TRANSACTION_BYTES} more than the "
            f"{MAX_TRANSACTION_BYTES} that Solana takes"
        )
    return raw


def _signature(raw: bytes) -> Signature:
    """What names the transaction: its first signature, which is in the bytes before anybody is asked."""
    return Transaction.from_bytes(raw).signatures[0]


async def _confirmed(rpc: Rpc, raw: bytes, last_valid_block_height: int, clock: Clock) -> Status:
    """What became of it, at `confirmed`; only the block height ends the wait. Raises TransactionExpired, ChainError."""
    look = partial(_look, rpc, raw)
    look_or_send_again = partial(_look_or_send_again, rpc, raw, last_valid_block_height)
    rounds = 0
    while True:
        rounds += 1
        status = await patiently(look if rounds % RESEND_ROUNDS else look_or_send_again, clock)
        if status is not None and status.confirmation_status != "processed":
            return status
        await clock.sleep(STATUS_INTERVAL_S)


async def _look(rpc: Rpc, raw: bytes) -> Status | None:
    return (await rpc.get_signature_statuses([_signature(raw)])).statuses[0]


async def _look_or_send_again(rpc: Rpc, raw: bytes, last_valid_block_height: int) -> Status | None:
    """Past its last block height it is looked for once more, in the endpoint's whole history."""
    status = await _look(rpc, raw)
    if status is not None:
        return status
    if (await rpc.get_epoch_info()).block_height <= last_valid_block_height:
        with suppress(RpcRefused):  # Surfpool refuses what it has processed already; its status follows
            await rpc.send_transaction(raw, skip_preflight=True)
        return None
    known = (await rpc.get_signature_statuses([_signature(raw)], search_history=True)).statuses[0]
    if known is None:
        raise TransactionExpired(f"transaction {_signature(raw)} was not taken up; it cannot land any more")
    return known


def _refusal(error: RpcRefused, error_name: ErrorName) -> TransactionRefused:
    """The preflight's error by the program's name; anything else as the endpoint says it."""
    if isinstance(error.data, dict) and "err" in error.data:
        try:
            read = answers.transaction_error(error.data["err"])
        except RpcInvalid:
            read = None
        if read is not None:
            return _failure(read, error_name)
    return TransactionRefused(str(error))


def _failure(error: answers.TransactionError, error_name: ErrorName) -> TransactionRefused:
    name = error_name(error.code) if error.code is not None else None
    return TransactionRefused(f"the program refused it: {name}" if name else f"it failed: {error}", name)
