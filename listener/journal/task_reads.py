"""Questions about tasks, their signatures and their history."""

import json
from collections.abc import Collection
from typing import Final

from listener.journal.books import Finished, finished_from_row
from listener.journal.changes import GONE
from listener.journal.records import Outbox, Task, Waiting, outbox_from_row, task_from_row
from listener.journal.rows import Rows
from listener.journal.states import State
from shared.ids import Attempt, TaskKey

_OUTBOX: Final = (
    "id, task, kind, attempt, signature, last_valid_block_height, fee, lamports, status, superseded, slot, error"
)


class TaskReads(Rows):
    async def task(self, task: int) -> Task:
        (row,) = await self._rows("SELECT * FROM tasks WHERE id = ?", task)
        return task_from_row(row)

    async def latest(self, account: str) -> Task | None:
        """The attempt of this account that was seen last, where it has not moved to the history.

        It is the highest, but where a fork took a higher one back.
        """
        sql = "SELECT * FROM tasks WHERE account = ? ORDER BY verified_slot DESC, attempt DESC LIMIT 1"
        rows = await self._rows(sql, account)
        return task_from_row(rows[0]) if rows else None

    async def knows(self, account: str, attempt: Attempt) -> bool:
        """Whether this attempt stands in the journal: as a task, in the history, or passed over as no work of ours.

        That an account is gone counts for nothing: whoever asks has just seen it listed.
        """
        rows = await self._rows(
            """SELECT 1 FROM tasks WHERE account = ?1 AND attempt = ?2
               UNION ALL SELECT 1 FROM history WHERE account = ?1 AND attempt = ?2
               UNION ALL SELECT 1 FROM passed_over WHERE account = ?1 AND attempt = ?2 AND reason <> ?3""",
            account,
            attempt,
            GONE,
        )
        return bool(rows)

    async def is_over(self, account: str, attempt: Attempt) -> bool:
        """Whether this attempt ended for good: it moved to the history, or it is no row and a higher one did."""
        sql = """SELECT 1 FROM history WHERE account = ?1 AND (attempt = ?2 OR (attempt > ?2
                 AND NOT EXISTS (SELECT 1 FROM tasks WHERE account = ?1 AND attempt = ?2))) LIMIT 1"""
        return bool(await self._rows(sql, account, attempt))

    async def tasks_in(self, states: Collection[State]) -> list[Task]:
        """Those with the nearest deadline first."""
        marks = ", ".join("?" * len(states))
        sql = f"SELECT * FROM tasks WHERE state IN ({marks}) ORDER BY deadline, id"  # noqa: S608 (marks only)
        return [task_from_row(row) for row in await self._rows(sql, *states)]

    async def ids_in(self, states: Collection[State]) -> list[int]:
        """The same rows' ids, at a cost that is no matter where hundreds are open."""
        marks = ", ".join("?" * len(states))
        sql = f"SELECT id FROM tasks WHERE state IN ({marks}) ORDER BY deadline, id"  # noqa: S608 (marks only)
        return [int(row["id"]) for row in await self._rows(sql, *states)]

    async def accepted(self) -> list[Waiting]:
        """Every task that compute was not given yet."""
        rows = await self._rows(
            "SELECT id, requester, reward, deadline, refund_at FROM tasks WHERE state = 'accepted'"
        )
        return [Waiting(**dict(row)) for row in rows]

    async def tasks_of(self, key: TaskKey) -> list[Task]:
        """Every attempt of this pair that has not moved to the history, the oldest first."""
        sql = "SELECT * FROM tasks WHERE execution_id = ? AND task_id = ? ORDER BY attempt"
        return [task_from_row(row) for row in await self._rows(sql, key.execution_id, key.task_id)]

    async def owing(self) -> list[Task]:
        # The plus has SQLite sort the few that owe, and not go through all rows in their order.
        rows = await self._rows("SELECT * FROM tasks WHERE owed <> 'nothing' ORDER BY +id")
        return [task_from_row(row) for row in rows]

    async def waiting(self) -> list[Task]:
        """Every task that does not go on by itself now, with why in `waits_for`."""
        rows = await self._rows("SELECT * FROM tasks WHERE waits_for IS NOT NULL ORDER BY deadline, id")
        return [task_from_row(row) for row in rows]

    async def watched(self) -> list[Outbox]:
        """Every signature of which the end is not finalized, sweeps too, the oldest first."""
        # As the index has it: with placeholders SQLite could not use it.
        sql = f"SELECT {_OUTBOX} FROM outbox WHERE status IN ('signed', 'confirmed', 'erred') ORDER BY id"  # noqa: S608
        return [outbox_from_row(row) for row in await self._rows(sql)]

    async def signatures_of(self, task: int) -> list[Outbox]:
        """Every signature ever made for this task, the oldest first."""
        sql = f"SELECT {_OUTBOX} FROM outbox WHERE task = ? ORDER BY id"  # noqa: S608 (own columns)
        return [outbox_from_row(row) for row in await self._rows(sql, task)]

    async def own_among(self, signatures: Collection[str]) -> set[str]:
        """Those of them that are this node's."""
        sql = "SELECT signature FROM outbox WHERE signature IN (SELECT value FROM json_each(?))"
        return {row["signature"] for row in await self._rows(sql, json.dumps(list(signatures)))}

    async def raw(self, outbox: int) -> bytes:
        """The bytes of a watched signature, as they were and will be sent."""
        (row,) = await self._rows("SELECT raw FROM outbox WHERE id = ?", outbox)
        return bytes(row["raw"])

    async def counts(self) -> dict[State, int]:
        """How many tasks are in which state, without the history."""
        rows = await self._rows("SELECT state, count(*) AS number FROM tasks GROUP BY state")
        return {State(row["state"]): row["number"] for row in rows}

    async def finished(self, limit: int) -> list[Finished]:
        """The newest of the history, the last to end first."""
        rows = await self._rows("SELECT * FROM history ORDER BY ended_at DESC LIMIT ?", limit)
        return [finished_from_row(row) for row in rows]

    async def finished_of(self, key: TaskKey) -> list[Finished]:
        """The history of this pair, the oldest attempt first."""
        sql = "SELECT * FROM history WHERE execution_id = ? AND task_id = ? ORDER BY attempt"
        return [finished_from_row(row) for row in await self._rows(sql, key.execution_id, key.task_id)]
