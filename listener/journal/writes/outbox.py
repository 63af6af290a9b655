"""Changes of `outbox`: what is signed, and what becomes of it."""

import sqlite3

from listener.journal.changes import Observe, Sign, Supersede, Sweep
from listener.journal.states import WATCHED, SubmissionKind, WaitsFor
from listener.journal.writes.write import guarded, unique, write
from shared.errors import StateConflict
from shared.ids import UnixSeconds

_INSERT = """INSERT INTO outbox (task, kind, attempt, signature, raw, last_valid_block_height, fee, lamports, status)
             VALUES (:task, :kind, :attempt, :signature, :raw, :last_valid_block_height, :fee, :lamports, 'signed')"""


@write.register
def _(change: Sign, db: sqlite3.Connection, _at: UnixSeconds | None) -> None:
    guarded(
        db,
        """UPDATE tasks SET state = 'submitting', waits_for = NULL
           WHERE id = :task AND state = 'computed' AND attempt = :attempt AND (ends_as = 'paid') = :is_completion""",
        {
            "task": change.task,
            "attempt": change.attempt,
            "is_completion": change.kind is SubmissionKind.COMPLETED,
        },
        change,
    )
    values = {
        "task": change.task,
        "kind": change.kind,
        "attempt": change.attempt,
        "signature": change.signature,
        "raw": change.raw,
        "last_valid_block_height": change.last_valid_block_height,
        "fee": change.fee,
        "lamports": change.rent,
    }
    unique(db, _INSERT, values, f"task {change.task} has a signature that may still land")


@write.register
def _(change: Sweep, db: sqlite3.Connection, _at: UnixSeconds | None) -> None:
    if db.execute("SELECT 1 FROM tasks WHERE waits_for = ?", (WaitsFor.FUNDS,)).fetchone():
        raise StateConflict("nothing is swept while a submission waits for funds")
    values = {
        "task": None,
        "kind": "sweep",
        "attempt": 0,
        "signature": change.signature,
        "raw": change.raw,
        "last_valid_block_height": change.last_valid_block_height,
        "fee": change.fee,
        "lamports": change.lamports,
    }
    unique(db, _INSERT, values, "another sweep may still land")


@write.register
def _(change: Supersede, db: sqlite3.Connection, _at: UnixSeconds | None) -> None:
    watched = ", ".join(f"'{status}'" for status in sorted(WATCHED))
    db.execute(
        f"UPDATE outbox SET superseded = 1 WHERE task = ? AND status IN ({watched})",  # noqa: S608 (own enum)
        (change.task,),
    )


@write.register
def _(change: Observe, db: sqlite3.Connection, _at: UnixSeconds | None) -> None:
    guarded(
        db,
        """UPDATE outbox SET status = :to, slot = :slot, error = :error, raw = iif(:is_watched, raw, NULL)
           WHERE id = :outbox AND status = :origin""",
        {
            "outbox": change.outbox,
            "origin": change.origin,
            "to": change.to,
            "slot": change.slot,
            "error": change.error,
            "is_watched": change.to in WATCHED,
        },
        change,
    )
