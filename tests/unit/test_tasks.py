"""One task's way through its states, with the real journal and a compute that a test scripts."""

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from listener.chain_clock import ChainClock
from listener.compute_client import Accepted, Finished, Stopped, Storing
from listener.journal.changes import Count, Move
from listener.journal.journal import Journal
from listener.journal.records import Task
from listener.journal.states import Outcome, Owed, State, WaitsFor
from listener.tasks import DISPUTED_S, Drive, Surroundings, TaskRunner
from shared.clock import SystemClock
from shared.errors import ComputeBusy, ComputeConflict, ComputeRefused, ComputeUnavailable, Disputed
from shared.ids import Attempt, Requester, day_of
from shared.messages import Stage, TaskRequest, TaskResult, TaskStatus
from tests.unit.journal_rows import NOW, assignment, inserted, result
from tests.unit.listener_world import ACCOUNT, OURS, World, running, until

OTHER = Requester("6sbzC1eH4FTujJXWj51eQe25cYvr4xfXbJ1vAj7j2k5J")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield World(journal)
    journal.close()


class Submitted:
    """Stands where the submission does: notes what comes, and leaves it computed."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    async def __call__(self, task: Task) -> float:
        self.tasks.append(task)
        return 3600.0


def surroundings(world: World, submit: Submitted | None = None) -> Surroundings:
    return Surroundings(
        steps=world.steps,
        compute=world.compute,
        chain_clock=world.chain_clock,
        landing_margin_s=15.0,
        max_unpaid_a_day=5,
        submit=submit or Submitted(),
        look_again=world.observer.look_again,
    )


def runner(world: World, submit: Submitted | None = None) -> TaskRunner:
    made = TaskRunner(surroundings(world, submit), random.Random(1))
    world.steps.tell(made.changed)
    return made


def status(
    task: Task,
    stage: Stage,
    ended: TaskResult | None = None,
    attempt: int | None = None,
    reason: str | None = None,
) -> TaskStatus:
    return TaskStatus(
        execution_id=task.execution_id,
        task_id=task.task_id,
        attempt=Attempt(attempt or task.attempt),
        requester=task.requester,
        stage=stage,
        result=ended,
        reason=reason,
    )


async def test_a_task_goes_from_post_through_its_stages_to_the_submission(world: World) -> None:
    task, submitted = await world.taken(), Submitted()
    done = result(task)
    world.compute.answers["post"] = [Accepted()]
    world.compute.answers["status"] = [
        status(task, Stage.QUEUED),
        status(task, Stage.RUNNING),
        status(task, Stage.DONE, done),
    ]
    async with running(runner(world, submitted).run()):
        await until(lambda: submitted.tasks != [])
    (posted,) = world.compute.calls("post")[0]
    assert (posted.attempt, posted.requester, posted.chain_time) == (task.attempt, task.requester, NOW)
    assert (posted.deadline, posted.landing_margin, posted.compute_units) == (NOW + 600, 15.0, 7)
    assert [stage for _, _, stage in world.compute.calls("status")] == [None, Stage.QUEUED, Stage.RUNNING]
    assert submitted.tasks[0].state is State.COMPUTED and submitted.tasks[0].result == done


async def test_a_result_that_compute_had_already_is_taken_without_a_poll(world: World) -> None:
    task = await world.taken()
    world.compute.answers["post"] = [status(task, Stage.DONE, result(task))]
    async with running(runner(world).run()):
        await world.reaches(State.COMPUTED)
    assert world.compute.calls("status") == []


async def test_what_compute_runs_already_is_followed(world: World) -> None:
    task = await world.taken()
    world.compute.answers["post"] = [status(task, Stage.RUNNING)]
    async with running(runner(world).run()):
        await world.reaches(State.COMPUTING)


async def test_at_capacity_the_task_waits_as_long_as_compute_asks(world: World) -> None:
    await world.taken()
    world.compute.answers["post"] = [ComputeBusy("full", 0.3), ComputeBusy("full", 0.3), Accepted()]
    began = time.monotonic()
    async with running(runner(world).run()):
        await until(lambda: len(world.compute.calls("post")) == 2)
        assert time.monotonic() - began >= 0.3
        assert (await world.task()).state is State.ACCEPTED
        await world.reaches(State.COMPUTING)
    assert time.monotonic() - began >= 0.6


async def test_while_compute_is_away_the_task_stays_and_is_tried_again(world: World) -> None:
    await world.taken()
    world.compute.answers["post"] = [ComputeUnavailable("refused"), ComputeUnavailable("reset"), Accepted()]
    async with running(runner(world).run()):
        await world.reaches(State.COMPUTING)
    assert len(world.compute.calls("post")) == 3


async def test_what_compute_refuses_fails_with_its_words(world: World) -> None:
    await world.taken()
    problem = {"type": "input-forbidden", "detail": "s3://other is not yours"}
    world.compute.answers["post"] = [ComputeRefused("refused", problem)]
    async with running(runner(world).run()):
        task = await world.reaches(State.COMPUTED)
    assert (task.ends_as, task.reason) == (State.FAILED, "input-forbidden")
    assert task.result is not None and task.result.error_message == "s3://other is not yours"


async def test_other_content_at_compute_under_the_same_attempt_fails_and_is_alarmed(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    known = await world.taken()
    world.compute.answers["post"] = [ComputeConflict("content-differs", {"attempt": known.attempt})]
    async with running(runner(world).run()):
        task = await world.reaches(State.COMPUTED)
    assert (task.ends_as, task.reason) == (State.FAILED, "ContentDiffers")
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "compute_content_differs"
    ]


async def test_a_higher_attempt_at_compute_has_the_account_read_again(world: World) -> None:
    known = await world.taken()
    world.shows(OURS.but(attempt=1500, model_id="another"))
    world.compute.answers["post"] = [ComputeConflict("superseded", {"attempt": 1500}), Accepted()]
    async with running(runner(world).run()):
        await until(lambda: len(world.compute.calls("post")) == 2)
    assert (await world.journal.task(known.id)).reason == "Reassigned"
    assert [request.attempt for (request,) in world.compute.calls("post")] == [1000, 1500]


@pytest.mark.parametrize("other_attempt", [None, 999])
async def test_a_pair_that_compute_does_not_know_starts_anew(world: World, other_attempt: int | None) -> None:
    task = await world.taken(State.COMPUTING)
    forgotten = None if other_attempt is None else status(task, Stage.RUNNING, attempt=other_attempt)
    world.compute.answers["status"] = [forgotten]
    world.compute.answers["post"] = [Accepted()]
    async with running(runner(world).run()):
        await until(lambda: len(world.compute.calls("status")) == 2)
    assert len(world.compute.calls("post")) == 1
    assert (await world.task()).state is State.COMPUTING


async def test_past_the_landing_margin_nothing_is_asked_of_compute_any_more(world: World) -> None:
    await world.taken()
    world.rpc.time = NOW + 590.0
    async with running(runner(world).run()):
        task = await world.reaches(State.MISSED)
    assert world.compute.called == [] and task.owed is Owed.STOP


async def cancelled_by(world: World, answer: Any, *states: State, polled: Any = None) -> Task:
    """A cancelled task, after compute's answer to the DELETE (and to the poll behind it)."""
    await world.taken(State.CANCELLING)
    world.compute.answers["stop"] = [answer]
    world.compute.answers["status"] = [polled]
    async with running(runner(world).run()):
        task = await world.reaches(*states)
    assert world.compute.calls("stop")[0][1:] == [1000, False]
    return task


async def test_a_cancelled_task_that_compute_stopped_is_over(world: World) -> None:
    task = await cancelled_by(world, Stopped(), State.CANCELLED)
    assert (task.reason, task.owed) == ("CancelledByRequester", Owed.STOP)


async def test_a_cancelled_task_that_was_done_is_submitted(world: World) -> None:
    task = await world.taken(State.CANCELLING)
    world.compute.answers["stop"] = [Finished(result(task))]
    async with running(runner(world).run()):
        await world.reaches(State.COMPUTED)


async def test_a_cancelled_task_that_had_failed_is_sent_to_nobody(world: World) -> None:
    task = await world.taken(State.CANCELLING)
    world.compute.answers["stop"] = [Finished(result(task, success=False))]
    async with running(runner(world).run()):
        assert (await world.reaches(State.CANCELLED)).result is None


async def test_a_cancelled_task_whose_outputs_are_being_stored_is_waited_for(world: World) -> None:
    task = await world.taken(State.CANCELLING)
    world.compute.answers["stop"] = [Storing()]
    world.compute.answers["status"] = [status(task, Stage.DONE, result(task))]
    async with running(runner(world).run()):
        await world.reaches(State.COMPUTED)
    ((_, wait_s, stage),) = world.compute.calls("status")
    assert stage is Stage.STORING and 0 < wait_s <= 16


async def test_a_cancelled_task_that_is_still_storing_near_the_end_of_its_notice_is_given_up(world: World) -> None:
    await world.taken(State.CANCELLING)
    world.rpc.time = NOW + 15.0
    async with running(runner(world).run()):
        task = await world.reaches(State.CANCELLED)
    assert world.compute.called == [] and task.owed is Owed.STOP


async def test_a_cancelled_task_stays_so_while_compute_does_not_answer(world: World) -> None:
    await world.taken(State.CANCELLING)
    world.compute.answers["stop"] = [ComputeUnavailable("away"), ComputeUnavailable("away"), Stopped()]
    async with running(runner(world).run()):
        await world.reaches(State.CANCELLED)
    assert len(world.compute.calls("stop")) == 3


async def test_a_cancellation_interrupts_a_long_poll(world: World) -> None:
    task = await world.taken(State.COMPUTING)
    world.compute.answers["stop"] = [Stopped()]
    async with running(runner(world).run()):
        await until(lambda: len(world.compute.calls("status")) == 1)
        world.shows(OURS.but(state=1, refund_at=OURS.deadline))
        await world.observer.look_again(ACCOUNT)
        await world.reaches(State.CANCELLED)
    assert world.compute.calls("stop")[0][0] == task.key


async def test_an_answer_that_compute_should_never_give_ends_no_process(world: World) -> None:
    task = await world.taken(State.COMPUTING)
    world.compute.answers["status"] = [
        ComputeRefused("422 to a GET", {}),
        ComputeConflict("409 to a GET", {}),
        status(task, Stage.DONE, result(task)),
    ]
    async with running(runner(world).run()):
        await world.reaches(State.COMPUTED)


async def test_once_closed_only_what_is_computed_goes_further(world: World) -> None:
    task, submitted = await world.taken(State.COMPUTING), Submitted()
    made = runner(world, submitted)
    async with running(made.run()):
        await until(lambda: len(world.compute.calls("status")) == 1)
        made.drive_only(frozenset({State.COMPUTED}))
        await until(lambda: not made._driven)
        await world.steps.journal.apply(
            Move(task.id, State.COMPUTING, State.COMPUTED, result=result(task), ends_as=State.PAID)
        )
        made.changed(task.id)
        await until(lambda: submitted.tasks != [])
    assert len(world.compute.calls("status")) == 1


async def test_a_step_that_is_interrupted_in_its_commit_still_wakes_who_goes_on(world: World) -> None:
    task = await world.taken(State.COMPUTING)
    woken: list[int | None] = []
    world.steps.tell(woken.append)
    applying = asyncio.Event()
    apply = world.journal.apply

    async def slow(*changes: Any, **at: Any) -> None:
        await apply(*changes, **at)
        applying.set()
        await asyncio.sleep(60)

    world.journal.apply = slow  # type: ignore[method-assign]
    world.compute.answers["status"] = [status(task, Stage.DONE, result(task))]
    async with running(runner(world).run()):
        await asyncio.wait_for(applying.wait(), 10)
    assert task.id in woken


async def test_a_process_that_stops_is_heard_while_a_step_is_being_put_away(world: World) -> None:
    changed, stopping = asyncio.Event(), asyncio.Event()

    async def slow_to_stop() -> float:
        try:
            return await asyncio.sleep(60, 0.0)
        finally:
            stopping.set()
            await asyncio.sleep(0.05)

    drive = Drive(surroundings(world), 1, changed, random.Random(1), print, print)
    driving = asyncio.ensure_future(drive._until_changed(slow_to_stop()))
    await asyncio.sleep(0)
    changed.set()
    await stopping.wait()
    driving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await driving


async def test_a_task_that_endpoints_dispute_waits_and_is_alarmed_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    task = await world.taken(State.COMPUTED)
    tries = 0

    async def disputed(_task: Task) -> float:
        nonlocal tries
        tries += 1
        raise Disputed("two endpoints disagree")

    drive = Drive(surroundings(world, disputed), task.id, asyncio.Event(), random.Random(1), print, print)  # type: ignore[arg-type]
    for _ in range(2):
        assert await drive._attempt(await world.task()) == DISPUTED_S
    waits = await world.task()
    assert (waits.state, waits.waits_for) == (State.COMPUTED, WaitsFor.AGREEMENT)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == ["disputed"]
    assert tries == 2


async def in_real_time(world: World) -> None:
    world.chain_clock = ChainClock(world._now, SystemClock())
    await world.chain_clock.now()


async def accepted(world: World, number: int, **terms: Any) -> Task:
    return await inserted(world.journal, assignment(number, **terms))


def posted(world: World) -> list[str]:
    return [request.task_id for (request,) in world.compute.calls("post")]


async def test_those_that_wait_are_posted_by_the_time_they_have_left_then_by_reward_and_unpaid_ones_last(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("listener.tasks.AT_DOOR", 1)
    await in_real_time(world)
    for _ in range(5):
        await world.journal.apply(Count(OTHER, day_of(NOW), Outcome.EXPIRED))
    await accepted(world, 1, deadline=NOW + 600, reward=1_000_000)
    await accepted(world, 2, deadline=NOW + 590, reward=2_000_000)
    await accepted(world, 3, deadline=NOW + 100_000, reward=9_000_000)
    await accepted(world, 4, deadline=NOW + 80, reward=1_000, requester=OTHER)
    await accepted(world, 5, deadline=NOW + 100, reward=1_000)
    world.compute.answers["post"] = [Accepted()] * 5
    async with running(runner(world).run()):
        await until(lambda: len(posted(world)) == 5)
    assert posted(world) == ["task-5", "task-2", "task-1", "task-3", "task-4"]


async def test_while_compute_has_no_place_one_asks_for_all_and_the_most_urgent_is_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("listener.tasks.AT_DOOR", 1)
    await in_real_time(world)
    await accepted(world, 1, deadline=NOW + 600)
    world.compute.answers["post"] = [ComputeBusy("no place", 0.3), Accepted()]
    post = world.compute.post

    async def while_another_comes(request: TaskRequest) -> Any:
        if not posted(world):
            await accepted(world, 2, deadline=NOW + 60)
        return await post(request)

    world.compute.post = while_another_comes
    async with running(runner(world).run()):
        await until(lambda: len(posted(world)) >= 2)
    assert posted(world)[:2] == ["task-1", "task-2"]


async def test_a_place_that_one_of_ours_leaves_is_taken_at_once(world: World) -> None:
    first = await accepted(world, 1)
    world.compute.answers["post"] = [Accepted(), ComputeBusy("no place", 3600.0), Accepted()]
    made = runner(world)
    async with running(made.run()):
        await until(lambda: posted(world) == ["task-1"])
        await accepted(world, 2)
        made.changed()
        await until(lambda: posted(world) == ["task-1", "task-2"])
        world.compute.answers["status"] = [status(first, Stage.DONE, result(first))]
        made.changed(first.id)
        await until(lambda: posted(world) == ["task-1", "task-2", "task-2"])


async def test_a_task_whose_turn_does_not_come_is_missed_in_time(world: World) -> None:
    await in_real_time(world)
    await accepted(world, 1, deadline=NOW + 5_000)
    world.compute.answers["post"] = [ComputeBusy("no place", 3600.0)]
    made = runner(world)
    async with running(made.run()):
        await until(lambda: len(posted(world)) == 1)
        soon = await accepted(world, 2, deadline=NOW + 17)
        made.changed()

        async def is_missed() -> bool:
            return (await world.journal.task(soon.id)).state is State.MISSED

        await until(is_missed)
    assert posted(world) == ["task-1"]
