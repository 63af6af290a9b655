"""Sends a requester's transaction and waits until the chain shows it at `confirmed`."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import Message
from solders.signature import Signature
from solders.transaction import Transaction

from listener.chain import answers
from listener.chain.rpc import LatestBlockhash, Rpc
from listener.chain.transactions import MAX_TRANSACTION_BYTES
from shared.errors import (
    RpcInvalid,
    RpcRateLimited,
    RpcRefused,
    RpcUnavailable,
    TransactionExpired,
    TransactionRefused,
    TransactionTooLarge,
)
from shared.ids import Slot

STATUS_INTERVAL_S: Final = 0.2
RESEND_ROUNDS: Final = 10
"""The same bytes are sent again after so many questions for their status."""

ErrorName = Callable[[int], str | None]
"""The program's name for an error code."""


def _nameless(_code: int) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Landed:
    signature: Signature
    slot: Slot


async def send(
    rpc: Rpc, instructions: Sequence[Instruction], signers: Sequence[Keypair], error_name: ErrorName = _nameless
) -> Landed:
    """Sign with all of `signers` (the first pays the fee), send, and wait until it is confirmed.

    Raises TransactionTooLarge, TransactionRefused (with the program's name for it by `error_name`),
    TransactionExpired, and ChainError where the endpoint does not take it.
    """
    latest = await rpc.get_latest_blockhash()
    raw = signed(instructions, signers, latest.blockhash)
    try:
        signature = await rpc.send_transaction(raw, skip_preflight=False)
    except RpcRefused as error:
        raise _refusal(error, error_name) from error
    return await _confirmed(rpc, raw, signature, latest, error_name)


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


async def _confirmed(
    rpc: Rpc, raw: bytes, signature: Signature, latest: LatestBlockhash, error_name: ErrorName
) -> Landed:
    rounds = 0
    while True:
        rounds += 1
        try:
            status = (await rpc.get_signature_statuses([signature])).statuses[0]
            if status is not None and status.confirmation_status != "processed":
                if status.err is not None:
                    raise _failure(status.err, error_name)
                return Landed(signature, status.slot)
            if rounds % RESEND_ROUNDS == 0:
                await _resend(rpc, raw, signature, latest)
        except (RpcUnavailable, RpcRateLimited):
            pass  # asked again below; only the block height ends the wait
        await asyncio.sleep(STATUS_INTERVAL_S)


async def _resend(rpc: Rpc, raw: bytes, signature: Signature, latest: LatestBlockhash) -> None:
    epoch = await rpc.get_epoch_info()
    if epoch.block_height > latest.last_valid_block_height:
        known = (await rpc.get_signature_statuses([signature], search_history=True)).statuses[0]
        if known is None:
            raise TransactionExpired(f"transaction {signature} was not taken up; it cannot land any more")
        return
    with suppress(RpcRefused):  # Surfpool refuses what it has processed already; its status follows
        await rpc.send_transaction(raw, skip_preflight=True)


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
