import asyncio
import hashlib
import struct
import time

import pytest

from compute import tensors
from compute.admission import Refused
from compute.safetensors_header import encode_header
from compute.worker.wire import Plan
from shared.ids import OPERATOR
from shared.messages import Stage
from tests.unit.service_world import OTHER_REQUESTER, REQUESTER, SPEC, World, world


async def refused(world, request) -> Refused:
    with pytest.raises(Refused) as caught:
        await world.service.submit(request)
    return caught.value


async def test_the_same_post_again_changes_nothing(tmp_path):
    async with world(tmp_path) as w:
        request = w.request()
        first, is_new = await w.service.submit(request)
        assert is_new
        again, is_new = await w.service.submit(request)
        assert again is first
        assert not is_new
        await w.end(request.key)
        again, is_new = await w.service.submit(request)
        assert again is first
        assert not is_new
        assert w.pool.run_count == 1


async def test_the_same_attempt_with_other_content_is_refused(tmp_path):
    async with world(tmp_path) as w:
        request = w.request()
        await w.service.submit(request)
        other = request.model_copy(update={"output_count": 2})
        error = await refused(w, other)
        assert (error.status, error.kind) == (409, "content-differs")
        assert error.members["attempt"] == 10
        assert error.members["stage"] in list(Stage)


async def test_another_requester_under_the_same_attempt_is_other_content(tmp_path):
    async with world(tmp_path) as w:
        request = w.request(input_uris=[w.uri.replace("x.", "x.")])
        await w.service.submit(request)
        (w.folder / "tensors" / OTHER_REQUESTER).mkdir()
        other = request.model_copy(
            update={
                "requester": OTHER_REQUESTER,
                "input_uris": [w.uri.replace(request.requester, OTHER_REQUESTER)],
            }
        )
        assert (await refused(w, other)).kind == "content-differs"


async def test_a_lower_attempt_is_refused(tmp_path):
    async with world(tmp_path) as w:
        request = w.request()
        await w.service.submit(request)
        error = await refused(w, request.model_copy(update={"attempt": 9}))
        assert (error.status, error.kind, error.members["attempt"]) == (409, "attempt-superseded", 10)


async def test_a_higher_attempt_with_the_same_content_goes_on_under_the_new_number(tmp_path):
    async with world(tmp_path) as w:
        w.pool.runs.close()
        request = w.request()
        entry, _ = await w.service.submit(request)
        await w.reach(request.key, Stage.RUNNING)
        same, is_new = await w.service.submit(request.model_copy(update={"attempt": 11}))
        assert same is entry
        assert not is_new
        w.pool.runs.open.set()
        status = await w.end(request.key)
        assert (status.attempt, status.stage) == (11, Stage.DONE)
        same, is_new = await w.service.submit(request.model_copy(update={"attempt": 12}))
        assert same is entry
        assert not is_new
        assert w.pool.run_count == 1
        (stored,) = await w.results.all_results()
        assert stored.status.attempt == 12


async def test_a_higher_attempt_with_other_content_replaces_what_runs(tmp_path):
    async with world(tmp_path) as w:
        w.pool.runs.close()
        request = w.request()
        await w.service.submit(request)
        await w.reach(request.key, Stage.RUNNING)
        w.pool.runs.open.set()
        other = request.model_copy(update={"attempt": 11, "compute_units": 7})
        _, is_new = await w.service.submit(other)
        assert is_new
        status = await w.end(request.key)
        assert (status.attempt, status.stage) == (11, Stage.DONE)
        assert w.pool.run_count == 2


async def test_a_failed_task_under_a_higher_attempt_is_done_anew(tmp_path):
    async with world(tmp_path) as w:
        request = w.request(output_count=2)
        await w.service.submit(request)
        assert (await w.end(request.key)).reason == "OutputCountMismatch"
        w.pool.plan_of = Plan((SPEC, SPEC), 1, 0)
        _, is_new = await w.service.submit(request.model_copy(update={"attempt": 11}))
        assert is_new
        assert (await w.end(request.key)).stage is Stage.DONE


@pytest.mark.parametrize("ended", [True, False])
async def test_a_post_from_the_chain_replaces_what_a_local_caller_tried(tmp_path, ended):
    async with world(tmp_path) as w:
        public = w.folder / "tensors" / "public" / "x.safetensors"
        public.write_bytes((w.folder / "tensors" / w.request().requester / "x.safetensors").read_bytes())
        tried = w.request(requester=OPERATOR, attempt=0, input_uris=[f"file://{public}"])
        if not ended:
            w.pool.runs.close()
        entry, _ = await w.service.submit(tried)
        await w.reach(tried.key, Stage.DONE if ended else Stage.RUNNING)
        assigned = w.request(execution_id=tried.execution_id, task_id=tried.task_id, attempt=0)
        _, is_new = await w.service.submit(assigned)
        assert is_new
        assert entry.work.done()
        w.pool.runs.open.set()
        assert (await w.end(tried.key)).requester == assigned.requester
        error = await refused(w, tried)
        assert error.kind == "content-differs", "not the other way round"


async def test_what_this_requester_may_not_read_is_refused_by_the_body(tmp_path):
    async with world(tmp_path) as w:
        error = await refused(w, w.request(requester=OTHER_REQUESTER))
        assert (error.status, error.kind, error.members["field"]) == (422, "input-forbidden", "inputUris.0")


async def test_more_compute_units_than_the_cap_are_refused_by_the_body(tmp_path):
    async with world(tmp_path, max_compute_units=5) as w:
        error = await refused(w, w.request(compute_units=6))
        assert (error.status, error.kind) == (422, "compute-units-above-cap")
        assert "6" in error.detail
        assert "5" in error.detail


async def test_a_full_table_is_answered_with_retry_after(tmp_path):
    async with world(tmp_path, max_tasks=1, retry_after_s=3) as w:
        w.pool.runs.close()
        request = w.request()
        await w.service.submit(request)
        error = await refused(w, w.request())
        assert (error.status, error.kind, error.members["retryAfter"]) == (429, "at-capacity", 3)
        _, is_new = await w.service.submit(request)
        assert not is_new, "what is known is told also when there is no room"
        w.pool.runs.open.set()
        await w.end(request.key)
        await w.service.submit(w.request())


@pytest.mark.parametrize(
    ("declared", "plan_units", "cap"), [(6, 7, 100), (None, 7, 6)], ids=["under-declared", "above the cap"]
)
async def test_too_many_compute_units_fail_the_task_with_both_numbers(tmp_path, declared, plan_units, cap):
    async with world(tmp_path, max_compute_units=cap) as w:
        request = w.request(compute_units=declared)
        await w.service.submit(request)
        status = await w.end(request.key)
        assert (status.stage, status.reason) == (Stage.FAILED, "ComputeUnitsExceeded")
        assert status.compute_units == 7
        assert "7" in status.result.error_message
        assert "6" in status.result.error_message
        assert w.pool.run_count == 0


async def test_inputs_above_their_limit_fail_the_task(tmp_path):
    async with world(tmp_path, max_input_bytes=SPEC.nbytes - 1) as w:
        request = w.request()
        await w.service.submit(request)
        assert (await w.end(request.key)).reason == "TooLarge"


def two_tensors_under_their_hash(w: World) -> tuple[str, int]:
    """The URI of [1, 2] and [3, 4] in one object that is named by its hash, and its size."""
    data = encode_header([("0", SPEC), ("1", SPEC)]) + struct.pack("<4f", 1, 2, 3, 4)
    path = w.folder / "tensors" / REQUESTER / f"{hashlib.sha256(data).hexdigest()}.safetensors"
    path.write_bytes(data)
    return f"file://{path}", len(data)


@pytest.mark.parametrize("missing_bytes", [0, 1])
async def test_an_object_named_by_its_hash_counts_whole_and_once(tmp_path, monkeypatch, missing_bytes):
    monkeypatch.setattr(tensors, "START_BYTES", 64)
    async with world(tmp_path) as w:
        uri, size = two_tensors_under_their_hash(w)
    async with world(tmp_path, max_input_bytes=size - missing_bytes) as w:
        reads = []
        really_read = w.storage.read_into

        async def counting(uri, start, view, version=None):
            reads.append(len(view))
            await really_read(uri, start, view, version)

        w.storage.read_into = counting
        request = w.request(input_uris=[f"{uri}#0", f"{uri}#1", f"{uri}#1"])
        await w.service.submit(request)
        status = await w.end(request.key)
        header_bytes = size - 2 * SPEC.nbytes
        if missing_bytes:
            assert status.reason == "TooLarge"
            assert f"{size} bytes" in status.result.error_message
            assert str(size - 1) in status.result.error_message
            assert sum(reads) <= header_bytes - 64
        else:
            assert status.stage is Stage.DONE
            assert sum(reads) == size - 64, "each byte once"


async def test_outputs_above_their_limit_fail_the_task(tmp_path):
    async with world(tmp_path, max_output_bytes=SPEC.nbytes - 1) as w:
        request = w.request()
        await w.service.submit(request)
        assert (await w.end(request.key)).reason == "TooLarge"


async def test_only_so_many_tasks_hold_tensors_at_once(tmp_path):
    async with world(tmp_path, max_in_work=2) as w:
        w.pool.runs.close()
        requests = [w.request() for _ in range(4)]
        for request in requests:
            await w.service.submit(request)
        for request in requests[:2]:
            await w.reach(request.key, Stage.RUNNING)
        await asyncio.sleep(0.05)
        stages = [w.service.find(request.key).stage for request in requests]
        assert stages == [Stage.RUNNING, Stage.RUNNING, Stage.QUEUED, Stage.QUEUED]
        w.pool.runs.open.set()
        for request in requests:
            await w.end(request.key)


async def test_a_long_poll_wakes_when_the_stage_changes(tmp_path):
    async with world(tmp_path) as w:
        w.pool.runs.close()
        request = w.request()
        await w.service.submit(request)
        await w.reach(request.key, Stage.RUNNING)
        poll = asyncio.ensure_future(w.service.wait(request.key, Stage.RUNNING, 30))
        await asyncio.sleep(0.02)
        assert not poll.done()
        before = time.monotonic()
        w.pool.runs.open.set()
        entry = await poll
        assert time.monotonic() - before < 15
        assert entry.stage is not Stage.RUNNING


async def test_a_long_poll_gives_up_after_its_time(tmp_path):
    async with world(tmp_path) as w:
        w.pool.runs.close()
        request = w.request()
        await w.service.submit(request)
        entry = await w.service.wait(request.key, None, 0.05)
        assert entry.unfinished


async def test_the_deadline_counts_from_chain_time_and_ends_a_run_without_output(tmp_path):
    async with world(tmp_path) as w:
        w.pool.runs.close()
        request = w.request(deadline=1_000, chain_time=970, landing_margin=28.0)
        await w.service.submit(request)
        status = await w.end(request.key)
        assert (status.stage, status.reason) == (Stage.FAILED, "DeadlinePassed")
        assert "28 s to land" in status.result.error_message
        assert [time.stage for time in status.stages][-2:] == [Stage.RUNNING, Stage.FAILED]
        assert w.output_files() == []


async def test_storing_may_go_on_within_the_margin_but_not_beyond_the_deadline(tmp_path):
    async with world(tmp_path) as w:
        w.storage.after_puts.close()
        request = w.request(deadline=1_005, chain_time=1_000, landing_margin=3.0)
        await w.service.submit(request)
        await w.reach(request.key, Stage.STORING)
        await asyncio.sleep(2.2)
        assert w.service.find(request.key).stage is Stage.STORING
        assert len(w.output_files()) == 1
        status = await w.end(request.key)
        assert (status.stage, status.reason) == (Stage.FAILED, "DeadlinePassed")
        assert w.output_files() == []


async def test_a_fault_of_our_own_ends_the_task_and_not_the_service(tmp_path):
    async with world(tmp_path) as w:

        async def broken(*_):
            raise ZeroDivisionError

        w.pool.run = broken
        request = w.request()
        await w.service.submit(request)
        status = await w.end(request.key)
        assert status.reason == "ComputationFailed"
        assert "ZeroDivisionError" in status.result.error_message


async def test_a_fault_while_a_result_is_kept_ends_the_task_and_not_the_service(tmp_path):
    async with world(tmp_path) as w:
        really_finish = w.results.finish

        async def broken_once(_run, _result):
            w.results.finish = really_finish
            raise ZeroDivisionError

        w.results.finish = broken_once
        request = w.request()
        await w.service.submit(request)
        status = await w.end(request.key)
        assert (status.stage, status.reason) == (Stage.FAILED, "ComputationFailed")
        assert w.output_files() == [], "what it had stored is deleted"
        other = w.request()
        await w.service.submit(other)
        assert (await w.end(other.key)).stage is Stage.DONE


async def test_a_fault_is_met_once_and_not_again_and_again(tmp_path):
    async with world(tmp_path) as w:
        plans = 0

        async def broken(_job, _tenant):
            nonlocal plans
            plans += 1
            raise ZeroDivisionError

        w.pool.plan = broken
        request = w.request()
        await w.service.submit(request)
        assert "ZeroDivisionError" in (await w.end(request.key)).result.error_message
        _, is_new = await w.service.submit(request)
        assert not is_new
        assert plans == 1


@pytest.mark.parametrize("meanwhile", ["another comes", "it stops"])
async def test_what_replaces_an_ended_attempt_has_no_place_that_was_given_away_while_that_was_dropped(
    tmp_path, meanwhile
):
    async with world(tmp_path, max_tasks=1) as w:
        first = w.request()
        await w.service.submit(first)
        await w.end(first.key)
        dropping, may_drop = asyncio.Event(), asyncio.Event()
        drop_result = w.results.drop_result

        async def drop_late(key):
            dropping.set()
            await may_drop.wait()
            await drop_result(key)

        w.results.drop_result = drop_late
        w.pool.runs.close()
        replacing = asyncio.create_task(
            refused(w, first.model_copy(update={"attempt": 11, "input_uris": [w.uri] * 2}))
        )
        await dropping.wait()
        if meanwhile == "it stops":
            await w.service.stop(0.0)
        else:
            await w.service.submit(w.request())
        may_drop.set()
        error = await asyncio.wait_for(replacing, 10)
        assert error.status == 429
        w.pool.runs.open.set()
