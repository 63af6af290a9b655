import asyncio
import time

import pytest

from compute import service
from compute.admission import Refused
from compute.specs import DType, TensorSpec
from compute.worker.wire import Plan
from shared.ids import OPERATOR
from shared.messages import Stage
from tests.unit.service_world import SPEC, until, world

SOON_S = 15.0
"""Nothing here takes longer but what would never come."""


async def refused(awaited) -> Refused:
    with pytest.raises(Refused) as caught:
        await awaited
    return caught.value


@pytest.mark.parametrize("stage", [Stage.QUEUED, Stage.FETCHING, Stage.RUNNING])
async def test_a_cancelled_task_is_unknown_and_leaves_no_output(tmp_path, stage):
    async with world(tmp_path, max_in_work=1) as w:
        blocker = w.request()
        if stage is Stage.QUEUED:
            w.pool.runs.close()
            await w.service.submit(blocker)
        if stage is Stage.FETCHING:
            w.storage.reads.close()
        if stage is Stage.RUNNING:
            w.pool.runs.close()
        request = w.request()
        await w.service.submit(request)
        await w.reach(request.key, stage)
        begun = time.monotonic()
        entry = await w.service.cancel(request.key, request.attempt, force=False)
        assert time.monotonic() - begun < SOON_S
        assert entry is not None
        assert w.service.find(request.key) is None
        assert w.output_files() == []
        w.pool.runs.open.set()
        w.storage.reads.open.set()
        _, is_new = await w.service.submit(request)
        assert is_new
        assert (await w.end(request.key)).stage is Stage.DONE


async def test_a_task_cancelled_before_its_first_step_is_unknown_too(tmp_path):
    async with world(tmp_path) as w:
        request = w.request()
        await w.service.submit(request)
        await w.service.cancel(request.key, request.attempt, force=False)
        assert w.service.find(request.key) is None


async def test_what_is_being_stored_is_not_cancelled_but_finished(tmp_path):
    async with world(tmp_path) as w:
        w.storage.puts.close()
        request = w.request()
        await w.service.submit(request)
        await w.storage.puts.reached.wait()
        error = await refused(w.service.cancel(request.key, request.attempt, force=False))
        assert (error.status, error.kind, error.members["stage"]) == (409, "storing", Stage.STORING)
        w.storage.puts.open.set()
        assert (await w.end(request.key)).stage is Stage.DONE
        assert len(w.output_files()) == 1


@pytest.mark.parametrize("place", ["puts", "after_puts"])
async def test_by_force_what_is_being_stored_is_deleted_again(tmp_path, place):
    async with world(tmp_path) as w:
        held = getattr(w.storage, place)
        held.close()
        request = w.request()
        await w.service.submit(request)
        await held.reached.wait()
        assert await w.service.cancel(request.key, request.attempt, force=True) is not None
        assert w.service.find(request.key) is None
        assert w.output_files() == []
        assert await w.results.to_delete() == []


async def test_by_force_an_object_that_was_there_before_stays(tmp_path):
    async with world(tmp_path) as w:
        request = w.request()
        await w.service.submit(request)
        await w.end(request.key)
        before = w.output_files()
        await w.service.acknowledge(request.key, request.attempt, paid=True)
        real_finish, reached = w.results.finish, asyncio.Event()

        async def held_finish(run, result):
            reached.set()
            await asyncio.Event().wait()

        w.results.finish = held_finish
        await w.service.submit(request)
        await reached.wait()
        await w.service.cancel(request.key, request.attempt, force=True)
        w.results.finish = real_finish
        assert w.output_files() == before


async def test_a_finished_task_is_not_dropped_by_a_cancellation(tmp_path):
    async with world(tmp_path) as w:
        request = w.request()
        await w.service.submit(request)
        status = await w.end(request.key)
        for force in (False, True):
            error = await refused(w.service.cancel(request.key, request.attempt, force=force))
            assert (error.status, error.kind) == (409, "finished")
            assert error.members["result"]["outputUris"] == status.result.output_uris


async def test_another_attempt_or_an_unknown_pair_is_nothing_to_stop(tmp_path):
    async with world(tmp_path) as w:
        request = w.request()
        assert await w.service.cancel(request.key, 10, force=True) is None
        w.pool.runs.close()
        await w.service.submit(request)
        assert await w.service.cancel(request.key, 11, force=True) is None
        assert w.service.find(request.key) is not None


async def test_only_a_local_callers_task_is_stopped_without_an_attempt(tmp_path):
    async with world(tmp_path) as w:
        w.pool.runs.close()
        request = w.request()
        await w.service.submit(request)
        error = await refused(w.service.cancel(request.key, None, force=True))
        assert (error.status, error.members["field"]) == (422, "attempt")
        local = w.request(requester=OPERATOR, attempt=0, input_uris=[f"file://{tmp_path}/tensors/public/x"])
        await w.service.submit(local)
        assert await w.service.cancel(local.key, None, force=False) is not None


async def test_acknowledged_as_paid_the_outputs_stay_and_the_result_goes(tmp_path):
    async with world(tmp_path) as w:
        request = w.request()
        await w.service.submit(request)
        await w.end(request.key)
        assert await w.service.acknowledge(request.key, request.attempt, paid=True) is None
        assert w.service.find(request.key) is None
        assert len(w.output_files()) == 1
        assert await w.results.all_results() == []


async def test_acknowledged_as_unpaid_the_outputs_go_too(tmp_path):
    async with world(tmp_path) as w:
        request = w.request()
        await w.service.submit(request)
        await w.end(request.key)
        assert await w.service.acknowledge(request.key, request.attempt, paid=False) is None
        assert w.output_files() == []
        assert await w.results.to_delete() == []


async def test_unpaid_drops_what_earlier_attempts_created_as_well(tmp_path):
    async with world(tmp_path) as w:
        request = w.request()
        await w.service.submit(request)
        await w.end(request.key)
        other = request.model_copy(update={"attempt": 11, "compute_units": 9})
        await w.service.submit(other)
        await w.end(other.key)
        assert len(w.output_files()) == 1, "the same bytes at the same place"
        await w.service.acknowledge(other.key, 11, paid=False)
        assert w.output_files() == []


async def test_a_later_run_without_a_result_keeps_what_an_earlier_one_created(tmp_path):
    async with world(tmp_path) as w:
        request = w.request()
        await w.service.submit(request)
        await w.end(request.key)
        w.storage.after_puts.close()
        w.storage.after_puts.reached.clear()
        other = request.model_copy(update={"attempt": 11, "compute_units": 9})
        await w.service.submit(other)
        await w.storage.after_puts.reached.wait()
        await w.service.cancel(other.key, 11, force=True)
        assert len(w.output_files()) == 1


async def test_all_unfinished_tasks_of_an_execution_are_stopped_together(tmp_path):
    async with world(tmp_path) as w:
        done = w.request(execution_id="one")
        await w.service.submit(done)
        await w.end(done.key)
        w.pool.runs.close()
        running = [w.request(execution_id="one") for _ in range(2)]
        other = w.request(execution_id="two")
        for request in (*running, other):
            await w.service.submit(request)
        entries = await w.service.cancel_execution("one", force=False)
        assert {entry.key for entry in entries} == {request.key for request in running}
        assert {entry.key for entry in w.service.all_entries()} == {done.key, other.key}


async def test_stopping_refuses_new_work_and_finishes_what_runs(tmp_path):
    async with world(tmp_path, max_in_work=1) as w:
        w.pool.runs.close()
        running, queued = w.request(), w.request()
        await w.service.submit(running)
        await w.reach(running.key, Stage.RUNNING)
        await w.service.submit(queued)
        stopping = asyncio.ensure_future(w.service.stop(60))
        await until(lambda: w.service.find(queued.key) is None)
        error = await refused(w.service.submit(w.request()))
        assert (error.status, error.kind) == (429, "stopping")
        w.pool.runs.open.set()
        await stopping
        assert w.service.find(running.key).stage is Stage.DONE


async def test_after_the_grace_time_what_runs_is_forgotten(tmp_path):
    async with world(tmp_path) as w:
        w.pool.runs.close()
        request = w.request()
        await w.service.submit(request)
        await w.reach(request.key, Stage.RUNNING)
        poll = asyncio.ensure_future(w.service.wait(request.key, Stage.RUNNING, 60))
        await asyncio.sleep(0)
        await w.service.stop(0.05)
        assert await poll is None
        assert w.output_files() == []


async def test_storage_that_never_answers_a_delete_does_not_hold_up_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(service, "CLEANING_UP_S", 0.2)
    async with world(tmp_path) as w:

        async def silent(_uri):
            await asyncio.Event().wait()

        w.storage.after_puts.close()
        w.storage.delete = silent
        request = w.request()
        await w.service.submit(request)
        await w.storage.after_puts.reached.wait()
        begun = time.monotonic()
        await w.service.stop(0.0)
        assert time.monotonic() - begun < SOON_S
        assert w.service.find(request.key) is None
        (left,) = w.output_files()
    async with world(tmp_path) as w:
        await until(lambda: not left.exists())


async def test_the_objects_of_a_pair_are_deleted_side_by_side(tmp_path):
    async with world(tmp_path) as w:
        w.pool.plan_of = Plan((SPEC, TensorSpec(DType.FLOAT32, (3,))), 1, 0)
        request = w.request(output_count=2)
        await w.service.submit(request)
        assert (await w.end(request.key)).stage is Stage.DONE
        both, count = asyncio.Event(), 0

        async def once_both_are_asked_for(_uri):
            nonlocal count
            count += 1
            if count == 2:
                both.set()
            await both.wait()

        w.storage.delete = once_both_are_asked_for
        async with asyncio.timeout(SOON_S):
            await w.service.acknowledge(request.key, request.attempt, paid=False)
        assert await w.results.to_delete() == []
