"""Questions that only an operator's commands ask: they may read every row, and take their time."""

from collections.abc import Collection

from listener.journal.books import (
    Finished,
    LedgerRow,
    RequesterDay,
    TimesRefused,
    finished_from_row,
    ledger_row_from_row,
)
from listener.journal.records import EventRow, Task, task_from_row
from listener.journal.rows import Rows
from listener.journal.states import State
from shared.ids import Day, Requester, TaskKey


class OperatorReads(Rows):
    async def pairs_like(self, text: str, limit: int) -> list[TaskKey]:
        """The pairs, also of the history, that a text means, at most `limit`.

        It is the beginning of an executionId or of a taskId, or of both with a slash between; where it is the whole of
        some, those alone are meant.
        """
        first, slash, second = text.partition("/")
        joined, whole = (
            ("AND", "execution_id = ?1 AND task_id = ?2") if slash else ("OR", "?1 IN (execution_id, task_id)")
        )
        rows = await self._rows(
            f"""SELECT execution_id, task_id, {whole} AS is_whole
                FROM (SELECT execution_id, task_id FROM tasks UNION SELECT execution_id, task_id FROM history)
                WHERE substr(execution_id, 1, length(?1)) = ?1 {joined} substr(task_id, 1, length(?2)) = ?2
                ORDER BY is_whole DESC, execution_id, task_id LIMIT ?3""",  # noqa: S608 (own words)
            first,
            second if slash else first,
            limit,
        )
        meant = [row for row in rows if row["is_whole"]] or rows
        return [TaskKey(row["execution_id"], row["task_id"]) for row in meant]

    async def newest_tasks(self, states: Collection[State], requester: Requester | None, limit: int) -> list[Task]:
        """Those that have not moved to the history, the last to be assigned first."""
        where, values = _filtered(states, requester)
        rows = await self._rows(f"SELECT * FROM tasks {where} ORDER BY attempt DESC LIMIT ?", *values, limit)  # noqa: S608
        return [task_from_row(row) for row in rows]

    async def newest_finished(
        self, states: Collection[State], requester: Requester | None, limit: int
    ) -> list[Finished]:
        """Those of the history, the last to end first."""
        where, values = _filtered(states, requester)
        rows = await self._rows(f"SELECT * FROM history {where} ORDER BY ended_at DESC LIMIT ?", *values, limit)  # noqa: S608
        return [finished_from_row(row) for row in rows]

    async def ended_counts(self) -> dict[State, int]:
        """How many tasks of the history ended how."""
        rows = await self._rows("SELECT state, count(*) AS number FROM history GROUP BY state")
        return {State(row["state"]): row["number"] for row in rows}

    async def outcomes(self, since: Day) -> RequesterDay:
        """Of all requesters together, from this day on."""
        (row,) = await self._rows(
            """SELECT coalesce(sum(paid), 0) AS paid, coalesce(sum(failed), 0) AS failed,
               coalesce(sum(expired), 0) AS expired, coalesce(sum(cancelled), 0) AS cancelled,
               coalesce(sum(refused), 0) AS refused FROM requester_days WHERE day >= ?""",
            since,
        )
        return RequesterDay(**dict(row))

    async def times_refused(self) -> list[TimesRefused]:
        """By reason, the most frequent first."""
        rows = await self._rows(
            """SELECT reason, sum(count) AS count, count(*) AS requesters, max(last_at) AS last_at
               FROM refusals GROUP BY reason ORDER BY 2 DESC, reason"""
        )
        return [TimesRefused(**dict(row)) for row in rows]

    async def ledger_of(self, key: TaskKey) -> list[LedgerRow]:
        """What this pair brought and cost, the oldest row first."""
        rows = await self._rows(
            """SELECT at, execution_id, task_id, attempt, requester, kind, lamports, forgone, signature
               FROM ledger WHERE execution_id = ? AND task_id = ? ORDER BY id""",
            key.execution_id,
            key.task_id,
        )
        return [ledger_row_from_row(row) for row in rows]

    async def events_of(self, account: str) -> list[EventRow]:
        """The oldest first."""
        sql = """SELECT signature, event_index AS "index", slot, name, account FROM events
                 WHERE account = ? ORDER BY slot, event_index"""
        return [EventRow(**dict(row)) for row in await self._rows(sql, account)]


def _filtered(states: Collection[State], requester: Requester | None) -> tuple[str, list[str]]:
    where = f"WHERE state IN ({', '.join('?' * len(states))})"
    values = [state.value for state in states]
    return (where, values) if requester is None else (f"{where} AND requester = ?", [*values, requester])
