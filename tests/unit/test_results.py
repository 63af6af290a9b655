import asyncio

import pytest

from compute.results import Results
from shared.errors import ConfigurationError, StateUnavailable, StorageUnavailable
from shared.messages import Stage
from tests.unit.service_world import until, world


async def test_a_result_is_known_after_a_restart(tmp_path):
    async with world(tmp_path) as w:
        request = w.request()
        await w.service.submit(request)
        before = await w.end(request.key)
    async with world(tmp_path) as w:
        assert w.service.find(request.key).status() == before
        _, is_new = await w.service.submit(request)
        assert not is_new
        await w.service.acknowledge(request.key, request.attempt, paid=False)
        assert w.output_files() == [], "the list of objects outlived the restart too"


async def test_what_a_run_without_a_result_created_is_deleted_at_the_next_start(tmp_path):
    async with world(tmp_path) as w:
        kept = w.request()
        await w.service.submit(kept)
        await w.end(kept.key)
        (kept_file,) = w.output_files()
        lost = w.request()

        async def die(*_):  # as if the process had been killed here
            pass

        w.storage.after_puts.close()
        w.storage.after_puts.reached.clear()
        w.results.take_back = die
        w.storage.delete = die
        await w.service.submit(lost)
        await w.storage.after_puts.reached.wait()
        (row,) = await w.results.to_delete()
        assert row.key == lost.key
        w.service._runner.results.to_delete = _nothing
    assert len(w.output_files()) == 2
    async with world(tmp_path) as w:
        await until(lambda: w.output_files() == [kept_file])


async def _nothing(key=None):
    return []


async def test_an_object_that_cannot_be_deleted_now_is_deleted_later(tmp_path):
    async with world(tmp_path) as w:
        request = w.request()
        await w.service.submit(request)
        await w.end(request.key)

        async def silent(_uri):
            raise StorageUnavailable("no answer")

        w.storage.delete = silent
        await w.service.acknowledge(request.key, request.attempt, paid=False)
        assert len(w.output_files()) == 1
    async with world(tmp_path) as w:
        await until(lambda: not w.output_files())


async def test_an_unacknowledged_result_goes_a_day_after_the_deadline_and_its_objects_stay(tmp_path):
    async with world(tmp_path, result_keep_s=0) as w:
        request = w.request()
        await w.service.submit(request)
        await w.end(request.key)
    async with world(tmp_path) as w:
        await until(lambda: w.service.find(request.key) is None)
        assert len(w.output_files()) == 1
        assert await w.results.all_results() == []


async def test_two_processes_do_not_share_a_state_folder(tmp_path):
    first = Results(tmp_path)
    with pytest.raises(ConfigurationError, match="another compute process"):
        Results(tmp_path)
    await first.close()
    await Results(tmp_path).close()


async def test_a_result_that_cannot_be_kept_counts_for_nothing(tmp_path):
    async with world(tmp_path) as w:

        async def full(run, result):
            raise StateUnavailable("the disk is full")

        w.results.finish = full
        request = w.request()
        entry, _ = await w.service.submit(request)
        await asyncio.wait({entry.work})
        assert entry.stage is Stage.STORING
        assert w.service.find(request.key) is None
        assert w.output_files() == []
        assert w.service.admission.state_failure == "the disk is full"
