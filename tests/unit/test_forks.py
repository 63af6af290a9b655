"""What becomes of a task whose attempt a fork took back: the account shows a lower one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from listener.alarms import Alarm
from listener.chain.accounts import ExecutionState
from listener.decisions import CANCELLED_BY_REQUESTER, NOTHING, REASSIGNED, Decision, Sighting
from listener.forks import ATTEMPT_TAKEN_BACK, is_taken_back, on_taken_back
from listener.journal.changes import Insert, Move, PassOver, Restart, Seen, Supersede
from listener.journal.journal import Journal
from listener.journal.records import Task
from listener.journal.states import ENDED, UNSIGNED, Owed, State
from listener.standing import Standing
from shared.errors import RpcInvalid
from shared.ids import Attempt, Slot, UnixSeconds
from tests.unit.journal_rows import NOW, assignment, task_row
from tests.unit.listener_world import ACCOUNT, OURS, World
from tests.unit.test_rules import RULES

HIGHER = assignment(attempt=200, verified_slot=Slot(300), content_hash=b"other")
OLDER = task_row(State.CANCELLED, assignment(attempt=100), id=7, reason=REASSIGNED)
OPEN = sorted(UNSIGNED | {State.SUBMITTING})


def higher(state: State = State.COMPUTING) -> Task:
    return task_row(state, HIGHER)


def lower(state: ExecutionState = ExecutionState.ASSIGNED, slot: int = 301, **changed: object) -> Sighting:
    return Sighting(assignment(attempt=100, verified_slot=Slot(slot), **changed), state)


def decide(seen: Sighting, known: Task, older: Task | None = None, completed: bool = False) -> Decision:
    return on_taken_back(seen, known, older, completed, RULES, Standing(NOW))


def dropped(state: State) -> tuple[object, ...]:
    return Supersede(1), Move(1, state, State.CANCELLED, ATTEMPT_TAKEN_BACK, owed=Owed.STOP)


def test_only_a_reading_above_the_last_one_takes_an_attempt_back() -> None:
    assert is_taken_back(lower(slot=301), higher())
    assert not is_taken_back(lower(slot=300), higher())
    assert not is_taken_back(Sighting(HIGHER, ExecutionState.ASSIGNED), higher())


@pytest.mark.parametrize("state", OPEN)
def test_the_higher_one_is_dropped_at_compute_and_the_lower_taken_up(state: State) -> None:
    assert decide(lower(), higher(state)).changes == (
        *dropped(state),
        Insert(lower().assignment, State.ACCEPTED),
    )


def test_one_that_was_ended_for_the_higher_starts_anew() -> None:
    assert decide(lower(), higher(), OLDER).changes == (
        *dropped(State.COMPUTING),
        Restart(7, State.CANCELLED, Attempt(100), Slot(301)),
    )


@pytest.mark.parametrize("state", sorted(ENDED - {State.CANCELLED}))
def test_one_that_had_ended_by_itself_stays_as_it_is(state: State) -> None:
    ended = task_row(state, assignment(attempt=100), id=7)
    assert decide(lower(), higher(), ended).changes == (
        *dropped(State.COMPUTING),
        Seen(7, Slot(301), UnixSeconds(0)),
    )


def test_what_landed_for_the_higher_one_is_followed_to_its_end_first() -> None:
    assert decide(lower(), higher(State.CONFIRMED), OLDER) == NOTHING


@pytest.mark.parametrize("state", sorted(ENDED))
def test_a_higher_one_that_has_ended_is_left_at_that(state: State) -> None:
    assert decide(lower(), higher(state)).changes == (Insert(lower().assignment, State.ACCEPTED),)


def test_a_lower_one_in_notice_is_recorded_so_that_it_may_come_back() -> None:
    seen = lower(ExecutionState.CANCELLED)
    taken = Insert(seen.assignment, State.CANCELLED, CANCELLED_BY_REQUESTER)
    assert decide(seen, higher()).changes == (*dropped(State.COMPUTING), taken)


@pytest.mark.parametrize("end", [ExecutionState.FAILED, ExecutionState.COMPLETED])
def test_a_lower_one_that_has_ended_only_drops_the_higher(end: ExecutionState) -> None:
    assert decide(lower(end), higher()).changes == dropped(State.COMPUTING)


def test_a_completed_pair_is_not_run_again() -> None:
    *drop, passed = decide(lower(), higher(), completed=True).changes
    assert tuple(drop) == dropped(State.COMPUTING) and isinstance(passed, PassOver)


def test_other_content_under_the_lower_attempt_is_refused_and_alarmed() -> None:
    assert decide(lower(content_hash=b"forged"), higher(), OLDER) == Decision(alarm=Alarm.CONTENT_DIFFERS)


# With the journal.


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield World(journal)
    journal.close()


async def reassigned(world: World) -> Task:
    """Taken under attempt 1000, then assigned again under 1500 with other content, which the chain shows at 2001."""
    await world.taken(State.COMPUTING)
    world.shows(OURS.but(attempt=1_500, compute_units=9))
    await world.observer.observe(ACCOUNT, Slot(0))
    task = await world.task()
    assert (task.attempt, task.state) == (1_500, State.ACCEPTED)
    return task


async def test_the_lower_attempt_is_run_again_and_followed_from_then_on(world: World) -> None:
    high = await reassigned(world)
    world.shows(OURS)
    await world.observer.observe(ACCOUNT, Slot(0))
    low = await world.task()
    assert (low.attempt, low.state, low.owed) == (1_000, State.ACCEPTED, Owed.NOTHING)
    dropped = await world.journal.task(high.id)
    assert (dropped.state, dropped.reason, dropped.owed) == (State.CANCELLED, ATTEMPT_TAKEN_BACK, Owed.STOP)
    world.shows(OURS.but(state=1, refund_at=NOW + 30))
    await world.observer.observe(ACCOUNT, Slot(0))
    assert (await world.task()).state is State.CANCELLING
    assert world.rpc.asked["get_account finalized"] == 1


async def test_a_lower_attempt_that_is_not_final_takes_nothing_back(world: World) -> None:
    high = await reassigned(world)
    world.shows(OURS)
    world.rpc.faults["get_account finalized"] = [RpcInvalid("not reached yet")]
    with pytest.raises(RpcInvalid):
        await world.observer.observe(ACCOUNT, Slot(0))
    assert (await world.task()) == high


async def test_a_reading_that_lags_takes_nothing_back(world: World) -> None:
    high = await reassigned(world)
    world.shows(OURS, slot=high.verified_slot)
    await world.observer.observe(ACCOUNT, Slot(0))
    assert (await world.task()) == high and world.rpc.asked["get_account finalized"] == 0


async def test_an_attempt_that_comes_back_after_all_is_taken_up_again(world: World) -> None:
    await reassigned(world)
    world.shows(OURS)
    await world.observer.observe(ACCOUNT, Slot(0))
    world.shows(OURS.but(attempt=1_600, compute_units=9))
    await world.observer.observe(ACCOUNT, Slot(0))
    task = await world.task()
    assert (task.attempt, task.state) == (1_600, State.ACCEPTED)
