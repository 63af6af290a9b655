import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from listener.chain.accounts import ExecutionState
from listener.decisions import Decision, Sighting, on_account
from listener.journal.changes import Count, Insert, Measure, Move
from listener.journal.journal import Journal
from listener.journal.records import Assignment
from listener.journal.states import Outcome, State
from listener.judgement import Judgement
from listener.rules import DEADLINE_BELOW_ESTIMATE, Rules
from shared.ids import Requester, Slot, day_of
from tests.unit.journal_rows import NOW, REQUESTER, assignment, inserted
from tests.unit.listener_world import World
from tests.unit.test_rules import rules

OTHER = Requester("6sbzC1eH4FTujJXWj51eQe25cYvr4xfXbJ1vAj7j2k5J")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield World(journal)
    journal.close()


def judgement(world: World, by: Rules) -> Judgement:
    return Judgement(world.journal, by, world.chain_clock)


async def decided(made: Judgement, seen: Assignment) -> Decision:
    judge = partial(on_account, Sighting(seen, ExecutionState.ASSIGNED), None, False)
    return await made.of(seen, None, judge)


async def taken(world: World, made: Judgement, seen: Assignment) -> State:
    """The state in which the rules put it into the journal."""
    decision = await decided(made, seen)
    await asyncio.sleep(0.02)  # the disk is slow
    await world.steps.take(seen, decision)
    made.over(seen.account)
    known = await world.journal.latest(seen.account)
    assert known is not None
    return known.state


async def test_of_those_that_come_at_the_same_moment_no_more_are_taken_than_there_are_places(world: World) -> None:
    made = judgement(world, rules(max_open_tasks=5))
    states = await asyncio.gather(*(taken(world, made, assignment(number)) for number in range(20)))
    assert sorted(states) == [State.ACCEPTED] * 5 + [State.REFUSED] * 15


async def test_newcomers_share_their_places_and_whoever_was_paid_for_has_its_own(world: World) -> None:
    made = judgement(world, rules(max_open_tasks=1))
    assert await taken(world, made, assignment(1)) is State.ACCEPTED
    assert await taken(world, made, assignment(2, requester=OTHER)) is State.REFUSED
    await world.journal.apply(Count(OTHER, day_of(NOW), Outcome.PAID))
    assert await taken(world, made, assignment(3, requester=OTHER)) is State.ACCEPTED
    assert await taken(world, made, assignment(4, requester=OTHER)) is State.REFUSED


async def test_a_place_is_free_again_once_the_result_is_signed_or_the_task_is_over(world: World) -> None:
    made = judgement(world, rules(max_open_tasks=1))
    task = await inserted(world.journal, assignment(1))
    assert await taken(world, made, assignment(2)) is State.REFUSED
    await world.journal.apply(Move(task.id, State.ACCEPTED, State.CANCELLED))
    assert await taken(world, made, assignment(3)) is State.ACCEPTED


async def test_a_requester_whose_tasks_failed_too_often_today_is_refused_until_tomorrow(world: World) -> None:
    made = judgement(world, rules(max_unpaid_a_day=1))
    for _ in range(2):
        await world.journal.apply(Count(REQUESTER, day_of(NOW), Outcome.FAILED))
    assert await taken(world, made, assignment(1)) is State.REFUSED
    world.rpc.time += 86_400.0
    await world.clock.sleep(30.0)
    late = assignment(2, deadline=NOW + 2 * 86_400)
    assert await taken(world, made, late) is State.ACCEPTED


async def test_a_refusal_for_the_time_that_such_tasks_took_eases_the_estimate_until_it_is_tried_again(
    world: World,
) -> None:
    made, seen = judgement(world, rules()), assignment()
    await world.journal.apply(Measure(seen.model_id, seen.compute_units, 700.0))
    first, *easing = (await decided(made, seen)).changes
    assert isinstance(first, Insert) and first.reason == DEADLINE_BELOW_ESTIMATE
    assert first.ends_as is State.REFUSED and easing
    for _ in range(200):
        await world.journal.apply(*easing)
        decision = await decided(made, seen)
        if decision.changes == (Insert(seen, State.ACCEPTED),):
            return
    raise AssertionError("the package is kept out for ever")


async def test_what_the_journal_knows_under_this_attempt_is_not_judged_anew(world: World) -> None:
    made = judgement(world, rules(blocklist=frozenset({REQUESTER})))
    known = await inserted(world.journal, assignment())
    seen = assignment(verified_slot=Slot(200))
    judge = partial(on_account, Sighting(seen, ExecutionState.ASSIGNED), known, False)
    decision = await made.of(seen, known, judge)
    assert not any(isinstance(change, Insert | Move) for change in decision.changes)
