"""What the journal holds, as values."""

import hashlib
import json
import sqlite3
from dataclasses import dataclass

from solders.signature import Signature

from listener.journal.states import OutboxStatus, Owed, State, SubmissionKind, WaitsFor
from shared.ids import Attempt, ExecutionId, Lamports, ModelId, Requester, Slot, TaskId, TaskKey, UnixSeconds
from shared.messages import TaskResult


def pair_hash(key: TaskKey, requester: Requester) -> bytes:
    """SHA-256 of pair and requester: the same pair from another requester is another piece of work."""
    return hashlib.sha256(f"{key}/{requester}".encode("ascii")).digest()


def end_of(deadline: UnixSeconds, refund_at: UnixSeconds) -> UnixSeconds:
    return min(deadline, refund_at) if refund_at else deadline


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the requester asked for and pays, as the account showed it."""

    account: str
    attempt: Attempt
    execution_id: ExecutionId
    task_id: TaskId
    requester: Requester
    content_hash: bytes
    model_id: ModelId
    input_uris: tuple[str, ...]
    output_count: int
    compute_units: int
    reward: Lamports
    deadline: UnixSeconds
    refund_at: UnixSeconds
    verified_slot: Slot

    @property
    def key(self) -> TaskKey:
        return TaskKey(self.execution_id, self.task_id)

    @property
    def end(self) -> UnixSeconds:
        """After this moment of the chain's clock the node cannot be paid any more."""
        return end_of(self.deadline, self.refund_at)

    @property
    def pair_hash(self) -> bytes:
        return pair_hash(self.key, self.requester)


@dataclass(frozen=True, slots=True)
class Task(Assignment):
    """One row of `tasks`."""

    id: int
    state: State
    ends_as: State | None
    reason: str | None
    result: TaskResult | None
    owed: Owed
    waits_for: WaitsFor | None = None
    taken_at: UnixSeconds | None = None
    """When it was accepted or refused; None where the journal was of version 1 then."""
    started_at: UnixSeconds | None = None
    """When compute took it."""
    ended_at: UnixSeconds | None = None

    @property
    def submission(self) -> SubmissionKind:
        return SubmissionKind.COMPLETED if self.result and self.result.success else SubmissionKind.FAILED

    @property
    def log_fields(self) -> dict[str, object]:
        return {
            "executionId": self.execution_id,
            "taskId": self.task_id,
            "attempt": self.attempt,
            "state": self.state.value,
        }


@dataclass(frozen=True, slots=True)
class Waiting:
    """What decides when a task that is accepted gets its turn."""

    id: int
    requester: Requester
    reward: Lamports
    deadline: UnixSeconds
    refund_at: UnixSeconds

    @property
    def end(self) -> UnixSeconds:
        return end_of(self.deadline, self.refund_at)


@dataclass(frozen=True, slots=True)
class Outbox:
    """One signed transaction, without its bytes."""

    id: int
    task: int | None
    """None for a sweep, whose attempt is 0."""
    kind: SubmissionKind
    attempt: Attempt
    signature: str
    last_valid_block_height: int
    fee: Lamports
    """What it costs where it lands, with an error too."""
    lamports: Lamports
    """What it carries away besides: swept, or added to the rent of the execution's account."""
    status: OutboxStatus
    superseded: bool
    slot: Slot | None
    error: str | None


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event of the program, read from a transaction that succeeded."""

    signature: str
    index: int
    slot: Slot
    name: str
    account: str


@dataclass(frozen=True, slots=True)
class Cursor:
    """A finalized signature, up to which the chain was read."""

    signature: str
    slot: Slot

    @property
    def parsed_signature(self) -> Signature:
        return Signature.from_string(self.signature)


@dataclass(frozen=True, slots=True)
class PageMark:
    """A backfill has read everything above `read_to`; at its end the cursor moves to `newest`."""

    read_to: Cursor
    newest: Cursor


@dataclass(frozen=True, slots=True)
class Gap:
    """Slots of which no endpoint gave the signatures, both ends among them."""

    from_slot: Slot
    to_slot: Slot


def task_from_row(row: sqlite3.Row) -> Task:
    values = dict(row)
    values["input_uris"] = tuple(json.loads(values["input_uris"]))
    values["state"] = State(values["state"])
    values["ends_as"] = State(values["ends_as"]) if values["ends_as"] else None
    values["owed"] = Owed(values["owed"])
    values["result"] = TaskResult.model_validate_json(values["result"]) if values["result"] else None
    values["waits_for"] = WaitsFor(values["waits_for"]) if values["waits_for"] else None
    return Task(**values)


def outbox_from_row(row: sqlite3.Row) -> Outbox:
    values = dict(row)
    values["kind"] = SubmissionKind(values["kind"])
    values["status"] = OutboxStatus(values["status"])
    values["superseded"] = bool(values["superseded"])
    return Outbox(**values)
