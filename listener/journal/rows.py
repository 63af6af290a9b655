"""What all questions to the journal have in common."""

import sqlite3

from listener.journal.database import Database


class Rows:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def _rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        return await self._database.read(lambda db: db.execute(sql, values).fetchall())
