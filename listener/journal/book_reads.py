"""Questions about money, requesters and commands."""

from listener.journal.books import (
    Condition,
    Estimate,
    InFlight,
    LedgerRow,
    LedgerSum,
    Refusal,
    Request,
    RequesterDay,
    condition_from_row,
    ledger_row_from_row,
    request_from_row,
)
from listener.journal.rows import Rows
from listener.journal.states import ConditionName, LedgerKind
from shared.ids import Day, Lamports, ModelId, Requester, UnixSeconds


class BookReads(Rows):
    async def ledger(self, limit: int) -> list[LedgerRow]:
        """The newest rows, the last one first."""
        rows = await self._rows(
            """SELECT at, execution_id, task_id, attempt, requester, kind, lamports, forgone, signature
               FROM ledger ORDER BY id DESC LIMIT ?""",
            limit,
        )
        return [ledger_row_from_row(row) for row in rows]

    async def ledger_sums(self, since: UnixSeconds | None = None) -> dict[LedgerKind, LedgerSum]:
        """The sums of each kind, of all time or since a moment by the chain's clock."""
        rows = await self._rows(
            f"""SELECT kind, sum(entries) AS entries, sum(lamports) AS lamports, sum(forgone) AS forgone
                FROM ledger {"WHERE at >= ?" if since is not None else ""} GROUP BY kind""",  # noqa: S608
            *(() if since is None else (since,)),
        )
        return {
            LedgerKind(row["kind"]): LedgerSum(row["entries"], row["lamports"], row["forgone"]) for row in rows
        }

    async def balance_change(self) -> int:
        """Lamports: by how much all that is booked changed the node's balance."""
        (row,) = await self._rows("SELECT coalesce(sum(lamports), 0) AS lamports FROM ledger")
        return int(row["lamports"])

    async def spent(self, day: Day, name: str) -> int:
        """What was taken out of a daily budget."""
        rows = await self._rows("SELECT spent FROM budgets WHERE day = ? AND name = ?", day, name)
        return int(rows[0]["spent"]) if rows else 0

    async def budgets(self, day: Day) -> dict[str, int]:
        """What was taken out of each budget of this day."""
        rows = await self._rows("SELECT name, spent FROM budgets WHERE day = ? ORDER BY name", day)
        return {row["name"]: row["spent"] for row in rows}

    async def requester_day(self, requester: Requester, day: Day) -> RequesterDay:
        sql = """SELECT paid, failed, expired, cancelled, refused FROM requester_days
                 WHERE requester = ? AND day = ?"""
        rows = await self._rows(sql, requester, day)
        return RequesterDay(**dict(rows[0])) if rows else RequesterDay()

    async def requester_days(self, day: Day) -> dict[Requester, RequesterDay]:
        """Every requester of whom a task ended on this day."""
        sql = "SELECT requester, paid, failed, expired, cancelled, refused FROM requester_days WHERE day = ?"
        rows = [dict(row) for row in await self._rows(sql, day)]
        return {row.pop("requester"): RequesterDay(**row) for row in rows}

    async def has_paid(self, requester: Requester) -> bool:
        """Whether any task of this requester was paid in the days that are kept."""
        sql = "SELECT 1 FROM requester_days WHERE requester = ? AND paid > 0 LIMIT 1"
        return bool(await self._rows(sql, requester))

    async def in_flight(self) -> dict[Requester, InFlight]:
        """What each requester has in this node that is not signed yet."""
        rows = await self._rows(
            """SELECT requester, count(*) AS tasks, sum(compute_units) AS compute_units, sum(reward) AS reward,
               EXISTS (SELECT 1 FROM requester_days WHERE requester = tasks.requester AND paid > 0) AS has_paid
               FROM tasks WHERE state IN ('accepted', 'computing', 'cancelling', 'computed') GROUP BY requester"""
        )
        return {
            row["requester"]: InFlight(
                row["tasks"], row["compute_units"], Lamports(row["reward"]), bool(row["has_paid"])
            )
            for row in rows
        }

    async def refusals(self, limit: int) -> list[Refusal]:
        """What the rules refused, the last one first."""
        rows = await self._rows("SELECT * FROM refusals ORDER BY last_at DESC LIMIT ?", limit)
        return [Refusal(**dict(row)) for row in rows]

    async def estimate(self, model_id: ModelId, compute_units: int) -> Estimate | None:
        rows = await self._rows(
            """SELECT model_id, compute_units, seconds, count FROM estimates
               WHERE model_id = ? AND compute_units = ?""",
            model_id,
            compute_units,
        )
        return Estimate(**dict(rows[0])) if rows else None

    async def requests_asked(self) -> list[Request]:
        """What commands asked for and was not answered yet, the oldest first."""
        rows = await self._rows("SELECT * FROM requests WHERE state = 'asked' ORDER BY id")
        return [request_from_row(row) for row in rows]

    async def request(self, request: int) -> Request:
        (row,) = await self._rows("SELECT * FROM requests WHERE id = ?", request)
        return request_from_row(row)

    async def conditions(self) -> dict[ConditionName, Condition]:
        rows = [condition_from_row(row) for row in await self._rows("SELECT name, value, since FROM conditions")]
        return {row.name: row for row in rows}
