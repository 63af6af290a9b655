"""How a node stands, gathered from its journal."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from listener.failure_budget import FAILURES, OF_NEWCOMERS, FailureBudget
from listener.journal.beside import JournalBeside
from listener.journal.books import Condition, TimesRefused
from listener.journal.opening import is_held
from listener.journal.records import Gap, Outbox, Task
from listener.journal.states import (
    ENDED,
    OPEN,
    ConditionName,
    IntakeState,
    LedgerKind,
    OutboxStatus,
    State,
    SubmissionKind,
    WaitsFor,
)
from listener.settings import JournalSettings
from shared.ids import SECONDS_A_DAY, Day, Lamports, UnixSeconds, day_of

WEEK_DAYS: Final = 7
WHY_IT_WAITS: Final = {
    WaitsFor.FUNDS: "blocked_funds: the balance does not pay its submission",
    WaitsFor.AGREEMENT: "disputed: two endpoints disagree about it",
    WaitsFor.CHEAPER_SLOTS: "slots cost more than its share of the reward now",
}


@dataclass(frozen=True)
class OpenTask:
    task: str
    state: State
    reward: Lamports
    age_s: float | None
    """Since it was taken; None where that is not known."""
    left_s: float
    """Until it cannot be paid any more, by this machine's clock."""
    waits_for: str | None


@dataclass(frozen=True)
class InFlight:
    """Signatures that may still land, or are not final."""

    kind: SubmissionKind
    status: OutboxStatus
    signatures: int
    fees: int


@dataclass(frozen=True)
class Period:
    """How tasks ended, and lamports; what is spent is negative. `forgone`: rewards of work that nobody paid."""

    name: str
    paid: int
    failed: int
    expired: int
    cancelled: int
    refused: int
    rewards: int
    fees: int
    rent: int
    swept: int
    forgone: int
    net: int


@dataclass(frozen=True)
class Budget:
    name: str
    limit: int
    left: int


@dataclass(frozen=True)
class Standing:
    journal: str
    listener_runs: bool
    intake: str
    halted: str | None
    open: dict[State, int]
    ended: dict[State, int]
    oldest: OpenTask | None
    waiting: list[OpenTask]
    owed_to_compute: int
    in_flight: list[InFlight]
    cursor_slot: int | None
    catching_up_at_slot: int | None
    gaps: list[Gap]
    periods: list[Period]
    budgets: list[Budget]
    refusals: list[TimesRefused]
    unanswered_requests: int


async def standing(journal: JournalBeside, settings: JournalSettings, now: float) -> Standing:
    """`now`: Unix seconds by this machine's clock; the chain's is not asked."""
    tasks = await journal.tasks_in(OPEN)
    conditions = await journal.conditions()
    cursor, mark = await journal.cursor(), await journal.page_mark()
    return Standing(
        journal=str(settings.journal),
        listener_runs=is_held(settings.journal),
        intake=_value(conditions, ConditionName.INTAKE) or IntakeState.OPEN.value,
        halted=_value(conditions, ConditionName.HALTED),
        open=dict(Counter(task.state for task in tasks)),
        ended=await _ended(journal),
        oldest=next((open_task(task, now) for task in sorted(tasks, key=lambda task: task.id)), None),
        waiting=[open_task(task, now) for task in await journal.waiting()],
        owed_to_compute=len(await journal.owing()),
        in_flight=in_flight(await journal.watched()),
        cursor_slot=cursor.slot if cursor else None,
        catching_up_at_slot=mark.read_to.slot if mark else None,
        gaps=await journal.gaps(),
        periods=await _periods(journal, day_of(now)),
        budgets=await _budgets(journal, settings, day_of(now)),
        refusals=await journal.times_refused(),
        unanswered_requests=len(await journal.requests_asked()),
    )


def open_task(task: Task, now: float) -> OpenTask:
    return OpenTask(
        task=str(task.key),
        state=task.state,
        reward=task.reward,
        age_s=None if task.taken_at is None else now - task.taken_at,
        left_s=task.end - now,
        waits_for=None if task.waits_for is None else WHY_IT_WAITS[task.waits_for],
    )


def in_flight(rows: Iterable[Outbox]) -> list[InFlight]:
    fees: dict[tuple[SubmissionKind, OutboxStatus], list[int]] = {}
    for row in rows:
        fees.setdefault((row.kind, row.status), []).append(row.fee)
    return [InFlight(kind, status, len(each), sum(each)) for (kind, status), each in fees.items()]


def _value(conditions: dict[ConditionName, Condition], name: ConditionName) -> str | None:
    return conditions[name].value if name in conditions else None


async def _ended(journal: JournalBeside) -> dict[State, int]:
    counts = Counter(await journal.ended_counts())
    counts.update({state: number for state, number in (await journal.counts()).items() if state in ENDED})
    return dict(counts)


async def _periods(journal: JournalBeside, today: Day) -> list[Period]:
    first_days = {"today": today, "7 days": Day(today - WEEK_DAYS + 1), "total": None}
    return [await _period(journal, name, first_day) for name, first_day in first_days.items()]


async def _period(journal: JournalBeside, name: str, first_day: Day | None) -> Period:
    since = None if first_day is None else UnixSeconds(first_day * SECONDS_A_DAY)
    sums = await journal.ledger_sums(since)
    ends = await journal.outcomes(first_day or Day(0))
    came = {kind: sums[kind].lamports if kind in sums else 0 for kind in LedgerKind}
    return Period(
        name=name,
        paid=ends.paid,
        failed=ends.failed,
        expired=ends.expired,
        cancelled=ends.cancelled,
        refused=ends.refused,
        rewards=came[LedgerKind.REWARD],
        fees=came[LedgerKind.FEE],
        rent=came[LedgerKind.RENT],
        swept=came[LedgerKind.SWEEP],
        forgone=sums[LedgerKind.LOSS].forgone if LedgerKind.LOSS in sums else 0,
        net=sum(came.values()),
    )


async def _budgets(journal: JournalBeside, settings: JournalSettings, today: Day) -> list[Budget]:
    spent, budget = await journal.budgets(today), FailureBudget.of(settings)
    limits = {FAILURES: budget.total, OF_NEWCOMERS: budget.of_newcomers}
    return [Budget(name, limit, limit - spent.get(name, 0)) for name, limit in limits.items()]
