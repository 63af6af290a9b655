"""Compute is down, restarting, hanging, full or stopped, or the way to it is bad: no task is lost, none runs twice."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import listener.compute_client as compute_client
import listener.settlement as settlement
from listener.journal.states import Owed, State
from listener.reconcile import reconcile
from tests.faults.between import MARGIN_S, PATIENCE_S, Between, between
from tests.faults.weather import HTTP_FAULTS, Fault
from tests.integration.compute_process import ComputeProcess, compute_process
from tests.integration.compute_tasks import add_task, slow_task
from tests.unit.listener_world import until

pytestmark = pytest.mark.timeout(300)

ONCE = ["fetching", "running", "storing", "done"]
HUNG_S = 1.0
"""How long an answer may take in these tests."""


@pytest.fixture(scope="module")
def compute(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComputeProcess]:
    with compute_process(tmp_path_factory.mktemp("compute"), max_tasks=2, retry_after_s=0.5) as running:
        yield running


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute_client, "ANSWER_TIMEOUT_S", HUNG_S)
    monkeypatch.setattr(settlement, "AGAIN_S", 0.3)


@pytest.fixture
async def way(compute: ComputeProcess, tmp_path: Path) -> AsyncIterator[Between]:
    async with between(compute, tmp_path) as made:
        yield made


async def at_stage(way: Between, body: dict[str, object], stage: str) -> None:
    await asyncio.to_thread(way.compute.reach, body, stage)


@pytest.mark.parametrize("fault", HTTP_FAULTS)
async def test_whatever_strikes_the_way_to_compute_the_task_is_computed_once(way: Between, fault: Fault) -> None:
    way.weather.kinds, way.weather.first, way.weather.stall_s = (fault,), 2, 0.5
    task = await way.take(add_task(way.compute))
    done = await way.reaches(task, State.COMPUTED)
    assert done.result is not None and done.result.success
    assert way.stages(task) == ONCE
    assert any(name == "POST" for name, _ in way.weather.struck)


async def test_while_compute_hangs_the_task_stays_and_it_is_asked_again(way: Between) -> None:
    way.freeze()
    try:
        task = await way.take(add_task(way.compute))
        await until(lambda: way.proxy.counts["POST"] >= 2, PATIENCE_S)
        assert (await way.journal.task(task.id)).state is State.ACCEPTED
    finally:
        way.thaw()
    await way.reaches(task, State.COMPUTED)
    assert way.stages(task) == ONCE


async def test_a_compute_that_is_killed_before_it_told_of_its_result_tells_it_after_its_next_start(
    way: Between,
) -> None:
    body = add_task(way.compute)
    way.proxy.is_gone = True
    task = await way.take(body)
    await asyncio.to_thread(way.compute.post, _as_posted(task, body))
    await at_stage(way, body, "done")
    way.compute.kill()
    await asyncio.to_thread(way.compute.start)
    way.proxy.is_gone = False
    done = await way.reaches(task, State.COMPUTED)
    assert done.result is not None and done.result.success
    assert way.stages(task) == ONCE


def _as_posted(task, body: dict[str, object]) -> dict[str, object]:
    """What the listener posts for it, so that its own POST finds the same work."""
    return body | {
        "attempt": task.attempt,
        "computeUnits": task.compute_units,
        "deadline": task.deadline,
        "chainTime": task.deadline - 600,
    }


async def test_what_was_lost_with_the_state_folder_is_computed_again_to_the_same_object(way: Between) -> None:
    body = add_task(way.compute)
    way.proxy.is_gone = True
    task = await way.take(body)
    await asyncio.to_thread(way.compute.post, _as_posted(task, body))
    await at_stage(way, body, "done")
    before = way.compute.output_files()
    way.compute.kill()
    shutil.rmtree(way.compute.folder / "state")
    await asyncio.to_thread(way.compute.start)
    way.proxy.is_gone = False
    done = await way.reaches(task, State.COMPUTED)
    assert done.result is not None and done.result.success
    assert way.stages(task) == ONCE + ONCE
    assert way.compute.output_files() == before


async def test_a_compute_that_stops_first_leaves_its_task_to_its_next_start(way: Between) -> None:
    assert await asyncio.to_thread(way.compute.stop) == 0
    await asyncio.to_thread(lambda: way.compute.start(grace_s=0.1))
    body = slow_task(way.compute, count=800)
    task = await way.take(body)
    await at_stage(way, body, "running")
    assert await asyncio.to_thread(way.compute.stop) == 0
    assert (await way.journal.task(task.id)).state in (State.ACCEPTED, State.COMPUTING)
    await asyncio.to_thread(way.compute.start)
    done = await way.reaches(task, State.COMPUTED)
    assert done.result is not None and done.result.success
    assert way.stages(task) == ["fetching", "running", *ONCE]


async def test_at_capacity_tasks_wait_in_the_journal_and_each_is_computed(way: Between) -> None:
    holding = [slow_task(way.compute, side=1024) for _ in range(2)]
    for body in holding:
        assert (await asyncio.to_thread(way.compute.post, body)).status_code == 202
    tasks = [await way.take(add_task(way.compute)) for _ in range(8)]
    await until(lambda: way.proxy.counts["POST"] > len(tasks), PATIENCE_S)
    assert {(await way.journal.task(task.id)).state for task in tasks} == {State.ACCEPTED}
    for body in holding:
        await asyncio.to_thread(way.compute.delete, body)
    for task in tasks:
        await way.reaches(task, State.COMPUTED)
        assert way.stages(task) == ONCE


# ---- a cancellation against all that ----


async def test_a_cancellation_that_comes_first_leaves_no_output_and_nothing_at_compute(way: Between) -> None:
    body, before = slow_task(way.compute), way.compute.output_files()
    task = await way.take(body)
    await at_stage(way, body, "running")
    await way.cancel(task, notice_s=30)
    await way.reaches(task, State.CANCELLED)
    assert (await asyncio.to_thread(way.compute.status, body)).status_code == 404
    assert way.compute.output_files() == before
    assert way.submitted == []


async def test_a_result_that_comes_first_is_submitted_though_the_cancellation_stands(way: Between) -> None:
    body = add_task(way.compute)
    way.proxy.is_gone = True
    task = await way.take(body)
    await asyncio.to_thread(way.compute.post, _as_posted(task, body))
    await at_stage(way, body, "done")
    await way.cancel(task, notice_s=30)
    way.proxy.is_gone = False
    done = await way.reaches(task, State.COMPUTED)
    assert done.result is not None and done.result.success
    await until(lambda: way.submitted != [], PATIENCE_S)


async def test_a_cancellation_whose_answer_was_lost_is_asked_again_and_ends_cancelled(way: Between) -> None:
    body = slow_task(way.compute)
    task = await way.take(body)
    await at_stage(way, body, "running")
    way.weather.kinds, way.weather.first, way.weather.only = (Fault.LOST,), 2, frozenset({"DELETE"})
    await way.cancel(task, notice_s=30)
    await way.reaches(task, State.CANCELLED)
    assert way.weather.struck["DELETE", Fault.LOST] == 2
    assert way.submitted == []


async def test_while_compute_hangs_a_cancellation_ends_by_the_notice_and_the_stop_stays_owed(way: Between) -> None:
    body = slow_task(way.compute)
    task = await way.take(body)
    await at_stage(way, body, "running")
    way.freeze()
    try:
        await way.cancel(task, notice_s=MARGIN_S + 3)
        ended = await way.reaches(task, State.CANCELLED)
        assert ended.owed is Owed.STOP
        await asyncio.sleep(2 * HUNG_S)
        assert (await way.journal.task(task.id)).owed is Owed.STOP
    finally:
        way.thaw()

    async def stopped() -> bool:
        return (await asyncio.to_thread(way.compute.status, body)).status_code == 404

    await until(stopped, PATIENCE_S)

    async def written() -> bool:
        return (await way.journal.task(task.id)).owed is not Owed.STOP

    await until(written, PATIENCE_S)
    assert way.submitted == []


async def test_what_compute_runs_and_a_lost_journal_does_not_hold_is_stopped(way: Between) -> None:
    body = slow_task(way.compute)
    await asyncio.to_thread(way.compute.post, body)
    await at_stage(way, body, "running")
    await reconcile(way.client, way.journal)
    assert (await asyncio.to_thread(way.compute.status, body)).status_code == 404
