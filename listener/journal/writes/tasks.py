"""Changes of `tasks`, each guarded by the state that it leaves."""

import json
import sqlite3

from listener.journal.changes import Count, Insert, Move, Owe, Renumber, Restart, Seen, Supersede, Wait
from listener.journal.records import Assignment
from listener.journal.states import ENDED, TRANSITIONS, UNSIGNED, State, outcome_of
from listener.journal.writes.write import guarded, unique, write
from shared.errors import StateConflict
from shared.ids import Requester, UnixSeconds, day_of


@write.register
def _(change: Insert, db: sqlite3.Connection, at: UnixSeconds | None) -> None:
    task = change.assignment
    _check_not_over(task, db)
    unique(
        db,
        """INSERT INTO tasks (account, attempt, execution_id, task_id, requester, content_hash, model_id,
           input_uris, output_count, compute_units, reward, deadline, refund_at, verified_slot,
           state, ends_as, reason, result, taken_at, ended_at)
           VALUES (:account, :attempt, :execution_id, :task_id, :requester, :content_hash, :model_id,
           :input_uris, :output_count, :compute_units, :reward, :deadline, :refund_at, :verified_slot,
           :state, :ends_as, :reason, :result, :taken_at, :ended_at)""",
        {
            "account": task.account,
            "attempt": task.attempt,
            "execution_id": task.execution_id,
            "task_id": task.task_id,
            "requester": task.requester,
            "content_hash": task.content_hash,
            "model_id": task.model_id,
            "input_uris": json.dumps(task.input_uris),
            "output_count": task.output_count,
            "compute_units": task.compute_units,
            "reward": task.reward,
            "deadline": task.deadline,
            "refund_at": task.refund_at,
            "verified_slot": task.verified_slot,
            "state": change.state,
            "ends_as": change.ends_as,
            "reason": change.reason,
            "result": change.result.to_wire() if change.result else None,
            "taken_at": at,
            "ended_at": at if change.state in ENDED else None,
        },
        f"{task.account} is in the journal under attempt {task.attempt}",
    )
    if State.REFUSED in (change.state, change.ends_as):
        count_refusal(db, change.reason or "", task.requester, at)
    _count_end(change.state, task.requester, False, change.reason, db, at)


def _check_not_over(task: Assignment, db: sqlite3.Connection) -> None:
    sql = "SELECT 1 FROM history WHERE account = ? AND attempt >= ?"
    if db.execute(sql, (task.account, task.attempt)).fetchone():
        raise StateConflict(f"{task.account} ended under attempt {task.attempt} or a higher one")


def count_refusal(db: sqlite3.Connection, reason: str, requester: str, at: UnixSeconds | None) -> None:
    db.execute(
        """INSERT INTO refusals (reason, requester, count, last_at) VALUES (?, ?, 1, ?)
           ON CONFLICT DO UPDATE SET count = count + 1, last_at = coalesce(excluded.last_at, last_at)""",
        (reason, requester, at),
    )


def _check_transition(change: Move | Restart | Renumber) -> None:
    to = State.ACCEPTED if isinstance(change, Restart) else change.to
    if change.origin != to and (change.origin, to) not in TRANSITIONS:
        raise StateConflict(f"no transition leads from {change.origin} to {to}")


@write.register
def _(change: Move, db: sqlite3.Connection, at: UnixSeconds | None) -> None:
    _check_transition(change)
    guarded(
        db,
        """UPDATE tasks SET state = :to, reason = coalesce(:reason, reason), result = coalesce(:result, result),
           ends_as = coalesce(:ends_as, ends_as), owed = coalesce(:owed, owed), waits_for = NULL,
           refund_at = coalesce(:refund_at, refund_at),
           verified_slot = max(verified_slot, coalesce(:verified_slot, 0)),
           started_at = coalesce(started_at, :started_at), ended_at = coalesce(ended_at, :ended_at)
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
            "started_at": at if change.to is State.COMPUTING else None,
            "ended_at": at if change.to in ENDED else None,
        },
        change,
    )
    sql = "SELECT requester, started_at IS NOT NULL, reason FROM tasks WHERE id = ?"
    requester, was_started, reason = db.execute(sql, (change.task,)).fetchone()
    if change.ends_as is State.REFUSED:
        count_refusal(db, change.reason or "", requester, at)
    _count_end(change.to, requester, was_started, reason, db, at)


def _count_end(
    state: State,
    requester: str,
    was_started: bool,
    reason: str | None,
    db: sqlite3.Connection,
    at: UnixSeconds | None,
) -> None:
    outcome = outcome_of(state, was_started, reason)
    if outcome is not None and at is not None:
        write(Count(Requester(requester), day_of(at), outcome), db, at)


@write.register
def _(change: Restart, db: sqlite3.Connection, _at: UnixSeconds | None) -> None:
    _check_transition(change)
    guarded(
        db,
        """UPDATE tasks SET state = 'accepted', attempt = :attempt, reason = NULL, result = NULL, ends_as = NULL,
           owed = 'nothing', refund_at = 0, verified_slot = :verified_slot, waits_for = NULL, started_at = NULL,
           ended_at = NULL
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
def _(change: Renumber, db: sqlite3.Connection, at: UnixSeconds | None) -> None:
    _check_transition(change)
    write(Supersede(change.task), db, at)
    guarded(
        db,
        """UPDATE tasks SET state = :to, attempt = :attempt, refund_at = 0, verified_slot = :verified_slot,
           waits_for = NULL
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
def _(change: Seen, db: sqlite3.Connection, _at: UnixSeconds | None) -> None:
    db.execute(
        "UPDATE tasks SET verified_slot = ?, refund_at = ? WHERE id = ? AND verified_slot <= ?",
        (change.verified_slot, change.refund_at, change.task, change.verified_slot),
    )


@write.register
def _(change: Wait, db: sqlite3.Connection, _at: UnixSeconds | None) -> None:
    if change.origin not in UNSIGNED:
        raise StateConflict(f"a task that is {change.origin} waits for nothing")
    guarded(
        db,
        "UPDATE tasks SET waits_for = :waits_for WHERE id = :task AND state = :origin",
        {"task": change.task, "origin": change.origin, "waits_for": change.waits_for},
        change,
    )


@write.register
def _(change: Owe, db: sqlite3.Connection, _at: UnixSeconds | None) -> None:
    guarded(
        db,
        "UPDATE tasks SET owed = :to WHERE id = :task AND owed = :origin",
        {"task": change.task, "origin": change.origin, "to": change.to},
        change,
    )
