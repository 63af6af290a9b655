"""A drain hands back what has not begun and waits for what runs; compute is a stand-in that a test scripts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from listener.drain import Drain
from listener.journal.changes import Insert, Move
from listener.journal.journal import Journal
from listener.journal.records import Task
from listener.journal.states import Owed, State
from shared.errors import ComputeUnavailable
from shared.ids import Attempt
from shared.messages import Stage, TaskSummary
from tests.unit.journal_rows import assignment, result, signature
from tests.unit.listener_world import World, running, until


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield World(journal)
    journal.close()


async def given(world: World, number: int, state: State) -> Task:
    await world.journal.apply(Insert(assignment(number), State.ACCEPTED))
    task = await world.journal.latest(f"account-{number}")
    assert task is not None
    if state is not State.ACCEPTED:
        await world.journal.apply(Move(task.id, State.ACCEPTED, state))
    return await world.journal.task(task.id)


def at(task: Task, stage: Stage, attempt: int | None = None) -> TaskSummary:
    return TaskSummary(
        execution_id=task.execution_id,
        task_id=task.task_id,
        attempt=Attempt(attempt or task.attempt),
        requester=task.requester,
        stage=stage,
    )


class LooksNoted:
    """Stands where the looks at accounts do."""

    def __init__(self) -> None:
        self.accounts: list[str] = []

    async def take(self, account: str) -> bool:
        self.accounts.append(account)
        return True


def drain(world: World, looks: Any = None) -> Drain:
    return Drain(world.steps, world.compute, looks or LooksNoted(), world.clock)


async def state_of(world: World, task: Task) -> tuple[State, str | None, Owed]:
    now = await world.journal.task(task.id)
    return now.state, now.reason, now.owed


HANDED_BACK = (State.COMPUTED, "draining", Owed.STOP)


async def test_what_is_not_at_compute_or_waits_in_its_queue_is_handed_back_and_what_runs_goes_on(
    world: World,
) -> None:
    accepted = await given(world, 1, State.ACCEPTED)
    queued = await given(world, 2, State.COMPUTING)
    runs = await given(world, 3, State.COMPUTING)
    older = await given(world, 4, State.COMPUTING)
    stages = [at(queued, Stage.QUEUED), at(runs, Stage.FETCHING), at(older, Stage.QUEUED, attempt=99)]
    world.compute.answers["tasks"] = [stages] * 3
    async with running(drain(world).run()):
        await until(lambda: len(world.compute.calls("tasks")) >= 2)
        assert await state_of(world, accepted) == HANDED_BACK
        assert await state_of(world, queued) == HANDED_BACK
        assert await state_of(world, runs) == (State.COMPUTING, None, Owed.NOTHING)
        assert await state_of(world, older) == (State.COMPUTING, None, Owed.NOTHING)


async def test_while_compute_is_away_what_it_was_not_given_is_handed_back_and_the_rest_waits(world: World) -> None:
    accepted, computing = await given(world, 1, State.ACCEPTED), await given(world, 2, State.COMPUTING)
    world.compute.answers["tasks"] = [ComputeUnavailable("away"), [at(computing, Stage.QUEUED)]]
    async with running(drain(world).run()):
        await until(lambda: len(world.compute.calls("tasks")) >= 1)
        assert await state_of(world, accepted) == HANDED_BACK

        async def back() -> bool:
            return await state_of(world, computing) == HANDED_BACK

        await until(back)


async def test_it_ends_when_every_task_is_over_and_compute_knows_it(world: World) -> None:
    task = await given(world, 1, State.COMPUTED)
    done = Move(task.id, State.COMPUTED, State.COMPUTED, result=result(task), ends_as=State.PAID)
    await world.journal.apply(done, signature(task))
    life = drain(world).run()
    async with running(life):
        await world.clock.sleep(3)
        assert (await world.journal.task(task.id)).state is State.SUBMITTING
        await world.journal.apply(Move(task.id, State.SUBMITTING, State.PAID))
        await world.clock.sleep(3)
    await drain(world).run()


async def test_a_debt_to_a_compute_that_is_gone_holds_it_up_for_a_while_only(world: World) -> None:
    task = await given(world, 1, State.ACCEPTED)
    await world.journal.apply(Move(task.id, State.ACCEPTED, State.MISSED, "DeadlinePassed", owed=Owed.STOP))
    await drain(world).run()
    assert (await world.journal.task(task.id)).owed is Owed.STOP


async def test_a_cancellation_is_seen_although_the_intake_is_closed(world: World) -> None:
    runs = await given(world, 1, State.COMPUTING)
    world.compute.answers["tasks"] = [[at(runs, Stage.RUNNING)]] * 100
    looks = LooksNoted()
    async with running(drain(world, looks).run()):
        await until(lambda: looks.accounts == [runs.account])
