"""What keeps the journal small: finished tasks move to the history, and what is too old to matter is forgotten.

Each function does one small piece inside an open transaction and returns how many rows are gone; 0: nothing is left.
"""

import sqlite3
from typing import Final

from shared.ids import SECONDS_A_DAY, UnixSeconds, day_of

BATCH: Final = 200
"""Rows in one transaction: no task waits long for it."""
GRACE_S: Final = 60
"""After its deadline an account may be assigned again by the program's rules; until then its row stays."""
EVENTS_KEPT_SLOTS: Final = 10_000
"""Below the cursor no list is read again, but for an overlap that is far smaller."""
PASSED_OVER_KEPT: Final = 100_000
REFUSALS_KEPT: Final = 10_000
ESTIMATES_KEPT: Final = 10_000
REQUESTS_KEPT: Final = 1_000
SWEEPS_KEPT: Final = 1_000
GAPS_KEPT: Final = 1_000
"""Of these the newest. Strangers can write rows of most of them, for some lamports each."""

_FINISHED: Final = """SELECT id FROM tasks
    WHERE owed = 'nothing' AND state IN ('paid', 'failed', 'refused', 'handed_back', 'cancelled', 'missed')
    AND deadline < ?
    AND NOT EXISTS (SELECT 1 FROM outbox WHERE task = tasks.id AND status IN ('signed', 'confirmed', 'erred'))
    ORDER BY deadline LIMIT ?"""
_MOVE: Final = """INSERT INTO history SELECT account, attempt, execution_id, task_id, requester, model_id,
    compute_units, reward, state, reason,
    (SELECT signature FROM outbox WHERE task = tasks.id AND status = 'finalized' ORDER BY id DESC LIMIT 1),
    (SELECT coalesce(sum(fee), 0) FROM outbox WHERE task = tasks.id AND status IN ('finalized', 'rejected')),
    started_at, coalesce(ended_at, deadline) FROM tasks WHERE id = ?"""


def move_finished(db: sqlite3.Connection, now: UnixSeconds) -> int:
    """Tasks that nobody is owed anything for, of which no signature is watched and the deadline is past.

    `now` is the chain's clock at `finalized`: no fork can bring them back.
    """
    finished = db.execute(_FINISHED, (now - GRACE_S, BATCH)).fetchall()
    for (task,) in finished:
        db.execute(_MOVE, (task,))
        db.execute("DELETE FROM outbox WHERE task = ?", (task,))
        db.execute("DELETE FROM tasks WHERE id = ?", (task,))
    return len(finished)


def forget_history(db: sqlite3.Connection, before: UnixSeconds) -> int:
    """Tasks that ended before this moment, and the days of requesters and budgets before it."""
    return (
        _delete(db, "history", "account, attempt", "WHERE ended_at < ? ORDER BY ended_at", before)
        + _delete(db, "requester_days", "requester, day", "WHERE day < ?", day_of(before))
        + _delete(db, "budgets", "day, name", "WHERE day < ?", day_of(before))
    )


def forget_events(db: sqlite3.Connection) -> int:
    """Those far below the cursor that tell of no task.

    A cancellation may mean its whole execution: it stays as long as any task of that does.
    """
    return _delete(
        db,
        "events",
        "signature, event_index",
        """WHERE slot < (SELECT slot FROM cursor) - ?
           AND NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.account = events.account)
           AND NOT EXISTS (SELECT 1 FROM history JOIN tasks USING (execution_id)
                           WHERE history.account = events.account)
           ORDER BY slot""",
        EVENTS_KEPT_SLOTS,
    )


def forget_the_many(db: sqlite3.Connection) -> int:
    """Of each table that only grows, the newest stay."""
    return (
        _delete(db, "passed_over", "account, attempt", "ORDER BY slot DESC", kept=PASSED_OVER_KEPT)
        + _delete(db, "refusals", "reason, requester", "ORDER BY last_at DESC", kept=REFUSALS_KEPT)
        + _delete(db, "estimates", "model_id, compute_units", "ORDER BY last_at DESC", kept=ESTIMATES_KEPT)
        + _delete(db, "requests", "id", "WHERE state <> 'asked' ORDER BY id DESC", kept=REQUESTS_KEPT)
        + _delete(db, "gaps", "id", "ORDER BY id DESC", kept=GAPS_KEPT)
        + _delete(
            db,
            "outbox",
            "id",
            "WHERE task IS NULL AND status NOT IN ('signed', 'confirmed', 'erred') ORDER BY id DESC",
            kept=SWEEPS_KEPT,
        )
    )


def add_up_ledger(db: sqlite3.Connection, before: UnixSeconds) -> int:
    """Rows before this moment become one for each kind: their sums stay."""
    old = db.execute(
        "SELECT id, kind, at, lamports, forgone, entries FROM ledger WHERE at < ? ORDER BY at LIMIT ?",
        (before, BATCH),
    ).fetchall()
    kinds = {row["kind"] for row in old}
    for row in old:
        db.execute("DELETE FROM ledger WHERE id = ?", (row["id"],))
    for kind in sorted(kinds):
        rows = [row for row in old if row["kind"] == kind]
        db.execute(
            "INSERT INTO ledger (at, kind, lamports, forgone, entries) VALUES (?, ?, ?, ?, ?)",
            (
                min(row["at"] for row in rows),  # so that it comes first again, and others are added to it
                kind,
                sum(row["lamports"] for row in rows),
                sum(row["forgone"] for row in rows),
                sum(row["entries"] for row in rows),
            ),
        )
    return len(old) - len(kinds)


def before_days(now: UnixSeconds, days: int) -> UnixSeconds:
    return UnixSeconds(now - days * SECONDS_A_DAY)


def _delete(db: sqlite3.Connection, table: str, key: str, which: str, *values: object, kept: int = 0) -> int:
    """A batch of these rows, without the first `kept` of them."""
    sql = f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} {which} LIMIT ? OFFSET ?)"  # noqa: S608
    return db.execute(sql, (*values, BATCH, kept)).rowcount
