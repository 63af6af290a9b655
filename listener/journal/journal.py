"""The journal: where an assignment stands before it is acted on, and a signature before it is sent."""

import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

from listener.journal.changes import Change
from listener.journal.database import Database
from listener.journal.opening import lock, open_journal
from listener.journal.reads import Reads
from listener.journal.writes import write
from shared.errors import ConfigurationError
from shared.ids import UnixSeconds


class Journal(Reads):
    """All reads and writes of one journal; the process that made this holds its lock until `close`."""

    def __init__(self, path: Path, executor: Executor | None = None) -> None:
        """Its calls run in `executor`, one at a time; None: on a thread of its own.

        Raises JournalLocked, JournalNewer or JournalError.
        """
        self.path = path
        self._version_beside: int | None = None
        self._lock = lock(path)
        try:
            super().__init__(Database(partial(open_journal, path), executor))
        except BaseException:  # whatever it is goes on; the lock is not left behind
            os.close(self._lock)
            raise

    def close(self) -> None:
        self._database.close()
        os.close(self._lock)

    async def apply(self, *changes: Change, at: UnixSeconds | None = None) -> None:
        """Write all changes in one transaction. Raises StateConflict, and then none of them is written.

        `at` is this moment by the chain's clock, where it is known: the rows that it concerns get it.
        """

        def write_all(db: sqlite3.Connection) -> None:
            for change in changes:
                write(change, db, at)

        if changes:
            await self._database.write(write_all)

    async def tidy(self, piece: Callable[[sqlite3.Connection], int]) -> int:
        """Do one piece of tidying.py in a transaction of its own; returns how many rows are gone."""
        return await self._database.write(piece)

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

    async def was_written_beside(self) -> bool:
        """Whether another connection, which is a command's, wrote since the last call (at the first call: perhaps)."""
        (row,) = await self._rows("PRAGMA data_version")
        version, self._version_beside = self._version_beside, int(row[0])
        return version != self._version_beside

    async def check(self) -> None:
        """Write a row, through to the disk. Raises JournalError, and JournalUnavailable without waiting."""
        await self._database.try_write(
            lambda db: db.execute(
                "INSERT INTO identity VALUES ('checked', '') ON CONFLICT DO UPDATE SET value = ''"
            )
        )
