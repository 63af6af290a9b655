"""Questions about what was read of the chain so far."""

from listener.journal.records import Cursor, EventRow, Gap, PageMark
from listener.journal.rows import Rows


class ChainReads(Rows):
    async def genesis_hash(self) -> str | None:
        """Of the cluster that this journal belongs to; None before the first start."""
        rows = await self._rows("SELECT value FROM identity WHERE name = 'genesis_hash'")
        return rows[0]["value"] if rows else None

    async def cursor(self) -> Cursor | None:
        rows = await self._rows("SELECT signature, slot FROM cursor")
        return Cursor(**dict(rows[0])) if rows else None

    async def page_mark(self) -> PageMark | None:
        """Where a backfill stopped before it reached the cursor."""
        for row in await self._rows("SELECT signature, slot, newest_signature, newest_slot FROM page_mark"):
            return PageMark(
                Cursor(row["signature"], row["slot"]), Cursor(row["newest_signature"], row["newest_slot"])
            )
        return None

    async def gaps(self) -> list[Gap]:
        """The oldest first."""
        return [Gap(**dict(row)) for row in await self._rows("SELECT from_slot, to_slot FROM gaps ORDER BY id")]

    async def has_event(self, event: EventRow) -> bool:
        """Whether it was acted on in this slot; in another one (a fork) it is looked at again."""
        sql = "SELECT 1 FROM events WHERE signature = ? AND event_index = ? AND account = ? AND slot = ?"
        return bool(await self._rows(sql, event.signature, event.index, event.account, event.slot))

    async def cancellations_of(self, account: str) -> list[EventRow]:
        """What told of a cancellation of this account, or of another one of its execution, which may mean both."""
        sql = """SELECT signature, event_index AS "index", slot, name, account FROM events
                 WHERE name = 'ExecutionCancelled' AND account IN (SELECT ?1
                 UNION SELECT account FROM tasks
                 WHERE execution_id IN (SELECT execution_id FROM tasks WHERE account = ?1)
                 UNION SELECT account FROM history
                 WHERE execution_id IN (SELECT execution_id FROM tasks WHERE account = ?1))"""
        return [EventRow(**dict(row)) for row in await self._rows(sql, account)]

    async def is_completed(self, pair_hash: bytes) -> bool:
        return bool(await self._rows("SELECT 1 FROM completed WHERE pair_hash = ?", pair_hash))
