"""What happens to one transaction in a block: its fee, its instructions, the rule of rent, its log."""

import base64
import json
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from tests.program.instructions import SYSTEM_PROGRAM
from tests.simulation import program_model
from tests.simulation.program_model import PROGRAM_ID, Bank, Cell, Refused

COMPUTE_BUDGET: Final = Pubkey.from_string("ComputeBudget111111111111111111111111111111")
STRANGER: Final = Pubkey([13] * 32)
"""A program whose instruction data is a JSON list of the lines that it writes to the log."""
FEE_LAMPORTS: Final = 5_000
DEFAULT_UNITS: Final = 200_000
TRANSFER: Final = 2
"""The system program's instruction."""


@dataclass(frozen=True)
class SignedTransaction:
    """One as it is sent. Made from its bytes, which anybody may have written."""

    raw: bytes

    @cached_property
    def parsed(self) -> VersionedTransaction:
        return VersionedTransaction.from_bytes(self.raw)

    @cached_property
    def signature(self) -> Signature:
        return self.parsed.signatures[0]

    @cached_property
    def keys(self) -> tuple[Pubkey, ...]:
        return tuple(self.parsed.message.account_keys)

    @property
    def payer(self) -> Pubkey:
        return self.keys[0]

    @property
    def blockhash(self) -> str:
        return str(self.parsed.message.recent_blockhash)

    @cached_property
    def calls(self) -> tuple["Call", ...]:
        return tuple(
            Call(self.keys[one.program_id_index], tuple(self.keys[at] for at in one.accounts), bytes(one.data))
            for one in self.parsed.message.instructions
        )

    @cached_property
    def fee(self) -> int:
        limit, price = DEFAULT_UNITS, 0
        for call in self.calls:
            if call.program == COMPUTE_BUDGET and call.data[0] == 2:
                limit = int(struct.unpack("<I", call.data[1:5])[0])
            elif call.program == COMPUTE_BUDGET and call.data[0] == 3:
                price = int(struct.unpack("<Q", call.data[1:9])[0])
        return FEE_LAMPORTS * len(self.parsed.signatures) + -(-limit * price // 1_000_000)

    @cached_property
    def is_signed(self) -> bool:
        return all(self.parsed.verify_with_results())

    def writable(self) -> list[Pubkey]:
        header = self.parsed.message.header
        signers, count = header.num_required_signatures, len(self.keys)
        return [
            *self.keys[: signers - header.num_readonly_signed_accounts],
            *self.keys[signers : count - header.num_readonly_unsigned_accounts],
        ]


@dataclass(frozen=True, slots=True)
class Call:
    program: Pubkey
    keys: tuple[Pubkey, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Ran:
    """`err` is None, or as the RPC says it. `changed` holds the accounts after it, the fee included."""

    err: Any
    logs: tuple[str, ...]
    changed: dict[Pubkey, Cell | None]


def run(transaction: SignedTransaction, bank: Bank) -> Ran | None:
    """None where it cannot be in a block: nobody pays its fee."""
    payer = bank.cell(transaction.payer)
    left = payer.lamports - transaction.fee
    if left != 0 and left < bank.rent(0):
        return None
    bank.put(transaction.payer, Cell(left, payer.owner, payer.data))
    paid = dict(bank.changed)
    before = {address: bank.cell(address) for address in transaction.writable()}
    log: list[str] = []
    err = _run_calls(transaction, bank, log) or _rent_rule(transaction, bank, before)
    return Ran(err, tuple(log), paid if err else bank.changed)


def _run_calls(transaction: SignedTransaction, bank: Bank, log: list[str]) -> Any:
    for index, call in enumerate(transaction.calls):
        log.append(f"Program {call.program} invoke [1]")
        err = _run_call(call, bank, log)
        if err is not None:
            custom = err["Custom"] if isinstance(err, dict) else None
            told = str(err) if custom is None else f"custom program error: {custom:#x}"
            log.append(f"Program {call.program} failed: {told}")
            return {"InstructionError": [index, err]}
        log.append(f"Program {call.program} success")
    return None


def _run_call(call: Call, bank: Bank, log: list[str]) -> Any:
    if call.program == PROGRAM_ID:
        try:
            told = program_model.call(bank, call.keys, call.data)
        except Refused as refused:
            log.append(f"Program log: Error: {refused}")
            return {"Custom": refused.code}
        if told:
            log.append(f"Program data: {base64.b64encode(told).decode('ascii')}")
        log.append(f"Program {PROGRAM_ID} consumed 2898 of 60000 compute units")
    elif call.program == STRANGER:
        log.extend(json.loads(call.data))
    elif call.program == SYSTEM_PROGRAM:
        kind, lamports = struct.unpack("<IQ", call.data[:12])
        if kind != TRANSFER:
            return "InvalidInstructionData"
        if bank.cell(call.keys[0]).lamports < lamports:
            return {"Custom": 1}
        bank.move(call.keys[0], call.keys[1], lamports)
    return None


def _rent_rule(transaction: SignedTransaction, bank: Bank, before: dict[Pubkey, Cell]) -> Any:
    """No writable account may come to hold less than its rent: one that did before may stay so, and not grow."""
    for address, old in before.items():
        new = bank.cell(address)
        if new.lamports == 0 or new.lamports >= bank.rent(len(new.data)):
            continue
        was_below = 0 < old.lamports < bank.rent(len(old.data))
        if not (was_below and len(new.data) == len(old.data) and new.lamports <= old.lamports):
            return {"InsufficientFundsForRent": {"account_index": transaction.keys.index(address)}}
    return None
