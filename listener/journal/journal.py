"""The journal: where an assignment stands before it is acted on, and a signature before it is sent."""

import sqlite3
from collections.abc import Collection
from pathlib import Path

from listener.journal.changes import Change, write
from listener.journal.database import Database
from listener.journal.records import Cursor, EventRow, Outbox, Task, outbox_from_row, task_from_row
from listener.journal.states import WATCHED, Owed, State
from shared.errors import ConfigurationError
from shared.ids import Attempt, TaskKey

_OUTBOX = "id, task, kind, attempt, signature, last_valid_block_height, status, superseded, slot, error"


class Journal:
    """All reads and writes of one journal; the process that made this holds its lock until `close`."""

    def __init__(self, path: Path) -> None:
        """Raises JournalLocked, JournalNewer or JournalError."""
        self.path = path
        self._database = Database(path)

    def close(self) -> None:
        self._database.close()

    async def apply(self, *changes: Change) -> None:
        """Write all changes in one transaction. Raises StateConflict, and then none of them is written."""

        def write_all(db: sqlite3.Connection) -> None:
            for change in changes:
                write(change, db)

        if changes:
            await self._database.write(write_all)

    async def belongs_to(self, **identity: str) -> None:
        """Remember genesis hash, node and program at the first start, compare them at each later one.

        Raises ConfigurationError where one differs.
        """

        def compare(db: sqlite3.Connection) -> dict[str, str]:
            for name, value in identity.items():
                db.execute(
                    "INSERT INTO identity (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING", (name, value)
                )
            return {row["name"]: row["value"] for row in db.execute("SELECT name, value FROM identity")}

        known = await self._database.write(compare)
        for name, value in identity.items():
            if known[name] != value:
                raise ConfigurationError(
                    f"the journal {self.path} belongs to {name.replace('_', ' ')} {known[name]}, not to {value}: "
                    "correct the settings, or give this node a journal of its own"
                )

    async def genesis_hash(self) -> str | None:
        """Of the cluster that this journal belongs to; None before the first start."""
        rows = await self._rows("SELECT value FROM identity WHERE name = 'genesis_hash'")
        return rows[0]["value"] if rows else None

    async def cursor(self) -> Cursor | None:
        rows = await self._rows("SELECT signature, slot FROM cursor")
        return Cursor(**dict(rows[0])) if rows else None

    async def task(self, task: int) -> Task:
        (row,) = await self._rows("SELECT * FROM tasks WHERE id = ?", task)
        return task_from_row(row)

    async def latest(self, account: str) -> Task | None:
        """The row with the highest attempt of this account."""
        rows = await self._rows("SELECT * FROM tasks WHERE account = ? ORDER BY attempt DESC LIMIT 1", account)
        return task_from_row(rows[0]) if rows else None

    async def knows(self, account: str, attempt: Attempt) -> bool:
        """Whether this attempt stands in the journal, as a task or passed over."""
        rows = await self._rows(
            """SELECT 1 FROM tasks WHERE account = ?1 AND attempt = ?2
               UNION ALL SELECT 1 FROM passed_over WHERE account = ?1 AND attempt = ?2""",
            account,
            attempt,
        )
        return bool(rows)

    async def has_event(self, event: EventRow) -> bool:
        """Whether it was acted on in this slot; in another one (a fork) it is looked at again."""
        sql = "SELECT 1 FROM events WHERE signature = ? AND event_index = ? AND account = ? AND slot = ?"
        return bool(await self._rows(sql, event.signature, event.index, event.account, event.slot))

    async def cancellations_of(self, account: str) -> list[EventRow]:
        """What told of a cancellation of this account, or of another one of its execution, which may mean both."""
        sql = """SELECT signature, event_index AS "index", slot, name, account FROM events
                 WHERE name = 'ExecutionCancelled' AND (account = ?1 OR account IN (SELECT account FROM tasks
                 WHERE execution_id IN (SELECT execution_id FROM tasks WHERE account = ?1)))"""
        return [EventRow(**dict(row)) for row in await self._rows(sql, account)]

    async def is_completed(self, pair_hash: bytes) -> bool:
        return bool(await self._rows("SELECT 1 FROM completed WHERE pair_hash = ?", pair_hash))

    async def tasks_in(self, states: Collection[State]) -> list[Task]:
        marks = ", ".join("?" * len(states))
        sql = f"SELECT * FROM tasks WHERE state IN ({marks}) ORDER BY deadline, id"  # noqa: S608 (marks only)
        return [task_from_row(row) for row in await self._rows(sql, *states)]

    async def tasks_of(self, key: TaskKey) -> list[Task]:
        """Every attempt of this pair, the oldest first."""
        sql = "SELECT * FROM tasks WHERE execution_id = ? AND task_id = ? ORDER BY attempt"
        return [task_from_row(row) for row in await self._rows(sql, key.execution_id, key.task_id)]

    async def owing(self) -> list[Task]:
        rows = await self._rows("SELECT * FROM tasks WHERE owed <> ? ORDER BY id", Owed.NOTHING)
        return [task_from_row(row) for row in rows]

    async def watched(self) -> list[Outbox]:
        """Every signature of which the end is not finalized, the oldest first."""
        marks = ", ".join("?" * len(WATCHED))
        sql = f"SELECT {_OUTBOX} FROM outbox WHERE status IN ({marks}) ORDER BY id"  # noqa: S608 (marks only)
        return [outbox_from_row(row) for row in await self._rows(sql, *WATCHED)]

    async def signatures_of(self, task: int) -> list[Outbox]:
        """Every signature ever made for this task, the oldest first."""
        sql = f"SELECT {_OUTBOX} FROM outbox WHERE task = ? ORDER BY id"  # noqa: S608 (own columns)
        return [outbox_from_row(row) for row in await self._rows(sql, task)]

    async def raw(self, outbox: int) -> bytes:
        """The signed bytes, as they were and will be sent."""
        (row,) = await self._rows("SELECT raw FROM outbox WHERE id = ?", outbox)
        return bytes(row["raw"])

    async def counts(self) -> dict[State, int]:
        rows = await self._rows("SELECT state, count(*) AS number FROM tasks GROUP BY state")
        return {State(row["state"]): row["number"] for row in rows}

    async def check(self) -> None:
        """Write a row, through to the disk. Raises JournalError, and JournalUnavailable without waiting."""
        await self._database.try_write(
            lambda db: db.execute(
                "INSERT INTO identity VALUES ('checked', '') ON CONFLICT DO UPDATE SET value = ''"
            )
        )

    async def _rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        return await self._database.read(lambda db: db.execute(sql, values).fetchall())
