"""Questions that only an operator's commands ask: they may read every row, and take their time."""

from listener.journal.rows import Rows
from shared.ids import TaskKey


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
