"""What an RPC endpoint answers, as values, and how each is read from its JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature

from listener.chain import json_values as read
from listener.chain.json_values import integer, invalid, member, sequence, stated
from shared.errors import RpcInvalid
from shared.ids import Lamports, Slot, UnixSeconds

Commitment = Literal["processed", "confirmed", "finalized"]
_MAX_CALLED: Final = 64
"""Instructions that a transaction's trace holds, called ones included."""
_MAX_SHOWN: Final = 100
_CLOCK_UNIX_TIMESTAMP_OFFSET: Final = 32
_CLOCK_LENGTH: Final = 40


@dataclass(frozen=True, slots=True)
class Account:
    lamports: Lamports
    owner: Pubkey
    data: bytes


@dataclass(frozen=True, slots=True)
class AccountRead:
    """What stood at an address at `slot`; `account` is None where there is nothing."""

    slot: Slot
    account: Account | None


@dataclass(frozen=True, slots=True)
class ProgramAccounts:
    slot: Slot
    accounts: tuple[tuple[Pubkey, Account], ...]


@dataclass(frozen=True, slots=True)
class TransactionError:
    """Why a transaction failed. `code` is a program's own number, raised by the instruction at `instruction`.

    `account` is the index of the account that the runtime blames.
    """

    text: str
    instruction: int | None = None
    code: int | None = None
    account: int | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class SignatureRow:
    signature: Signature
    slot: Slot
    err: TransactionError | None
    block_time: UnixSeconds | None = None
    is_finalized: bool = False
    """Only where the server says so."""


@dataclass(frozen=True, slots=True)
class InnerInstruction:
    """One that a program called. Indices go through the static keys, then the loaded addresses."""

    program_index: int
    account_indices: tuple[int, ...]
    data: bytes
    stack_height: int | None


@dataclass(frozen=True, slots=True)
class TransactionRead:
    """`raw` is the signed transaction; `inner` has what each top-level instruction called, by its index.

    `loaded_addresses` are those of lookup tables, the writable ones first.
    """

    slot: Slot
    raw: bytes
    err: TransactionError | None
    logs: tuple[str, ...]
    inner: Mapping[int, tuple[InnerInstruction, ...]]
    loaded_addresses: tuple[Pubkey, ...]
    block_time: UnixSeconds | None


@dataclass(frozen=True, slots=True)
class EpochInfo:
    absolute_slot: Slot
    block_height: int


@dataclass(frozen=True, slots=True)
class Status:
    slot: Slot
    err: TransactionError | None
    confirmation_status: Commitment


@dataclass(frozen=True, slots=True)
class Statuses:
    """`slot` is the context's; `statuses` stand in the order asked, None for a signature that is not known."""

    slot: Slot
    statuses: tuple[Status | None, ...]


class LatestBlockhash(NamedTuple):
    blockhash: Hash
    last_valid_block_height: int


@dataclass(frozen=True, slots=True)
class Simulation:
    slot: Slot
    err: TransactionError | None
    logs: tuple[str, ...]
    compute_units: int | None


def clock_time(clock: Account | None) -> UnixSeconds:
    """The unix_timestamp of the Clock sysvar's account."""
    if clock is None or len(clock.data) != _CLOCK_LENGTH:
        raise RpcInvalid("the Clock sysvar is not there or has another length than 40 bytes")
    return UnixSeconds(int.from_bytes(clock.data[_CLOCK_UNIX_TIMESTAMP_OFFSET:], "little", signed=True))


def account(value: object) -> Account:
    return Account(
        lamports=Lamports(integer(member(value, "lamports", "an account"), "lamports")),
        owner=read.pubkey(member(value, "owner", "an account"), "an account's owner"),
        data=read.base64_bytes(member(value, "data", "an account"), "an account's data"),
    )


def commitment(value: object, what: str) -> Commitment:
    match value:
        case "processed":
            return "processed"
        case "confirmed":
            return "confirmed"
        case "finalized":
            return "finalized"
        case _:
            raise invalid(what, "processed, confirmed or finalized", value)


def transaction_error(value: object) -> TransactionError | None:
    """Read `err`: null, a name, or an object such as `{"InstructionError": [0, {"Custom": 6042}]}`."""
    match value:
        case None:
            return None
        case str(name):
            return TransactionError(_shown(name))
        case {"InstructionError": [int(index), cause]} if 0 <= index < 256:
            return _instruction_error(index, cause)
        case {"InsufficientFundsForRent": {"account_index": int(index)}} if 0 <= index < 256:
            return TransactionError("InsufficientFundsForRent", account=index)
        case dict():
            return TransactionError(_shown(", ".join(value)) or "an error without a name")
        case _:
            raise invalid("err", "null, a name or an object", value)


def _instruction_error(index: int, cause: object) -> TransactionError:
    match cause:
        case {"Custom": int(code)} if 0 <= code < 2**32:
            return TransactionError(f"instruction {index} failed with custom error {code}", index, code)
        case str(name):
            return TransactionError(f"instruction {index} failed with {_shown(name)}", index)
        case dict():
            return TransactionError(f"instruction {index} failed with {_shown(', '.join(cause))}", index)
        case _:
            raise invalid("err: the cause", "a name or an object", cause)


def _shown(name: str) -> str:
    """A name that goes into the journal, which holds no lone surrogates, and in front of an operator."""
    return ascii(name)[1:-1][:_MAX_SHOWN]


def signature_row(value: object) -> SignatureRow:
    what = "a row of getSignaturesForAddress"
    block_time = member(value, "blockTime", what)
    return SignatureRow(
        read.signature(member(value, "signature", what), what),
        read.slot(member(value, "slot", what), what),
        transaction_error(stated(value, "err", what)),
        None if block_time is None else UnixSeconds(integer(block_time, "blockTime")),
        member(value, "confirmationStatus", what) == "finalized",
    )


def status(value: object) -> Status | None:
    if value is None:
        return None
    what = "a status of getSignatureStatuses"
    return Status(
        read.slot(member(value, "slot", what), what),
        transaction_error(stated(value, "err", what)),
        commitment(member(value, "confirmationStatus", what), what),
    )


def transaction(value: object) -> TransactionRead:
    what = "getTransaction"
    meta = member(value, "meta", what)
    loaded = member(meta, "loadedAddresses", what)
    block_time = member(value, "blockTime", what)
    inner = dict(_inner(entry) for entry in sequence(member(meta, "innerInstructions", what) or [], what))
    if sum(map(len, inner.values())) > _MAX_CALLED:
        raise RpcInvalid(f"{what}: more than {_MAX_CALLED} inner instructions")
    return TransactionRead(
        slot=read.slot(member(value, "slot", what), what),
        raw=read.base64_bytes(member(value, "transaction", what), what),
        err=transaction_error(stated(meta, "err", what)),
        logs=read.log_lines(member(meta, "logMessages", what), what),
        inner=inner,
        loaded_addresses=() if loaded is None else (*_keys(loaded, "writable"), *_keys(loaded, "readonly")),
        block_time=None if block_time is None else UnixSeconds(integer(block_time, "blockTime")),
    )


def _keys(loaded: object, name: str) -> list[Pubkey]:
    what = f"loadedAddresses.{name}"
    return [read.pubkey(key, what) for key in sequence(member(loaded, name, what), what)]


def _inner(value: object) -> tuple[int, tuple[InnerInstruction, ...]]:
    what = "innerInstructions"
    called = sequence(member(value, "instructions", what), what)
    return integer(member(value, "index", what), what, 256), tuple(_inner_instruction(one) for one in called)


def _inner_instruction(value: object) -> InnerInstruction:
    what = "an inner instruction"
    height = member(value, "stackHeight", what)
    accounts = sequence(member(value, "accounts", what), what)
    return InnerInstruction(
        program_index=integer(member(value, "programIdIndex", what), what, 256),
        account_indices=tuple(integer(index, what, 256) for index in accounts),
        data=read.base58_bytes(member(value, "data", what), what),
        stack_height=None if height is None else integer(height, what, 256),
    )
