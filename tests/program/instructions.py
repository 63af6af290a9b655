"""The program's instructions, accounts and events, encoded by hand: nothing of the node's own code is used."""

import hashlib
import struct
from dataclasses import dataclass, field

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

SYSTEM_PROGRAM = Pubkey.default()
HEAD_LENGTH = 120
EXECUTION_ID = "6f1c1c54-7f0e-4a36-a3ac-1f0b4c6a7d11"
TASK_ID = "task-0-a1b2c3d4"
ASSIGNED, CANCELLED, FAILED, COMPLETED = range(4)


def discriminator(kind: str, name: str) -> bytes:
    return hashlib.sha256(f"{kind}:{name}".encode()).digest()[:8]


def string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<I", len(raw)) + raw


def strings(texts: tuple[str | bytes, ...]) -> bytes:
    return struct.pack("<I", len(texts)) + b"".join(map(string, texts))


def execution_address(program_id: Pubkey, execution_id: str, task_id: str) -> tuple[Pubkey, int]:
    hashed = hashlib.sha256(bytes([len(execution_id)]) + execution_id.encode() + task_id.encode()).digest()
    return Pubkey.find_program_address([b"execution", hashed], program_id)


@dataclass(frozen=True)
class Assignment:
    """The arguments of assign_task; what a test does not say is as a careful requester would have it."""

    execution_id: str | bytes = EXECUTION_ID
    task_id: str | bytes = TASK_ID
    model_id: str | bytes = "f" * 64
    input_uris: tuple[str | bytes, ...] = ("s3://bucket/tensors/public/x.safetensors#0",)
    expected_output_count: int = 1
    deadline: int = 1_700_000_600
    compute_units: int = 1_000
    reward: int = 1_000_000

    def strings(self) -> bytes:
        ids = string(self.execution_id) + string(self.task_id) + string(self.model_id)
        return ids + strings(self.input_uris)

    def arguments(self) -> bytes:
        terms = struct.pack("<BqQQ", self.expected_output_count, self.deadline, self.compute_units, self.reward)
        return self.strings() + terms


@dataclass(frozen=True)
class Builder:
    """Instructions of one pair, one requester and one node."""

    program_id: Pubkey
    requester: Pubkey
    node: Pubkey
    execution_id: str = EXECUTION_ID
    task_id: str = TASK_ID
    address: Pubkey = field(init=False)
    bump: int = field(init=False)

    def __post_init__(self) -> None:
        address, bump = execution_address(self.program_id, self.execution_id, self.task_id)
        object.__setattr__(self, "address", address)
        object.__setattr__(self, "bump", bump)

    @property
    def _pair(self) -> bytes:
        return string(self.execution_id) + string(self.task_id)

    def _instruction(self, name: str, arguments: bytes, accounts: list[AccountMeta]) -> Instruction:
        return Instruction(self.program_id, discriminator("global", name) + arguments, accounts)

    def assign_task(self, assignment: Assignment) -> Instruction:
        return self._instruction(
            "assign_task",
            assignment.arguments(),
            [
                AccountMeta(self.address, False, True),
                AccountMeta(self.requester, True, True),
                AccountMeta(self.node, False, False),
                AccountMeta(SYSTEM_PROGRAM, False, False),
            ],
        )

    def cancel_execution(self) -> Instruction:
        return self._instruction(
            "cancel_execution",
            self._pair,
            [
                AccountMeta(self.address, False, True),
                AccountMeta(self.requester, True, False),
                AccountMeta(self.node, False, False),
            ],
        )

    def task_completed(
        self,
        attempt: int,
        output_uris: tuple[str | bytes, ...] = ("s3://bucket/out/0.safetensors",),
        execution_time: int = 12,
    ) -> Instruction:
        return self._instruction(
            "task_completed",
            self._pair + struct.pack("<Q", attempt) + strings(output_uris) + struct.pack("<Q", execution_time),
            [AccountMeta(self.address, False, True), AccountMeta(self.node, True, True)],
        )

    def task_failed(self, attempt: int, error_message: str | bytes = "no such operator") -> Instruction:
        return self._instruction(
            "task_failed",
            self._pair + struct.pack("<Q", attempt) + string(error_message),
            [AccountMeta(self.address, False, True), AccountMeta(self.node, True, False)],
        )

    def reclaim(self) -> Instruction:
        return self._instruction(
            "reclaim",
            self._pair,
            [AccountMeta(self.address, False, True), AccountMeta(self.requester, True, True)],
        )


@dataclass(frozen=True)
class Head:
    """The fixed head of an execution account."""

    discriminator: bytes
    layout: int
    state: int
    bump: int
    expected_output_count: int
    zero: bytes
    assigned_node: Pubkey
    requester: Pubkey
    reward: int
    deadline: int
    refund_at: int
    attempt: int
    compute_units: int

    @classmethod
    def read(cls, account_bytes: bytes) -> "Head":
        values = struct.unpack("<8sBBBB4s32s32sQqqQQ", account_bytes[:HEAD_LENGTH])
        node, requester = Pubkey(values[6]), Pubkey(values[7])
        return cls(*values[:6], node, requester, *values[8:])
