"""The program's rules once more, in Python, on accounts in the exact layout of the reference program."""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from solders.pubkey import Pubkey

from program import IDL_PATH
from tests.program.instructions import (
    ASSIGNED,
    CANCELLED,
    COMPLETED,
    FAILED,
    HEAD_LENGTH,
    SYSTEM_PROGRAM,
    discriminator,
    execution_address,
    string,
    strings,
)

PROGRAM_ID: Final = Pubkey([9] * 32)
GRACE_S: Final = 60
NOTICE_S: Final = 30
LAMPORTS_PER_BYTE: Final = 6_960
ACCOUNT_OVERHEAD: Final = 128
_CODES: Final[dict[str, int]] = {
    error["name"]: error["code"] for error in json.loads(IDL_PATH.read_text(encoding="utf-8"))["errors"]
}
_HEAD: Final = "<8sBBBB4s32s32sQqqQQ"


class Refused(Exception):
    """The program's error, by its name in the IDL."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.code = _CODES[name]


@dataclass(frozen=True, slots=True)
class Cell:
    """What lies at an address."""

    lamports: int
    owner: Pubkey = SYSTEM_PROGRAM
    data: bytes = b""


@dataclass(slots=True)
class Bank:
    """The state that one transaction works on: what it changes lies over what the block held before."""

    below: dict[Pubkey, Cell]
    slot: int
    now: int
    """Unix seconds, the Clock sysvar's."""
    lamports_per_byte: int
    changed: dict[Pubkey, Cell | None]

    def cell(self, address: Pubkey) -> Cell:
        found = self.changed[address] if address in self.changed else self.below.get(address)
        return found or Cell(0)

    def put(self, address: Pubkey, cell: Cell) -> None:
        self.changed[address] = cell if cell.lamports or cell.data else None

    def move(self, origin: Pubkey, to: Pubkey, lamports: int) -> None:
        source, target = self.cell(origin), self.cell(to)
        self.put(origin, replace(source, lamports=source.lamports - lamports))
        self.put(to, replace(target, lamports=target.lamports + lamports))

    def rent(self, length: int) -> int:
        return (ACCOUNT_OVERHEAD + length) * self.lamports_per_byte


@dataclass(frozen=True, slots=True)
class Execution:
    """An account of the program."""

    state: int
    bump: int
    expected_output_count: int
    assigned_node: Pubkey
    requester: Pubkey
    reward: int
    deadline: int
    refund_at: int
    attempt: int
    compute_units: int
    texts: bytes
    """executionId, taskId, modelId and URIs in borsh."""

    @classmethod
    def read(cls, data: bytes) -> "Execution":
        head = struct.unpack(_HEAD, data[:HEAD_LENGTH])
        (_, _, state, bump, outputs, _, node, requester, reward, deadline, refund_at, attempt, units) = head
        terms = reward, deadline, refund_at, attempt, units
        return cls(state, bump, outputs, Pubkey(node), Pubkey(requester), *terms, data[HEAD_LENGTH:])

    def __bytes__(self) -> bytes:
        head = struct.pack(
            _HEAD,
            discriminator("account", "Execution"),
            1,
            self.state,
            self.bump,
            self.expected_output_count,
            bytes(4),
            bytes(self.assigned_node),
            bytes(self.requester),
            self.reward,
            self.deadline,
            self.refund_at,
            self.attempt,
            self.compute_units,
        )
        return head + self.texts

    @property
    def is_live(self) -> bool:
        return self.state in (ASSIGNED, CANCELLED)


class Reader:
    """Borsh, as far as the program needs it."""

    def __init__(self, data: bytes) -> None:
        self._data, self.at = data, 0

    def take(self, length: int) -> bytes:
        if self.at + length > len(self._data):
            raise Refused("ArgumentsTruncated")
        self.at += length
        return self._data[self.at - length : self.at]

    def number(self, kind: str) -> int:
        return int(struct.unpack(f"<{kind}", self.take(struct.calcsize(kind)))[0])

    def text(self) -> str:
        return self.take(self.number("I")).decode()

    def texts(self) -> tuple[str, ...]:
        return tuple(self.text() for _ in range(self.number("I")))

    def finish(self) -> None:
        if self.at != len(self._data):
            raise Refused("ArgumentsTrailing")


Keys = tuple[Pubkey, ...]
Told = bytes
"""What the instruction writes as `Program data:`; empty where it writes nothing."""


def call(bank: Bank, keys: Keys, data: bytes) -> Told:
    """Run one instruction. Raises Refused. Signers and writable flags are as the transactions here always set them."""
    for name, run in _INSTRUCTIONS.items():
        if data.startswith(_TAGS[name]):
            return run(bank, keys, Reader(data[8:]))
    raise Refused("UnknownInstruction")


def _load(bank: Bank, address: Pubkey, pair: tuple[str, str]) -> Execution:
    cell = bank.cell(address)
    if cell.owner != PROGRAM_ID:
        raise Refused("WrongOwner")
    if execution_address(PROGRAM_ID, *pair)[0] != address:
        raise Refused("WrongAddress")
    return Execution.read(cell.data)


def _store(bank: Bank, address: Pubkey, execution: Execution) -> None:
    bank.put(address, Cell(bank.cell(address).lamports, PROGRAM_ID, bytes(execution)))


def _assign_task(bank: Bank, keys: Keys, reader: Reader) -> Told:
    address, requester, node = keys[:3]
    pair = reader.text(), reader.text()
    reader.text(), reader.texts()
    texts = reader._data[: reader.at]
    outputs, deadline, units, reward = (reader.number(kind) for kind in "BqQQ")
    reader.finish()
    if deadline <= bank.now:
        raise Refused("DeadlineNotAhead")
    expected, bump = execution_address(PROGRAM_ID, *pair)
    if address != expected:
        raise Refused("WrongAddress")
    if bank.cell(address).owner != SYSTEM_PROGRAM:
        _may_be_taken_again(Execution.read(bank.cell(address).data), requester, bank)
    missing = max(0, bank.rent(HEAD_LENGTH + len(texts)) + reward - bank.cell(address).lamports)
    if missing > bank.cell(requester).lamports:
        raise Refused("InsufficientFunds")
    bank.move(requester, address, missing)
    made = Execution(ASSIGNED, bump, outputs, node, requester, reward, deadline, 0, bank.slot, units, texts)
    _store(bank, address, made)
    terms = struct.pack("<BqQ", outputs, deadline, units)
    return discriminator("event", "TaskAssigned") + texts + terms + bytes(node)


def _may_be_taken_again(known: Execution, requester: Pubkey, bank: Bank) -> None:
    if known.requester != requester:
        raise Refused("WrongRequester")
    if known.state == COMPLETED:
        raise Refused("AlreadyCompleted")
    _is_over(known, bank)


def _is_over(known: Execution, bank: Bank) -> None:
    if known.state == ASSIGNED and bank.now <= known.deadline + GRACE_S:
        raise Refused("StillAssigned")
    if known.state == CANCELLED and bank.now < known.refund_at:
        raise Refused("NoticeRunning")
    if bank.slot <= known.attempt:
        raise Refused("SameSlot")


def _cancel_execution(bank: Bank, keys: Keys, reader: Reader) -> Told:
    address, requester, node = keys[:3]
    pair = reader.text(), reader.text()
    known = _load(bank, address, pair)
    if known.requester != requester:
        raise Refused("WrongRequester")
    if known.assigned_node != node:
        raise Refused("WrongNode")
    if known.state != ASSIGNED:
        raise Refused(
            {CANCELLED: "AlreadyCancelled", FAILED: "AlreadyFailed"}.get(known.state, "AlreadyCompleted")
        )
    refund_at = bank.now + NOTICE_S
    _store(bank, address, replace(known, state=CANCELLED, refund_at=refund_at))
    ids = string(pair[0]) + string(pair[1])
    return discriminator("event", "ExecutionCancelled") + ids + bytes(node) + struct.pack("<q", refund_at)


def _is_the_nodes_to_end(known: Execution, node: Pubkey, attempt: int, bank: Bank) -> None:
    if known.assigned_node != node:
        raise Refused("WrongNode")
    if known.attempt != attempt:
        raise Refused("WrongAttempt")
    if known.state == CANCELLED and bank.now >= known.refund_at:
        raise Refused("NoticeOver")
    if not known.is_live:
        raise Refused("AlreadyFailed" if known.state == FAILED else "AlreadyCompleted")


def _task_completed(bank: Bank, keys: Keys, reader: Reader) -> Told:
    address, node = keys[:2]
    pair, attempt, uris = (reader.text(), reader.text()), reader.number("Q"), reader.texts()
    milliseconds = reader.number("Q")
    reader.finish()
    known = _load(bank, address, pair)
    _is_the_nodes_to_end(known, node, attempt, bank)
    if bank.now > known.deadline:
        raise Refused("DeadlinePassed")
    is_all_of_one_object = len(uris) == 1 and uris[0].endswith("#*")
    if len(uris) != known.expected_output_count and not is_all_of_one_object:
        raise Refused("OutputUriCount")
    _store(bank, address, replace(known, state=COMPLETED))
    bank.move(address, node, known.reward)
    ids = string(pair[0]) + string(pair[1])
    told = ids + strings(uris) + struct.pack("<Q", milliseconds) + bytes(node)
    return discriminator("event", "TaskCompleted") + told


def _task_failed(bank: Bank, keys: Keys, reader: Reader) -> Told:
    address, node = keys[:2]
    pair, attempt, message = (reader.text(), reader.text()), reader.number("Q"), reader.text()
    reader.finish()
    if len(message.encode()) > 256:
        raise Refused("ErrorMessageTooLong")
    known = _load(bank, address, pair)
    _is_the_nodes_to_end(known, node, attempt, bank)
    _store(bank, address, replace(known, state=FAILED))
    ids = string(pair[0]) + string(pair[1])
    return discriminator("event", "TaskFailed") + ids + bytes(node) + string(message)


def _reclaim(bank: Bank, keys: Keys, reader: Reader) -> Told:
    address, requester = keys[:2]
    known = _load(bank, address, (reader.text(), reader.text()))
    if known.requester != requester:
        raise Refused("WrongRequester")
    _is_over(known, bank)
    bank.put(address, Cell(bank.cell(address).lamports))
    bank.move(address, requester, bank.cell(address).lamports)
    return b""


_INSTRUCTIONS: Final[dict[str, Callable[[Bank, Keys, Reader], Told]]] = {
    "assign_task": _assign_task,
    "cancel_execution": _cancel_execution,
    "task_completed": _task_completed,
    "task_failed": _task_failed,
    "reclaim": _reclaim,
}
_TAGS: Final = {name: discriminator("global", name) for name in _INSTRUCTIONS}
