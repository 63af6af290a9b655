import asyncio
import gc
import re
from pathlib import Path

import pytest

from compute.buffer_pool import BufferPool, Wanted
from compute.machine import MachineMemory
from compute.margin import Margin
from compute.memory import MEMORY_FLOOR_BYTES, HostMemory
from compute.safetensors_header import encode_header
from compute.shared_memory import SharedBuffer
from compute.specs import DType, TensorSpec
from compute.worker.wire import Plan
from shared.errors import OutOfMemory, StorageUnavailable
from shared.messages import Stage
from tests.unit.service_world import REQUESTER, SPEC, world

PAGE = 4096


class HandMachine:
    """Pages beside the floor; `free` is what the test says that the kernel says."""

    def __init__(self, pages: int) -> None:
        self.total = self.free = pages

    def __call__(self) -> MachineMemory:
        return MachineMemory(self.total * PAGE + MEMORY_FLOOR_BYTES, self.free * PAGE + MEMORY_FLOOR_BYTES)


class Twice(Margin):
    factor = 2.0


class Holder:
    """A task that holds memory until it is told to end."""

    def __init__(self, memory: HostMemory, buffer_pages: int, value_pages: int = 0) -> None:
        self.holds = asyncio.Event()
        self.end = asyncio.Event()
        self.work = asyncio.create_task(self._work(memory, buffer_pages * PAGE, value_pages * PAGE))

    async def _work(self, memory: HostMemory, size: int, values_bytes: int) -> None:
        async with memory.allotted([Wanted(size)], values_bytes) as self.allotment:
            self.holds.set()
            await self.end.wait()

    async def waits(self) -> bool:
        """Whether it still does after some looks at the machine."""
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(self.holds.wait(), 0.5)
        return not self.work.done()

    async def runs(self) -> None:
        await asyncio.wait_for(self.holds.wait(), 10)

    async def ends(self) -> None:
        self.end.set()
        await asyncio.wait_for(self.work, 10)


def fill(buffer: SharedBuffer) -> None:
    buffer.view[:] = bytes(buffer.size)


async def test_tasks_that_fit_together_hold_memory_together():
    memory = HostMemory(read=HandMachine(10))
    first, second = Holder(memory, 4, 1), Holder(memory, 4, 1)
    await first.runs()
    await second.runs()
    assert memory.promised_bytes == 10 * PAGE
    assert memory.room_bytes() == 0
    await first.ends()
    await second.ends()
    assert memory.promised_bytes == 0
    assert memory.room_bytes() == 10 * PAGE


async def test_a_task_that_fits_later_waits_for_what_others_give_back():
    memory = HostMemory(read=HandMachine(10))
    first = Holder(memory, 6)
    await first.runs()
    second = Holder(memory, 5)
    assert await second.waits()
    await first.ends()
    await second.runs()
    await second.ends()


async def test_memory_counts_once_whether_it_is_promised_written_or_in_use_as_values():
    machine = HandMachine(10)
    memory = HostMemory(read=machine)
    first = Holder(memory, 3, 3)
    await first.runs()
    assert memory.room_bytes() == 4 * PAGE
    fill(first.allotment.buffers[0])
    machine.free = 7  # the buffer's pages are taken now
    assert memory.room_bytes() == 4 * PAGE
    machine.free = 4  # and those of the values
    assert memory.room_bytes() == 4 * PAGE
    machine.free = 2  # and two by somebody else, who was promised nothing
    assert memory.room_bytes() == 2 * PAGE
    await first.ends()


async def test_a_large_task_is_not_passed_by_small_ones():
    memory = HostMemory(read=HandMachine(10))
    first = Holder(memory, 2)
    await first.runs()
    large, small = Holder(memory, 9), Holder(memory, 1)
    assert await small.waits()
    await first.ends()
    await large.runs()
    await small.runs()
    await large.ends()
    await small.ends()


async def test_one_that_stops_waiting_lets_the_next_one_go_on():
    memory = HostMemory(read=HandMachine(10))
    first = Holder(memory, 2)
    await first.runs()
    large, small = Holder(memory, 9), Holder(memory, 1)
    assert await small.waits()
    large.work.cancel()
    await small.runs()
    await small.ends()
    await first.ends()
    assert memory.promised_bytes == 0


async def test_more_than_the_machine_has_is_refused_at_once_with_both_numbers():
    memory = HostMemory(read=HandMachine(10))
    async with memory.allotted([Wanted(10 * PAGE)], 0):
        with pytest.raises(OutOfMemory, match=f"needs {10 * PAGE + 1} bytes .* has {10 * PAGE} for tasks"):
            async with memory.allotted([Wanted(9 * PAGE)], PAGE + 1):
                pass


async def test_a_limit_below_what_the_machine_has_is_what_tasks_share():
    memory = HostMemory(limit_bytes=6 * PAGE, read=HandMachine(10))
    assert memory.room_bytes() == 6 * PAGE
    first = Holder(memory, 2, 2)
    await first.runs()
    assert memory.room_bytes() == 2 * PAGE
    with pytest.raises(OutOfMemory, match=f"has {6 * PAGE} for tasks"):
        async with memory.allotted([Wanted(7 * PAGE)], 0):
            pass
    second = Holder(memory, 3)
    assert await second.waits()
    await first.ends()
    await second.runs()
    await second.ends()


async def test_what_runs_took_beyond_their_plans_is_promised_to_the_next_but_refuses_none():
    memory = HostMemory(read=HandMachine(10))
    memory.margin = Twice()
    async with memory.allotted([Wanted(2 * PAGE)], 2 * PAGE):
        assert memory.promised_bytes == 6 * PAGE
    async with memory.allotted([Wanted(2 * PAGE)], 7 * PAGE):
        assert memory.promised_bytes == 10 * PAGE


async def test_what_others_than_tasks_hold_is_not_waited_for_without_end(monkeypatch):
    monkeypatch.setattr("compute.memory.ALONE_PATIENCE_S", 0.3)
    machine = HandMachine(10)
    machine.free = 4
    memory = HostMemory(read=machine)
    with pytest.raises(OutOfMemory, match=f"needs {5 * PAGE} bytes .* has {4 * PAGE} free"):
        async with memory.allotted([Wanted(5 * PAGE)], 0):
            pass
    monkeypatch.setattr("compute.memory.ALONE_PATIENCE_S", 60.0)
    late = Holder(memory, 5)
    assert await late.waits()
    machine.free = 5
    await late.runs()
    await late.ends()


async def test_a_buffer_that_is_kept_is_taken_until_its_new_owner_closes_it():
    machine = HandMachine(10)
    memory = HostMemory(read=machine)
    async with memory.allotted([Wanted(4 * PAGE), Wanted(2 * PAGE)], 3 * PAGE) as allotment:
        kept, other = allotment.buffers
        fill(kept)
        machine.free = 6
        allotment.keep(kept)
    assert other.fd < 0
    assert (memory.promised_bytes, memory.room_bytes()) == (4 * PAGE, 6 * PAGE)
    kept.close()
    machine.free = 10
    assert (memory.promised_bytes, memory.room_bytes()) == (0, 10 * PAGE)


async def test_what_is_kept_without_need_is_asked_back_before_a_task_waits():
    machine = HandMachine(10)
    kept: list[SharedBuffer] = []
    asked: list[int] = []

    def reclaim(wanted: int) -> int:
        asked.append(wanted)
        given = 0
        while kept and given < wanted:
            given += kept[0].size
            machine.free += kept[0].size // PAGE
            kept.pop(0).close()
        return given

    memory = HostMemory(reclaim, read=machine)
    async with memory.allotted([Wanted(2 * PAGE)] * 3, 0) as allotment:
        for buffer in allotment.buffers:
            fill(buffer)
            allotment.keep(buffer)
        kept += allotment.buffers
    machine.free = 4
    async with memory.allotted([Wanted(7 * PAGE)], 0):
        assert asked == [3 * PAGE]
        assert len(kept) == 1


async def test_a_task_that_memory_has_no_room_for_fails_with_both_numbers(tmp_path):
    needed = 64 + 64 + PAGE  # input and output, each to a multiple of 64, and the values
    async with world(tmp_path, HostMemory(read=HandMachine(1))) as w:
        w.pool.plan_of = Plan((SPEC,), 7, 64 + PAGE)
        request = w.request()
        await w.service.submit(request)
        status = await w.end(request.key)
        assert status.reason == "OutOfMemory"
        assert f"needs {needed} bytes" in status.result.error_message
        assert f"has {PAGE} for tasks" in status.result.error_message
        assert w.pool.run_count == 0


async def test_values_on_a_device_of_its_own_take_no_memory_here(tmp_path):
    async with world(tmp_path, HostMemory(read=HandMachine(1))) as w:
        w.pool.on_host, w.pool.plan_of = False, Plan((SPEC,), 7, 1 << 40)
        request = w.request()
        await w.service.submit(request)
        assert (await w.end(request.key)).stage is Stage.DONE


async def test_a_task_that_waits_for_memory_is_cancelled_at_once_and_its_deadline_ends_it(tmp_path):
    async with world(tmp_path, HostMemory(read=HandMachine(10))) as w:
        w.pool.plan_of = Plan((SPEC,), 7, 6 * PAGE)
        w.pool.runs.close()
        first, cancelled, late = w.request(), w.request(), w.request(deadline=101, chain_time=100)
        await w.service.submit(first)
        await w.reach(first.key, Stage.RUNNING)
        await w.service.submit(cancelled)
        await w.reach(cancelled.key, Stage.FETCHING)
        await w.service.submit(late)
        assert await asyncio.wait_for(w.service.cancel(cancelled.key, 10, force=False), 10) is not None
        assert w.service.find(cancelled.key) is None
        assert (await w.end(late.key)).reason == "DeadlinePassed"
        assert w.pool.run_count == 1
        w.pool.runs.open.set()
        assert (await w.end(first.key)).stage is Stage.DONE


async def test_a_run_that_memory_did_not_suffice_for_fails_with_what_was_planned_and_gives_all_back(tmp_path):
    async with world(tmp_path) as w:

        async def no_memory(*_):
            raise OutOfMemory("no room for node sum")

        w.pool.run, w.pool.plan_of = no_memory, Plan((SPEC,), 7, 64 + PAGE)
        request = w.request()
        await w.service.submit(request)
        status = await w.end(request.key)
        assert status.reason == "OutOfMemory"
        planned = 64 + 64 + PAGE
        assert status.result.error_message == f"no room for node sum; {planned} bytes were planned for this task"
        assert w.memory.promised_bytes == 0


async def test_while_a_task_is_stored_it_holds_its_outputs_alone_and_others_are_told(tmp_path):
    async with world(tmp_path, HostMemory(read=HandMachine(10))) as w:
        w.pool.plan_of = Plan((SPEC,), 7, 6 * PAGE)
        w.storage.after_puts.close()
        first, second = w.request(), w.request()
        await w.service.submit(first)
        await w.reach(first.key, Stage.STORING)
        assert w.memory.promised_bytes == 64
        await w.service.submit(second)
        await w.reach(second.key, Stage.STORING)  # the two would not fit beside each other
        assert w.memory.promised_bytes == 2 * 64
        w.storage.after_puts.open.set()
        for request in (first, second):
            assert (await w.end(request.key)).stage is Stage.DONE
        assert w.memory.promised_bytes == 0


def resident_bytes() -> int:
    """Of all tensors' buffers that this process has mapped."""
    found = re.findall(
        r"^.*memfd:tensors.*$(?:\n\w+:.*$)*?\nRss: +(\d+) kB$", Path("/proc/self/smaps").read_text(), re.M
    )
    return sum(int(kib) << 10 for kib in found)


@pytest.mark.parametrize("step", ["read", "put"])
async def test_what_a_failed_task_held_is_free_before_the_collector_finds_the_views_in_its_error(tmp_path, step):
    held: list[int] = []
    async with world(tmp_path) as w:
        path = tmp_path / "tensors" / REQUESTER / "large.safetensors"
        spec = TensorSpec(DType.FLOAT32, (1 << 16,))
        path.write_bytes(encode_header([("0", spec)]) + bytes(spec.nbytes))

        async def no_storage(*_):
            for buffer in [one for one in w.memory._buffers if one.fd >= 0]:
                fill(buffer)
            held.append(resident_bytes())
            raise StorageUnavailable("it went away")

        setattr(w.storage, {"read": "read_into", "put": "put_new"}[step], no_storage)
        request = w.request(input_uris=[f"file://{path}"])
        gc.collect()
        gc.disable()
        try:
            before = resident_bytes()
            await w.service.submit(request)
            assert (await w.end(request.key)).reason == "StorageUnavailable"
            assert held[0] > before
            assert resident_bytes() == before
        finally:
            gc.enable()


async def test_a_task_waits_for_outputs_that_are_still_being_stored_however_long_that_takes(monkeypatch):
    monkeypatch.setattr("compute.memory.ALONE_PATIENCE_S", 0.1)
    memory = HostMemory(read=HandMachine(10))
    async with memory.allotted([Wanted(6 * PAGE, writable=True)], 0) as allotment:
        (outputs,) = allotment.buffers
        allotment.keep(outputs)
    second = Holder(memory, 5)
    assert await second.waits()
    memory.give_back(outputs)
    await second.runs()
    await second.ends()


async def test_a_task_that_stops_waiting_has_taken_no_buffer_of_its_requester_away():
    """The machine has room at one look, and none at the next."""
    machine = HandMachine(10)
    memory = HostMemory(read=machine, pool=BufferPool(1 << 30))
    kept = [Wanted(256 * PAGE, "ann")]
    machine.total = machine.free = 1000
    async with memory.allotted(kept, 0):
        pass
    assert memory.pool.idle_bytes == 256 * PAGE
    looks = iter([1000, 1000])

    def fewer_each_time() -> MachineMemory:
        machine.free = next(looks, 300)
        return HandMachine.__call__(machine)

    memory._read = fewer_each_time
    waiting = asyncio.create_task(_take(memory, [*kept, Wanted(500 * PAGE)]))
    await asyncio.sleep(0.5)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert memory.promised_bytes == 0


async def _take(memory: HostMemory, wanted: list[Wanted]) -> None:
    async with memory.allotted(wanted, 0):
        pass
