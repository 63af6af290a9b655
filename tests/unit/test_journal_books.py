"""Money, requesters, commands and the backfill's place: written with what they belong to, each at most once."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from listener.journal.books import Condition, Estimate, InFlight, LedgerSum, Refusal, RequesterDay
from listener.journal.changes import (
    Answer,
    Book,
    Count,
    ForgetPageMark,
    Insert,
    Measure,
    Move,
    Observe,
    Restart,
    SetCondition,
    Spend,
    Sweep,
    Wait,
)
from listener.journal.journal import Journal
from listener.journal.records import Cursor, Gap, PageMark
from listener.journal.states import (
    ENDED_ELSEWHERE,
    ConditionName,
    LedgerKind,
    OutboxStatus,
    Outcome,
    RequestState,
    State,
    SubmissionKind,
    WaitsFor,
)
from shared.errors import StateConflict
from shared.ids import Attempt, Day, Lamports, ModelId, Slot, UnixSeconds, day_of
from tests.unit.journal_rows import NOW, REQUESTER, assignment, computed, inserted, result, submitting

AT = UnixSeconds(NOW)
TODAY = day_of(NOW)
FEE = Book(LedgerKind.FEE, -5_000, "signature-1", assignment())


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "journal.sqlite")
    yield opened
    opened.close()


async def test_a_task_keeps_when_it_was_taken_started_and_ended(journal: Journal) -> None:
    await journal.apply(Insert(assignment(), State.ACCEPTED), at=AT)
    await journal.apply(Move(1, State.ACCEPTED, State.COMPUTING), at=UnixSeconds(AT + 1))
    await journal.apply(Move(1, State.COMPUTING, State.CANCELLED), at=UnixSeconds(AT + 2))
    ended = await journal.task(1)
    assert (ended.taken_at, ended.started_at, ended.ended_at) == (AT, AT + 1, AT + 2)
    await journal.apply(Restart(1, State.CANCELLED, Attempt(100), Slot(200)), at=UnixSeconds(AT + 3))
    again = await journal.task(1)
    assert (again.taken_at, again.started_at, again.ended_at) == (AT, None, None)


async def test_why_a_task_waits_stands_in_it_until_it_moves(journal: Journal) -> None:
    task = await computed(journal)
    await journal.apply(Wait(task.id, State.COMPUTED, WaitsFor.FUNDS))
    assert [waiting.waits_for for waiting in await journal.waiting()] == [WaitsFor.FUNDS]
    await journal.apply(Move(task.id, State.COMPUTED, State.MISSED))
    assert await journal.waiting() == []


async def test_a_task_that_has_moved_on_does_not_begin_to_wait(journal: Journal) -> None:
    task = await computed(journal)
    with pytest.raises(StateConflict):
        await journal.apply(Wait(task.id, State.ACCEPTED, WaitsFor.AGREEMENT))
    with pytest.raises(StateConflict, match="waits for nothing"):
        await journal.apply(Wait(task.id, State.SUBMITTING, WaitsFor.FUNDS))


async def test_the_ledger_sums_to_the_change_of_the_balance(journal: Journal) -> None:
    reward = Book(LedgerKind.REWARD, 1_000_000, "signature-1", assignment())
    loss = Book(LedgerKind.LOSS, 0, None, assignment(2), forgone=Lamports(7))
    await journal.apply(FEE, reward, loss, at=AT)
    await journal.apply(Book(LedgerKind.SWEEP, -300, "sweep"), at=UnixSeconds(AT + 100))
    assert await journal.balance_change() == 1_000_000 - 5_000 - 300
    assert (await journal.ledger_sums())[LedgerKind.LOSS] == LedgerSum(1, 0, Lamports(7))
    assert set(await journal.ledger_sums(UnixSeconds(AT + 1))) == {LedgerKind.SWEEP}
    newest, *_ = await journal.ledger(10)
    assert (newest.kind, newest.key, newest.at) == (LedgerKind.SWEEP, None, AT + 100)


async def test_nothing_is_booked_twice(journal: Journal) -> None:
    loss = Book(LedgerKind.LOSS, 0, None, assignment(2), forgone=Lamports(7))
    await journal.apply(FEE, loss)
    with pytest.raises(StateConflict, match="booked already"):
        await journal.apply(FEE)
    await journal.apply(loss)  # an attempt may be computed again after a fork, but its reward is forgone once
    assert await journal.balance_change() == -5_000
    assert (await journal.ledger_sums())[LedgerKind.LOSS] == LedgerSum(1, 0, Lamports(7))


async def test_a_state_and_what_it_earned_are_written_together_or_not_at_all(journal: Journal) -> None:
    task = await submitting(journal)
    with pytest.raises(StateConflict):
        await journal.apply(FEE, Move(task.id, State.CONFIRMED, State.PAID))
    assert await journal.ledger(10) == []


async def test_a_budget_is_not_exceeded(journal: Journal) -> None:
    await journal.apply(Spend(TODAY, "failures", 60, limit=100))
    with pytest.raises(StateConflict, match="would be exceeded"):
        await journal.apply(Spend(TODAY, "failures", 60, limit=100))
    assert await journal.spent(TODAY, "failures") == 60
    await journal.apply(Spend(TODAY, "failures", -60), Spend(Day(TODAY + 1), "failures", 100, limit=100))
    assert await journal.budgets(TODAY) == {"failures": 0}


async def test_a_requesters_day_counts_how_its_tasks_ended(journal: Journal) -> None:
    for outcome in (Outcome.PAID, Outcome.PAID, Outcome.EXPIRED):
        await journal.apply(Count(REQUESTER, TODAY, outcome))
    assert await journal.requester_day(REQUESTER, TODAY) == RequesterDay(paid=2, expired=1)
    assert await journal.requester_days(TODAY) == {REQUESTER: RequesterDay(paid=2, expired=1)}
    assert await journal.requester_day(REQUESTER, Day(TODAY + 1)) == RequesterDay()
    assert await journal.has_paid(REQUESTER)
    assert not await journal.has_paid("somebody else")


@pytest.mark.parametrize(
    ("path", "reason", "day"),
    [
        ((State.COMPUTING, State.COMPUTED, State.FAILED), None, RequesterDay(failed=1)),
        ((State.COMPUTING, State.MISSED), None, RequesterDay(expired=1)),
        ((State.COMPUTING, State.CANCELLED), "Reassigned", RequesterDay(cancelled=1)),
        ((State.COMPUTING, State.CANCELLED), ENDED_ELSEWHERE, RequesterDay()),
        ((State.MISSED,), None, RequesterDay()),
        ((State.CANCELLED,), "AccountGone", RequesterDay()),
        ((State.COMPUTED, State.FAILED), None, RequesterDay(failed=1)),
        ((State.COMPUTING, State.CANCELLED, State.PAID), None, RequesterDay(cancelled=1, paid=1)),
    ],
)
async def test_each_end_is_counted_for_the_requesters_day_with_the_change_that_made_it(
    journal: Journal, path: tuple[State, ...], reason: str | None, day: RequesterDay
) -> None:
    task = await inserted(journal, assignment())
    for origin, to in pairwise((State.ACCEPTED, *path)):
        await journal.apply(Move(task.id, origin, to, reason), at=AT)
    assert await journal.requester_day(REQUESTER, TODAY) == day


async def test_a_refusal_is_counted_for_the_requesters_day(journal: Journal) -> None:
    await journal.apply(Insert(assignment(), State.REFUSED, "RequesterBlocked"), at=AT)
    assert await journal.requester_day(REQUESTER, TODAY) == RequesterDay(refused=1)


async def test_what_a_requester_has_in_flight_is_what_is_not_signed(journal: Journal) -> None:
    await inserted(journal, assignment(1, compute_units=5))
    await inserted(journal, assignment(2, compute_units=6))
    await submitting(journal, 3)
    assert await journal.in_flight() == {REQUESTER: InFlight(2, 11, Lamports(2_000_000))}


async def test_what_is_refused_is_counted_by_reason_and_requester(journal: Journal) -> None:
    told = result(assignment(), success=False)
    await journal.apply(Insert(assignment(1), State.REFUSED, "RequesterBlocked"), at=AT)
    await journal.apply(Insert(assignment(2), State.COMPUTED, "RewardTooLow", told, State.REFUSED), at=AT)
    await journal.apply(Insert(assignment(3), State.ACCEPTED), at=AT)
    later = Move(3, State.ACCEPTED, State.COMPUTED, "RewardTooLow", told, State.REFUSED)
    await journal.apply(later, at=UnixSeconds(AT + 5))
    assert await journal.refusals(10) == [
        Refusal("RewardTooLow", REQUESTER, 2, UnixSeconds(AT + 5)),
        Refusal("RequesterBlocked", REQUESTER, 1, AT),
    ]


async def test_an_estimate_is_the_mean_of_all_runs(journal: Journal) -> None:
    model = ModelId("m")
    assert await journal.estimate(model, 7) is None
    for seconds in (1.0, 2.0, 6.0):
        await journal.apply(Measure(model, 7, seconds))
    assert await journal.estimate(model, 7) == Estimate(model, 7, 3.0, 3)


async def test_a_request_is_answered_once(journal: Journal) -> None:
    await journal._database.write(
        lambda db: db.execute("INSERT INTO requests (name, asked_at, state) VALUES ('drain', 5, 'asked')")
    )
    (asked,) = await journal.requests_asked()
    await journal.apply(Answer(asked.id, RequestState.DONE, "drained"))
    with pytest.raises(StateConflict):
        await journal.apply(Answer(asked.id, RequestState.REFUSED, "too late"))
    assert await journal.requests_asked() == []
    assert (await journal.request(asked.id)).answer == "drained"


async def test_a_condition_holds_since_it_was_first_set(journal: Journal) -> None:
    await journal.apply(SetCondition(ConditionName.INTAKE, "draining"), at=AT)
    await journal.apply(SetCondition(ConditionName.INTAKE, "draining"), at=UnixSeconds(AT + 5))
    draining = Condition(ConditionName.INTAKE, "draining", AT)
    assert await journal.conditions() == {ConditionName.INTAKE: draining}
    await journal.apply(SetCondition(ConditionName.INTAKE, "drained"), at=UnixSeconds(AT + 5))
    assert (await journal.conditions())[ConditionName.INTAKE].since == AT + 5
    await journal.apply(SetCondition(ConditionName.INTAKE, None))
    assert await journal.conditions() == {}


async def test_the_backfills_place_and_the_cursor_are_written_together(journal: Journal) -> None:
    mark = PageMark(Cursor("reached", Slot(500)), Cursor("newest", Slot(900)))
    await journal.apply(mark)
    assert await journal.page_mark() == mark
    await journal.apply(mark.newest, ForgetPageMark(), Gap(Slot(1), Slot(400)))
    assert await journal.page_mark() is None
    assert await journal.cursor() == mark.newest
    assert await journal.gaps() == [Gap(Slot(1), Slot(400))]


def sweep(text: str) -> Sweep:
    return Sweep(text, b"raw", 500, Lamports(5_000), Lamports(1_000))


async def test_one_sweep_at_a_time_may_land(journal: Journal) -> None:
    await journal.apply(sweep("first"))
    with pytest.raises(StateConflict, match="another sweep"):
        await journal.apply(sweep("second"))
    (row,) = await journal.watched()
    assert (row.kind, row.task, row.lamports, row.fee) == (SubmissionKind.SWEEP, None, 1_000, 5_000)
    await journal.apply(Observe(row.id, OutboxStatus.SIGNED, OutboxStatus.FINALIZED, Slot(9)))
    await journal.apply(sweep("second"))


async def test_nothing_is_swept_while_a_submission_waits_for_funds(journal: Journal) -> None:
    task = await computed(journal)
    await journal.apply(Wait(task.id, State.COMPUTED, WaitsFor.FUNDS))
    with pytest.raises(StateConflict, match="waits for funds"):
        await journal.apply(sweep("first"))
    assert await journal.watched() == []


async def test_the_bytes_of_what_has_ended_are_dropped(journal: Journal) -> None:
    await submitting(journal)
    (row,) = await journal.watched()
    await journal.apply(Observe(row.id, OutboxStatus.SIGNED, OutboxStatus.CONFIRMED, Slot(8)))
    assert await journal.raw(row.id) == b"raw signature-1"
    await journal.apply(Observe(row.id, OutboxStatus.CONFIRMED, OutboxStatus.FINALIZED, Slot(9)))
    (left,) = await journal._rows("SELECT raw FROM outbox")
    assert left["raw"] is None
