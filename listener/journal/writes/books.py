"""Changes of the books: ledger, budgets, requesters' days, estimates, commands' requests and conditions."""

import sqlite3
from typing import Final

from listener.journal.changes import Answer, Book, Count, Measure, SetCondition, Spend
from listener.journal.records import Assignment
from listener.journal.states import LedgerKind
from listener.journal.writes.write import guarded, unique, write
from shared.errors import StateConflict
from shared.ids import UnixSeconds

RECENT_RUNS: Final = 20
"""Of so many runs an estimate is the mean; of more, the newest weigh as if they were so many."""


@write.register
def _(change: Book, db: sqlite3.Connection, at: UnixSeconds | None) -> None:
    about = change.about
    if change.kind is LedgerKind.LOSS and about is not None and _is_lost(about, db):
        return  # computed a second time, after a fork: the reward could be had once
    unique(
        db,
        """INSERT INTO ledger (at, execution_id, task_id, attempt, requester, kind, lamports, forgone, signature)
           VALUES (:at, :execution_id, :task_id, :attempt, :requester, :kind, :lamports, :forgone, :signature)""",
        {
            "at": at,
            "execution_id": about.execution_id if about else None,
            "task_id": about.task_id if about else None,
            "attempt": about.attempt if about else None,
            "requester": about.requester if about else None,
            "kind": change.kind,
            "lamports": change.lamports,
            "forgone": change.forgone,
            "signature": change.signature,
        },
        f"it is booked already: {change!r}",
    )


def _is_lost(about: Assignment, db: sqlite3.Connection) -> bool:
    sql = """SELECT 1 FROM ledger WHERE kind = 'loss' AND execution_id = ? AND task_id = ? AND requester = ?
             AND attempt = ?"""
    return (
        db.execute(sql, (about.execution_id, about.task_id, about.requester, about.attempt)).fetchone() is not None
    )


@write.register
def _(change: Spend, db: sqlite3.Connection, _at: UnixSeconds | None) -> None:
    db.execute(
        """INSERT INTO budgets (day, name, spent) VALUES (:day, :name, :amount)
           ON CONFLICT DO UPDATE SET spent = spent + :amount""",
        {"day": change.day, "name": change.name, "amount": change.amount},
    )
    if change.limit is None:
        return
    sql = "SELECT spent FROM budgets WHERE day = ? AND name = ?"
    (spent,) = db.execute(sql, (change.day, change.name)).fetchone()
    if spent > change.limit:
        raise StateConflict(f"the budget {change.name} of day {change.day} would be exceeded: {change!r}")


@write.register
def _(change: Count, db: sqlite3.Connection, _at: UnixSeconds | None) -> None:
    column = change.outcome.value
    db.execute(
        f"""INSERT INTO requester_days (requester, day, {column}) VALUES (?, ?, 1)
            ON CONFLICT DO UPDATE SET {column} = {column} + 1""",  # noqa: S608 (own enum)
        (change.requester, change.day),
    )


@write.register
def _(change: Measure, db: sqlite3.Connection, at: UnixSeconds | None) -> None:
    db.execute(
        """INSERT INTO estimates (model_id, compute_units, seconds, count, last_at)
           VALUES (:model_id, :compute_units, :seconds, 1, :at)
           ON CONFLICT DO UPDATE SET seconds = seconds + (:seconds - seconds) / min(count + 1, :recent),
           count = count + 1,
           last_at = coalesce(:at, last_at)""",
        {
            "model_id": change.model_id,
            "compute_units": change.compute_units,
            "seconds": change.seconds,
            "recent": RECENT_RUNS,
            "at": at,
        },
    )


@write.register
def _(change: Answer, db: sqlite3.Connection, _at: UnixSeconds | None) -> None:
    guarded(
        db,
        "UPDATE requests SET state = :state, answer = :answer WHERE id = :request AND state = 'asked'",
        {"request": change.request, "state": change.state, "answer": change.answer},
        change,
    )


@write.register
def _(change: SetCondition, db: sqlite3.Connection, at: UnixSeconds | None) -> None:
    if change.value is None:
        db.execute("DELETE FROM conditions WHERE name = ?", (change.name,))
        return
    db.execute(
        """INSERT INTO conditions (name, value, since) VALUES (?, ?, ?)
           ON CONFLICT DO UPDATE SET value = excluded.value, since = excluded.since WHERE value <> excluded.value""",
        (change.name, change.value, at),
    )
