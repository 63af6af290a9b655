"""Transactions: signing our own, and reading those of others (legacy, version 0 and version 1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import Message, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import SanitizeError, Transaction, VersionedTransaction

from listener.chain import transaction_v1
from listener.chain.transaction_v1 import CompiledInstruction, ParsedTransaction
from listener.fees import BASE_FEE, priority_fee
from shared.errors import RpcInvalid
from shared.ids import Lamports

__all__ = [
    "MAX_TRANSACTION_BYTES",
    "CompiledInstruction",
    "ParsedTransaction",
    "SignedTransaction",
    "parse_transaction",
    "sign_transaction",
    "unsigned_transaction",
]

MAX_TRANSACTION_BYTES: Final = 1232
"""Of legacy and version 0: what fits into one packet."""


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """`fee` is what it costs where it lands, with an error too."""

    signature: Signature
    raw: bytes
    fee: Lamports


def sign_transaction(
    instructions: Sequence[Instruction],
    payer: Keypair,
    blockhash: Hash,
    compute_unit_limit: int,
    compute_unit_price: int = 0,
) -> SignedTransaction:
    """Sign a legacy transaction that `payer` alone signs and pays.

    `compute_unit_price` is in micro-lamports for each of the `compute_unit_limit` units. The same arguments give the
    same bytes.
    """
    message = _message(instructions, payer.pubkey(), blockhash, compute_unit_limit, compute_unit_price)
    transaction = Transaction([payer], message, blockhash)
    fee = Lamports(BASE_FEE + priority_fee(compute_unit_price, compute_unit_limit))
    return SignedTransaction(transaction.signatures[0], bytes(transaction), fee)


def unsigned_transaction(
    instructions: Sequence[Instruction],
    payer: Pubkey,
    blockhash: Hash,
    compute_unit_limit: int,
    compute_unit_price: int = 0,
) -> bytes:
    """The same with zeros for the signature: it can be simulated, and never land."""
    message = _message(instructions, payer, blockhash, compute_unit_limit, compute_unit_price)
    return bytes(Transaction.new_unsigned(message))


def _message(
    instructions: Sequence[Instruction], payer: Pubkey, blockhash: Hash, limit: int, price: int
) -> Message:
    budget = [set_compute_unit_limit(limit)]
    if price:
        budget.append(set_compute_unit_price(price))
    return Message.new_with_blockhash([*budget, *instructions], payer, blockhash)


def parse_transaction(raw: bytes) -> ParsedTransaction:
    """Read a signed transaction of any version. Raises RpcInvalid where it is not one; signatures are not checked.

    Programs stand among the static keys; an account's index may be past them, in the addresses of lookup tables.
    """
    if raw[:1] == bytes([transaction_v1.VERSION_BYTE]):
        return transaction_v1.parse(raw)
    if len(raw) > MAX_TRANSACTION_BYTES:
        raise RpcInvalid(f"a transaction of {len(raw)} bytes, more than {MAX_TRANSACTION_BYTES}")
    try:
        transaction = VersionedTransaction.from_bytes(raw)
        transaction.sanitize()
    except (ValueError, SanitizeError) as error:
        raise RpcInvalid(f"a transaction cannot be read: {error}") from error
    if bytes(transaction) != raw:
        raise RpcInvalid("bytes follow a transaction, or it is not written in the shortest way")
    message = transaction.message
    return ParsedTransaction(
        signatures=tuple(transaction.signatures),
        signed_bytes=to_bytes_versioned(message),
        static_keys=tuple(message.account_keys),
        signers=message.header.num_required_signatures,
        instructions=tuple(
            CompiledInstruction(one.program_id_index, tuple(one.accounts), bytes(one.data))
            for one in message.instructions
        ),
    )
