"""A chain in this process: LiteSVM with the sBPF v0 build, a clock that stands still, errors by name."""

import base64
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from solders.account import Account
from solders.clock import Clock
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import Transaction
from solders.transaction_metadata import FailedTransactionMetadata
from solders.transaction_status import InstructionErrorCustom, TransactionErrorInstructionError

from program import IDL_PATH, program_bytes

IDL = json.loads(IDL_PATH.read_text())
ERROR_NAMES: dict[int, str] = {error["code"]: error["name"] for error in IDL["errors"]}
PROGRAM_ID = Pubkey.from_string(IDL["address"])
NOW = 1_700_000_000
SLOT = 1_000
FEE = 5_000
WALLET = 10**10


def build(version: Literal["v0", "v3"]) -> bytes:
    """The committed build, or the one that SPLITUP_PROGRAM_V0 or _V3 names."""
    override = os.environ.get(f"SPLITUP_PROGRAM_{version.upper()}")
    return Path(override).read_bytes() if override else program_bytes(version)


@dataclass(frozen=True)
class Outcome:
    """`error` is None, a name of the IDL, or the runtime's error as text."""

    error: str | None
    index: int
    """Which of the transaction's instructions failed; -1 where none is to blame."""
    logs: list[str]
    compute_units: int

    @property
    def events(self) -> list[bytes]:
        """The data of each `Program data:` line that the program itself wrote."""
        prefix = "Program data: "
        return [base64.b64decode(line.removeprefix(prefix)) for line in self.logs if line.startswith(prefix)]


class Chain:
    def __init__(self, program_id: Pubkey = PROGRAM_ID) -> None:
        self.svm = LiteSVM().with_sigverify(False).with_blockhash_check(False).with_transaction_history(0)
        self.program_id = program_id
        self.svm.add_program(program_id, build("v0"))
        self.set_clock(NOW, SLOT)

    def set_clock(self, now: int, slot: int) -> None:
        clock = self.svm.get_clock()
        self.now, self.slot = now, slot
        self.svm.set_clock(
            Clock(
                slot=slot,
                epoch_start_timestamp=clock.epoch_start_timestamp,
                epoch=clock.epoch,
                leader_schedule_epoch=clock.leader_schedule_epoch,
                unix_timestamp=now,
            )
        )

    def pass_time(self, seconds: int) -> None:
        """Move the clock, and the slot by at least one."""
        self.set_clock(self.now + seconds, self.slot + 1 + abs(seconds) * 5 // 2)

    def wallet(self, lamports: int = WALLET) -> Keypair:
        keypair = Keypair()
        self.svm.airdrop(keypair.pubkey(), lamports)
        return keypair

    def lamports(self, address: Pubkey) -> int:
        return self.svm.get_balance(address) or 0

    def account(self, address: Pubkey) -> Account | None:
        account = self.svm.get_account(address)
        return account if account and (account.lamports or account.data) else None

    def rent(self, length: int) -> int:
        return self.svm.minimum_balance_for_rent_exemption(length)

    def send(self, instructions: Instruction | Sequence[Instruction], *signers: Keypair) -> Outcome:
        """Send one transaction; the first signer pays its fee."""
        listed = [instructions] if isinstance(instructions, Instruction) else list(instructions)
        result = self.svm.send_transaction(self._transaction(listed, signers))
        if not isinstance(result, FailedTransactionMetadata):
            return Outcome(None, -1, result.logs(), result.compute_units_consumed())
        meta = result.meta()
        error, index = describe(result.err())
        return Outcome(error, index, meta.logs(), meta.compute_units_consumed())

    def simulated(self, instruction: Instruction, signer: Keypair) -> str | None:
        """The error that it would end with; nothing is changed."""
        result = self.svm.simulate_transaction(self._transaction([instruction], [signer]))
        return describe(result.err())[0] if isinstance(result, FailedTransactionMetadata) else None

    def _transaction(self, instructions: Sequence[Instruction], signers: Sequence[Keypair]) -> Transaction:
        message = Message(list(instructions), signers[0].pubkey())
        return Transaction(list(signers), message, self.svm.latest_blockhash())

    def refused(self, error: str, instructions: Instruction | Sequence[Instruction], *signers: Keypair) -> Outcome:
        """Send, and see that exactly this error comes back."""
        outcome = self.send(instructions, *signers)
        assert outcome.error == error, outcome
        return outcome

    def accepted(self, instructions: Instruction | Sequence[Instruction], *signers: Keypair) -> Outcome:
        outcome = self.send(instructions, *signers)
        assert outcome.error is None, outcome
        return outcome


def describe(error: object) -> tuple[str, int]:
    """The program's error by name, any other as text, and the index of the instruction."""
    if not isinstance(error, TransactionErrorInstructionError):
        return str(error), -1
    if isinstance(error.err, InstructionErrorCustom):
        return ERROR_NAMES.get(error.err.code, f"Custom({error.err.code})"), error.index
    return str(error.err), error.index
