"""Every change of the journal, as a value, and how it is written.

What decides returns changes; `Journal.apply` writes any number of them in one transaction, or none.
"""

import json
import sqlite3
from dataclasses import dataclass, field
from functools import singledispatch

from listener.journal.records import Assignment, Cursor, EventRow
from listener.journal.states import TRANSITIONS, WATCHED, OutboxStatus, Owed, State, SubmissionKind
from shared.errors import StateConflict
from shared.ids import Attempt, Slot, UnixSeconds
from shared.messages import TaskResult


@dataclass(frozen=True, slots=True)
class Insert:
    """A new row of `tasks`, in the state that the rules gave it."""

    assignment: Assignment
    state: State
    reason: str | None = None
    result: TaskResult | None = None
    ends_as: State | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """From one state to another. Options that are None leave what stands there."""

    task: int
    origin: State
    to: State
    reason: str | None = None
    result: TaskResult | None = None
    ends_as: State | None = None
    owed: Owed | None = None
    refund_at: UnixSeconds | None = None
    verified_slot: Slot | None = None


@dataclass(frozen=True, slots=True)
class Restart:
    """Back to `accepted` as on the first day: result, reason, notice and debt are forgotten."""

    task: int
    origin: State
    attempt: Attempt
    verified_slot: Slot


@dataclass(frozen=True, slots=True)
class Renumber:
    """A higher attempt with the same content: what is computed stays, older signatures no longer count."""

    task: int
    origin: State
    to: State
    attempt: Attempt
    verified_slot: Slot


@dataclass(frozen=True, slots=True)
class Seen:
    """The account was read again and shows what the row says, perhaps with a notice."""

    task: int
    verified_slot: Slot
    refund_at: UnixSeconds


@dataclass(frozen=True, slots=True)
class PassOver:
    account: str
    attempt: Attempt
    slot: Slot
    reason: str


@dataclass(frozen=True, slots=True)
class Sign:
    """A signed transaction, stored before its first send; the task goes from `computed` to `submitting`."""

    task: int
    kind: SubmissionKind
    attempt: Attempt
    signature: str
    raw: bytes = field(repr=False)
    last_valid_block_height: int


@dataclass(frozen=True, slots=True)
class Supersede:
    """What was signed for this task so far counts no more: watched to its end, not sent."""

    task: int


@dataclass(frozen=True, slots=True)
class Observe:
    """What became of a signature."""

    outbox: int
    origin: OutboxStatus
    to: OutboxStatus
    slot: Slot | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Complete:
    """The pair's completion is finalized: it is never run again."""

    pair_hash: bytes


@dataclass(frozen=True, slots=True)
class Owe:
    task: int
    origin: Owed
    to: Owed


Change = (
    Insert
    | Move
    | Restart
    | Renumber
    | Seen
    | PassOver
    | Sign
    | Supersede
    | Observe
    | Complete
    | Owe
    | (EventRow | Cursor)
)


@singledispatch
def write(change: object, db: sqlite3.Connection) -> None:
    """Write one change inside the open transaction. Raises StateConflict where the row is not as expected."""
    raise TypeError(f"{change!r} is no change of the journal in {db}")


def _guarded(db: sqlite3.Connection, sql: str, values: dict[str, object], change: object) -> None:
    if db.execute(sql, values).rowcount != 1:
        raise StateConflict(f"the journal's row is not as this change expects it: {change!r}")


def _check_transition(change: Move | Restart | Renumber) -> None:
    to = State.ACCEPTED if isinstance(change, Restart) else change.to
    if change.origin != to and (change.origin, to) not in TRANSITIONS:
        raise StateConflict(f"no transition leads from {change.origin} to {to}")


@write.register
def _(change: Insert, db: sqlite3.Connection) -> None:
    task = change.assignment
    try:
        db.execute(
            """INSERT INTO tasks (account, attempt, execution_id, task_id, requester, content_hash, model_id,
               input_uris, output_count, compute_units, reward, deadline, refund_at, verified_slot,
               state, ends_as, reason, result) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            (
                task.account,
                task.attempt,
                task.execution_id,
                task.task_id,
                task.requester,
                task.content_hash,
                task.model_id,
                json.dumps(task.input_uris),
                task.output_count,
                task.compute_units,
                task.reward,
                task.deadline,
                task.refund_at,
                task.verified_slot,
                change.state,
                change.ends_as,
                change.reason,
                change.result.to_wire() if change.result else None,
            ),
        )
    except sqlite3.IntegrityError as error:
        raise StateConflict(f"{task.account} is in the journal under attempt {task.attempt}: {error}") from error


@write.register
def _(change: Move, db: sqlite3.Connection) -> None:
    _check_transition(change)
    _guarded(
        db,
        """UPDATE tasks SET state = :to, reason = coalesce(:reason, reason), result = coalesce(:result, result),
           ends_as = coalesce(:ends_as, ends_as), owed = coalesce(:owed, owed),
           refund_at = coalesce(:refund_at, refund_at),
           verified_slot = max(verified_slot, coalesce(:verified_slot, 0))
           WHERE id = :task AND state = :origin""",
        {
            "task": change.task,
            "origin": change.origin,
            "to": change.to,
            "reason": change.reason,
            "result": change.result.to_wire() if change.result else None,
            "ends_as": change.ends_as,
            "owed": change.owed,
            "refund_at": change.refund_at,
            "verified_slot": change.verified_slot,
        },
        change,
    )


@write.register
def _(change: Restart, db: sqlite3.Connection) -> None:
    _check_transition(change)
    _guarded(
        db,
        """UPDATE tasks SET state = 'accepted', attempt = :attempt, reason = NULL, result = NULL, ends_as = NULL,
           owed = 'nothing', refund_at = 0, verified_slot = :verified_slot
           WHERE id = :task AND state = :origin""",
        {
            "task": change.task,
            "origin": change.origin,
            "attempt": change.attempt,
            "verified_slot": change.verified_slot,
        },
        change,
    )


@write.register
def _(change: Renumber, db: sqlite3.Connection) -> None:
    _check_transition(change)
    write(Supersede(change.task), db)
    _guarded(
        db,
        """UPDATE tasks SET state = :to, attempt = :attempt, refund_at = 0, verified_slot = :verified_slot
           WHERE id = :task AND state = :origin AND attempt < :attempt""",
        {
            "task": change.task,
            "origin": change.origin,
            "to": change.to,
            "attempt": change.attempt,
            "verified_slot": change.verified_slot,
        },
        change,
    )


@write.register
def _(change: Seen, db: sqlite3.Connection) -> None:
    db.execute(
        "UPDATE tasks SET verified_slot = ?, refund_at = ? WHERE id = ? AND verified_slot <= ?",
        (change.verified_slot, change.refund_at, change.task, change.verified_slot),
    )


@write.register
def _(change: PassOver, db: sqlite3.Connection) -> None:
    db.execute(
        """INSERT INTO passed_over (account, attempt, slot, reason) VALUES (?, ?, ?, ?)
           ON CONFLICT DO UPDATE SET slot = excluded.slot, reason = excluded.reason""",
        (change.account, change.attempt, change.slot, change.reason),
    )


@write.register
def _(change: Sign, db: sqlite3.Connection) -> None:
    _guarded(
        db,
        "UPDATE tasks SET state = 'submitting' WHERE id = :task AND state = 'computed' AND attempt = :attempt",
        {"task": change.task, "attempt": change.attempt},
        change,
    )
    try:
        db.execute(
            """INSERT INTO outbox (task, kind, attempt, signature, raw, last_valid_block_height, status)
               VALUES (?, ?, ?, ?, ?, ?, 'signed')""",
            (
                change.task,
                change.kind,
                change.attempt,
                change.signature,
                change.raw,
                change.last_valid_block_height,
            ),
        )
    except sqlite3.IntegrityError as error:
        raise StateConflict(f"task {change.task} has a signature that may still land: {error}") from error


@write.register
def _(change: Supersede, db: sqlite3.Connection) -> None:
    watched = ", ".join(f"'{status}'" for status in sorted(WATCHED))
    db.execute(
        f"UPDATE outbox SET superseded = 1 WHERE task = ? AND status IN ({watched})",  # noqa: S608 (own enum)
        (change.task,),
    )


@write.register
def _(change: Observe, db: sqlite3.Connection) -> None:
    _guarded(
        db,
        "UPDATE outbox SET status = :to, slot = :slot, error = :error WHERE id = :outbox AND status = :origin",
        {
            "outbox": change.outbox,
            "origin": change.origin,
            "to": change.to,
            "slot": change.slot,
            "error": change.error,
        },
        change,
    )


@write.register
def _(change: Complete, db: sqlite3.Connection) -> None:
    db.execute("INSERT INTO completed (pair_hash) VALUES (?) ON CONFLICT DO NOTHING", (change.pair_hash,))


@write.register
def _(change: Owe, db: sqlite3.Connection) -> None:
    _guarded(
        db,
        "UPDATE tasks SET owed = :to WHERE id = :task AND owed = :origin",
        {"task": change.task, "origin": change.origin, "to": change.to},
        change,
    )


@write.register
def _(change: EventRow, db: sqlite3.Connection) -> None:
    db.execute(
        """INSERT INTO events (signature, event_index, slot, name, account) VALUES (?, ?, ?, ?, ?)
           ON CONFLICT DO UPDATE SET slot = excluded.slot""",
        (change.signature, change.index, change.slot, change.name, change.account),
    )


@write.register
def _(change: Cursor, db: sqlite3.Connection) -> None:
    db.execute(
        """INSERT INTO cursor (only, signature, slot) VALUES (1, ?, ?)
           ON CONFLICT DO UPDATE SET signature = excluded.signature, slot = excluded.slot
           WHERE excluded.slot >= slot""",
        (change.signature, change.slot),
    )
