import asyncio
import struct

import pytest

from compute.results import Results
from compute.safetensors_header import encode_header
from shared.errors import ConfigurationError, StateUnavailable, StorageUnavailable
from shared.messages import Stage
from tests.unit.service_world import OTHER_REQUESTER, SPEC, until, world


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


async def _nothing(*_of):
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


async def test_a_result_is_kept_for_a_day_after_the_deadline_not_after_its_end(tmp_path):
    async with world(tmp_path) as w:
        requests = [w.request(), w.request(deadline=1_500, chain_time=1_000, landing_margin=15)]
        for request in requests:
            await w.service.submit(request)
            await w.end(request.key)
        kept = {stored.key: stored for stored in await w.results.all_results()}
        lasts_s = [kept[request.key].expires_at - kept[request.key].status.stages[-1].at for request in requests]
        assert lasts_s == pytest.approx([86_400, 86_400 + 500], abs=5)


async def test_unpaid_deletes_what_earlier_attempts_left_also_where_the_last_one_is_not_known_any_more(tmp_path):
    async with world(tmp_path) as w:
        request = w.request()
        await w.service.submit(request)
        await w.end(request.key)
        w.pool.runs.close()
        other = request.model_copy(update={"attempt": 11, "compute_units": 9})
        await w.service.submit(other)
        await w.reach(other.key, Stage.RUNNING)
        await w.service.acknowledge(request.key, 10, paid=False)
        assert len(w.output_files()) == 1, "they are the running attempt's now"
        await w.service.cancel(other.key, 11, force=False)
        assert len(w.output_files()) == 1
    async with world(tmp_path) as w:
        assert await w.service.acknowledge(request.key, 11, paid=False) is None
        assert w.output_files() == []


async def test_paid_forgets_what_the_result_names_and_nothing_that_is_still_to_be_deleted(tmp_path):
    async with world(tmp_path) as w:
        w.storage.after_puts.close()
        request = w.request()
        await w.service.submit(request)
        await w.storage.after_puts.reached.wait()
        really_delete = w.storage.delete

        async def silent(_uri):
            raise StorageUnavailable("no answer")

        w.storage.delete = silent
        await w.service.cancel(request.key, 10, force=True)
        (left,) = w.output_files()
        w.storage.after_puts.open.set()
        w.storage.delete = really_delete
        (w.folder / "tensors" / request.requester / "y.safetensors").write_bytes(_another_tensor())
        again = request.model_copy(update={"attempt": 11, "input_uris": [w.uri.replace("x.", "y.")]})
        await w.service.submit(again)
        await w.end(again.key)
        assert len(w.output_files()) == 2
        await w.service.acknowledge(again.key, 11, paid=True)
    async with world(tmp_path) as w:
        await until(lambda: left not in w.output_files())
        assert len(w.output_files()) == 1


def _another_tensor() -> bytes:
    return encode_header([("0", SPEC)]) + struct.pack("<2f", 3, 4)


async def test_nothing_of_a_pair_is_stored_while_it_is_being_deleted(tmp_path):
    async with world(tmp_path) as w:
        request = w.request()
        await w.service.submit(request)
        await w.end(request.key)
        really_delete, reached, go_on = w.storage.delete, asyncio.Event(), asyncio.Event()

        async def slowly(uri):
            reached.set()
            await go_on.wait()
            await really_delete(uri)

        w.storage.delete = slowly
        w.storage.puts.reached.clear()
        deleting = asyncio.ensure_future(w.service.acknowledge(request.key, 10, paid=False))
        await reached.wait()
        posting = asyncio.ensure_future(w.service.submit(request))
        await asyncio.sleep(0.1)
        assert not posting.done()
        assert not w.storage.puts.reached.is_set()
        go_on.set()
        await deleting
        await posting
        assert (await w.end(request.key)).stage is Stage.DONE
        assert len(w.output_files()) == 1


async def test_a_renumbering_while_the_result_is_being_written_down_is_not_lost(tmp_path):
    async with world(tmp_path) as w:
        really_finish, reached, go_on = w.results.finish, asyncio.Event(), asyncio.Event()

        async def slowly(run, result):
            reached.set()
            await go_on.wait()
            await really_finish(run, result)

        w.results.finish = slowly
        request = w.request()
        await w.service.submit(request)
        await reached.wait()
        entry, is_new = await w.service.submit(request.model_copy(update={"attempt": 11}))
        assert (entry.attempt, is_new) == (11, False)
        assert entry.stage is Stage.STORING, "what is not on disk is not told"
        go_on.set()
        assert (await w.end(request.key)).attempt == 11
        (stored,) = await w.results.all_results()
        assert stored.status.attempt == 11


@pytest.mark.parametrize("known", [True, False])
async def test_what_a_pair_gave_one_requester_is_not_deleted_for_the_next_one(tmp_path, known):
    async with world(tmp_path) as w:
        first = w.request()
        await w.service.submit(first)
        await w.end(first.key)
        (paid,) = w.output_files()
        if not known:  # the next attempt was stopped, and its result went with it
            w.pool.runs.close()
            again = first.model_copy(update={"attempt": 11, "compute_units": 9})
            await w.service.submit(again)
            await w.service.cancel(again.key, 11, force=True)
            w.pool.runs.open.set()
        theirs = w.tensor_of(OTHER_REQUESTER)
        second = first.model_copy(
            update={"requester": OTHER_REQUESTER, "attempt": 12, "input_uris": [theirs], "compute_units": None}
        )
        await w.service.submit(second)
        await w.end(second.key)
        assert len(w.output_files()) == 2
        await w.service.acknowledge(second.key, 12, paid=False)
        assert w.output_files() == [paid]
        assert await w.results.to_delete() == []


@pytest.mark.parametrize("word", ["paid", "unpaid"])
@pytest.mark.parametrize("ended", [True, False])
async def test_each_requester_of_a_pair_is_settled_for_what_was_made_for_it_alone(tmp_path, word, ended):
    async with world(tmp_path) as w:
        first = w.request()
        await w.service.submit(first)
        await w.end(first.key)
        (earlier,) = w.output_files()
        if not ended:
            w.storage.after_puts.close()
        theirs = w.tensor_of(OTHER_REQUESTER)
        second = first.model_copy(update={"requester": OTHER_REQUESTER, "attempt": 11, "input_uris": [theirs]})
        await w.service.submit(second)
        if ended:
            await w.end(second.key)
        else:
            await w.storage.after_puts.reached.wait()
        await w.service.acknowledge(first.key, 10, paid=word == "paid", requester=first.requester)
        assert (earlier in w.output_files()) == (word == "paid")
        assert w.service.find(second.key).attempt == 11, "the other requester's task goes on"
        w.storage.after_puts.open.set()
        await w.end(second.key)
        assert len(w.output_files()) == 1 + (word == "paid")
        await w.service.acknowledge(second.key, 11, paid=False, requester=OTHER_REQUESTER)
        assert w.output_files() == ([earlier] if word == "paid" else [])
        assert await w.results.to_delete() == []


async def test_what_one_requesters_run_left_is_deleted_though_another_has_the_pair_now(tmp_path):
    async with world(tmp_path) as w:
        w.storage.after_puts.close()
        first = w.request()
        await w.service.submit(first)
        await w.storage.after_puts.reached.wait()
        w.storage.after_puts.open.set()
        really_delete = w.storage.delete

        async def silent(_uri):
            raise StorageUnavailable("no answer")

        w.storage.delete = silent
        await w.service.cancel(first.key, 10, force=True)
        w.storage.delete = really_delete
        (left,) = w.output_files()
        theirs = w.tensor_of(OTHER_REQUESTER)
        second = first.model_copy(update={"requester": OTHER_REQUESTER, "attempt": 11, "input_uris": [theirs]})
        await w.service.submit(second)
        await w.end(second.key)
    async with world(tmp_path) as w:
        await until(lambda: left not in w.output_files())
        assert len(w.output_files()) == 1
