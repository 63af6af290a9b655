"""The journal as a command sees it, beside a listener or without one: it reads all and writes only what it asks for."""

import sqlite3
from functools import partial
from pathlib import Path

from listener.journal.at_once import AtOnce
from listener.journal.database import Database
from listener.journal.opening import open_beside
from listener.journal.operator_reads import OperatorReads
from listener.journal.reads import Reads
from listener.journal.states import RequestName, RequestState


class JournalBeside(Reads, OperatorReads):
    """Open it for one look and close it: while it is open, the listener's file cannot shrink."""

    def __init__(self, path: Path) -> None:
        """Raises JournalError where there is no journal, or an older one, and JournalNewer."""
        super().__init__(Database(partial(open_beside, path), AtOnce()))

    def __enter__(self) -> "JournalBeside":
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    async def ask(self, name: RequestName, argument: str, asked_at: int) -> int:
        """Ask the listener for something, at `asked_at` (Unix seconds). Returns the request's id.

        Raises JournalUnavailable where it cannot be written now.
        """

        def insert(db: sqlite3.Connection) -> int:
            (number,) = db.execute(
                "INSERT INTO requests (name, argument, asked_at, state) VALUES (?, ?, ?, ?) RETURNING id",
                (name, argument, asked_at, RequestState.ASKED),
            ).fetchone()
            return int(number)

        return await self._database.try_write(insert)
