"""Finished tasks leave the tables that work is done in; what is known of them stays right."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from listener.chain.accounts import ExecutionState
from listener.decisions import Sighting
from listener.housekeeping import tidy
from listener.journal import tidying
from listener.journal.books import Finished, LedgerSum
from listener.journal.changes import (
    Answer,
    Book,
    Complete,
    Count,
    Insert,
    Measure,
    Move,
    Observe,
    Owe,
    PassOver,
    Spend,
    Sweep,
)
from listener.journal.journal import Journal
from listener.journal.records import Cursor, EventRow, Task
from listener.journal.states import LedgerKind, OutboxStatus, Outcome, Owed, RequestState, State
from listener.look import View
from listener.observe import Observer
from shared.errors import StateConflict
from shared.ids import Attempt, Day, Lamports, ModelId, Slot, UnixSeconds, day_of
from tests.unit.journal_rows import NOW, REQUESTER, assignment, computed, inserted, submitting
from tests.unit.listener_world import FastClock, World
from tests.unit.test_rules import RULES

DEADLINE = NOW + 600
PAST = UnixSeconds(DEADLINE + 61)
DAYS = 90
LONG_PAST = UnixSeconds(PAST + DAYS * 86_400)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "journal.sqlite")
    yield opened
    opened.close()


async def paid(journal: Journal, number: int = 1) -> Task:
    """A task that was paid and of which nothing is owed any more."""
    task = await submitting(journal, number)
    (row,) = await journal.watched()
    await journal.apply(
        Observe(row.id, OutboxStatus.SIGNED, OutboxStatus.FINALIZED, Slot(9)),
        Move(task.id, State.SUBMITTING, State.PAID, owed=Owed.PAID),
        Complete(task.pair_hash),
        at=UnixSeconds(NOW + 30),
    )
    await journal.apply(Owe(task.id, Owed.PAID, Owed.NOTHING))
    return await journal.task(task.id)


async def tidied(journal: Journal, now: int = PAST) -> None:
    await tidy(journal, UnixSeconds(now), DAYS, FastClock())


async def test_a_finished_task_moves_to_the_history_when_its_deadline_is_past(journal: Journal) -> None:
    task = await paid(journal)
    await tidied(journal, DEADLINE + 60)
    assert await journal.latest(task.account) == task
    await tidied(journal)
    assert await journal.latest(task.account) is None and await journal.signatures_of(task.id) == []
    (finished,) = await journal.finished_of(task.key)
    assert finished == Finished(
        account=task.account,
        attempt=task.attempt,
        execution_id=task.execution_id,
        task_id=task.task_id,
        requester=task.requester,
        model_id=task.model_id,
        compute_units=1,
        reward=Lamports(1_000_000),
        state=State.PAID,
        reason=None,
        signature="signature-1",
        fees=Lamports(5_000),
        started_at=None,
        ended_at=UnixSeconds(NOW + 30),
    )
    assert await journal.finished(10) == [finished]


async def test_what_is_open_owed_or_watched_stays(journal: Journal) -> None:
    still_open = await inserted(journal, assignment(1))
    owing = await inserted(journal, assignment(2))
    await journal.apply(Move(owing.id, State.ACCEPTED, State.MISSED, owed=Owed.STOP))
    watched = await submitting(journal, 3)
    await journal.apply(Move(watched.id, State.SUBMITTING, State.CANCELLED))
    await tidied(journal)
    assert {task.id for task in await journal.tasks_in(set(State))} == {still_open.id, owing.id, watched.id}


async def test_an_attempt_in_the_history_is_known_and_is_not_taken_again(journal: Journal) -> None:
    task = await paid(journal)
    await tidied(journal)
    assert await journal.knows(task.account, task.attempt)
    assert await journal.is_over(task.account, task.attempt) and await journal.is_over(task.account, Attempt(99))
    assert not await journal.is_over(task.account, Attempt(101))
    assert await journal.is_completed(task.pair_hash)
    for again in (assignment(1), assignment(1, attempt=99)):
        with pytest.raises(StateConflict, match="ended under attempt"):
            await journal.apply(Insert(again, State.ACCEPTED))
    await journal.apply(Insert(assignment(1, attempt=101), State.ACCEPTED))


class Shown:
    """A look that always shows this assignment as it was."""

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt

    async def at(self, *_: object, **__: object) -> View:
        seen = assignment(1, attempt=self.attempt, deadline=UnixSeconds(PAST + 600))
        return View(seen.verified_slot, Sighting(seen, ExecutionState.ASSIGNED))


def observer(world: World, shown: int) -> Observer:
    return Observer(Shown(shown), RULES, world.chain_clock, world.steps, lambda: True)


async def test_an_event_told_again_of_a_task_in_the_history_takes_nothing_up(journal: Journal) -> None:
    await paid(journal)
    await tidied(journal)
    world = World(journal)
    event = EventRow("told again", 0, Slot(100), "TaskAssigned", "account-1")
    await observer(world, 100).observe("account-1", Slot(1), (event,))
    assert await journal.latest("account-1") is None and await journal.has_event(event)
    await observer(world, 101).observe("account-1", Slot(1), listed=Attempt(101))
    assert await journal.knows("account-1", Attempt(101))


async def test_a_row_that_is_open_is_not_over_because_a_higher_attempt_was_taken_back(journal: Journal) -> None:
    await journal.apply(
        Insert(assignment(1, attempt=101), State.CANCELLED, "AttemptTakenBack"),
        Insert(assignment(1, attempt=100, deadline=UnixSeconds(PAST + 600)), State.ACCEPTED),
    )
    await tidied(journal)
    assert await journal.is_over("account-1", Attempt(101)) and await journal.is_over("account-1", Attempt(99))
    assert not await journal.is_over("account-1", Attempt(100))


async def test_no_number_of_a_task_or_signature_is_given_again(journal: Journal) -> None:
    task = await paid(journal)
    await tidied(journal)
    later = await submitting(journal, 2)
    (row,) = await journal.watched()
    assert (later.id, row.id) == (task.id + 1, 2)


async def test_the_history_is_kept_for_as_long_as_the_operator_says(journal: Journal) -> None:
    task = await paid(journal)
    await journal.apply(Count(REQUESTER, day_of(NOW), Outcome.PAID), Spend(day_of(NOW), "failures", 5))
    await tidied(journal, NOW + 30 + DAYS * 86_400)
    assert await journal.finished(10) and await journal.has_paid(REQUESTER)
    await tidied(journal, LONG_PAST + 86_400)
    assert await journal.finished(10) == [] and not await journal.has_paid(REQUESTER)
    assert await journal.budgets(day_of(NOW)) == {}
    assert await journal.is_completed(task.pair_hash)


async def test_old_rows_of_the_ledger_are_added_up_and_their_sums_stay(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidying, "BATCH", 7)
    for number in range(40):
        text = f"signature-{number}"
        at = UnixSeconds(NOW + number)
        await journal.apply(Book(LedgerKind.FEE, -5_000, text), Book(LedgerKind.REWARD, 900_000, text), at=at)
    loss = Book(LedgerKind.LOSS, 0, None, assignment(), forgone=Lamports(7))
    await journal.apply(loss, at=UnixSeconds(NOW))
    sums, balance = await journal.ledger_sums(), await journal.balance_change()
    await tidied(journal, NOW + 30 + DAYS * 86_400)
    assert (await journal.ledger_sums(), await journal.balance_change()) == (sums, balance)
    assert len(await journal.ledger(1_000)) == 3 + 20
    await tidied(journal, LONG_PAST)
    assert (await journal.ledger_sums(), await journal.balance_change()) == (sums, balance)
    assert len(await journal.ledger(1_000)) == 3
    assert sums[LedgerKind.FEE] == LedgerSum(40, -200_000, Lamports(0))


async def test_events_go_when_the_cursor_is_far_above_and_no_task_needs_them(journal: Journal) -> None:
    await inserted(journal, assignment(1))
    for account in ("account-1", "stranger"):
        await journal.apply(EventRow(f"old {account}", 0, Slot(50), "TaskAssigned", account))
    await journal.apply(EventRow("new", 0, Slot(99_000), "TaskAssigned", "stranger"))
    await tidied(journal)
    assert await events(journal) == {"old account-1", "old stranger", "new"}
    await journal.apply(Cursor("cursor", Slot(100_000)))
    await tidied(journal)
    assert await events(journal) == {"old account-1", "new"}


async def events(journal: Journal) -> set[str]:
    return {row["signature"] for row in await journal._rows("SELECT signature FROM events")}


async def test_a_cancellation_stays_while_a_task_of_its_execution_does(journal: Journal) -> None:
    await paid(journal, 1)
    await inserted(journal, assignment(2, deadline=UnixSeconds(PAST + 10_000)))
    told = EventRow("told", 0, Slot(50), "ExecutionCancelled", "account-1")
    await journal.apply(told, Cursor("cursor", Slot(100_000)))
    await tidied(journal)
    assert await journal.latest("account-1") is None
    assert await journal.cancellations_of("account-2") == [told]
    await journal.apply(Move(2, State.ACCEPTED, State.MISSED))
    await tidied(journal, PAST + 20_000)
    assert await events(journal) == set()


async def test_of_what_strangers_can_write_the_newest_stay(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PASSED_OVER_KEPT", "REFUSALS_KEPT", "ESTIMATES_KEPT", "REQUESTS_KEPT", "SWEEPS_KEPT"):
        monkeypatch.setattr(tidying, name, 2)
    for number in range(5):
        await journal.apply(
            PassOver(f"stranger-{number}", Attempt(1), Slot(number), "WrongNode"),
            Insert(assignment(number, requester=f"requester-{number}"), State.REFUSED, "RequesterBlocked"),
            Measure(ModelId(f"model-{number}"), 1, 1.0),
            Sweep(f"sweep-{number}", b"raw", 1, Lamports(5_000), Lamports(1)),
            at=UnixSeconds(NOW + number),
        )
        await journal._database.write(
            lambda db: db.execute("INSERT INTO requests (name, asked_at, state) VALUES ('drain', 1, 'asked')")
        )
        (sweep,) = await journal.watched()
        await journal.apply(Observe(sweep.id, OutboxStatus.SIGNED, OutboxStatus.FINALIZED))
    for request in (1, 2, 3):
        await journal.apply(Answer(request, RequestState.DONE, ""))
    await tidied(journal)
    assert [await journal.knows(f"stranger-{n}", Attempt(1)) for n in range(5)] == [False] * 3 + [True] * 2
    assert [refusal.requester for refusal in await journal.refusals(9)] == ["requester-4", "requester-3"]
    assert [await journal.estimate(ModelId(f"model-{n}"), 1) is not None for n in range(5)] == [False] * 3 + [
        True
    ] * 2
    assert [request["id"] for request in await journal._rows("SELECT id FROM requests")] == [2, 3, 4, 5]
    assert [row["signature"] for row in await journal._rows("SELECT signature FROM outbox")] == [
        "sweep-3",
        "sweep-4",
    ]


async def test_it_is_done_in_batches(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidying, "BATCH", 2)
    for number in range(5):
        await journal.apply(Insert(assignment(number), State.MISSED, "DeadlinePassed"))
    assert await journal.tidy(partial(tidying.move_finished, now=PAST)) == 2
    await tidied(journal)
    assert len(await journal.finished(9)) == 5


async def test_a_task_that_is_computed_for_nobody_is_not_finished(journal: Journal) -> None:
    task = await computed(journal)
    await tidied(journal)
    assert await journal.task(task.id) == task


def test_a_day_is_the_time_by_86400() -> None:
    assert day_of(86_399) == Day(0) and day_of(86_400) == Day(1)
