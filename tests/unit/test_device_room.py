"""How tasks share a device's memory, and what holds them up after a worker of it has ended."""

import asyncio

import pytest

from compute.worker import device_room
from compute.worker.device_room import WORKER_BYTES, DeviceRoom
from compute.worker.device_weights import BEYOND_THE_PLAN
from shared.errors import OutOfMemory

GIB = 1 << 30
ROOM = 10 * GIB
PATIENCE_S = 60


class Device:
    """Shows as free what it is told to; counts how often it was looked at."""

    def __init__(self, free: int | None = None) -> None:
        self.free = free
        self.looked = 0
        self.seen = asyncio.Event()

    async def look(self) -> int | None:
        self.looked += 1
        self.seen.set()
        return self.free


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_room, "LOOK_AGAIN_S", 0)


def room_of(device: Device, workers: int = 2) -> DeviceRoom:
    room = DeviceRoom(device.look, workers)
    room.measured(ROOM + workers * WORKER_BYTES)
    return room


class Task:
    """Holds its room until it is told to end."""

    def __init__(self, room: DeviceRoom, needed: int) -> None:
        self.began = asyncio.Event()
        self.end = asyncio.Event()
        self._task = asyncio.create_task(self._hold(room, needed))

    async def _hold(self, room: DeviceRoom, needed: int) -> None:
        async with room.promised(needed):
            self.began.set()
            await self.end.wait()

    async def began_in_time(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.began.wait()

    async def over(self) -> None:
        self.end.set()
        await self._task


async def others_had_their_turn() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_what_fits_together_runs_together_and_the_rest_waits_in_its_order() -> None:
    room = room_of(Device())
    first, second = Task(room, 4 * GIB), Task(room, 4 * GIB)
    await first.began_in_time()
    await second.began_in_time()
    large, small = Task(room, 6 * GIB), Task(room, GIB)
    await others_had_their_turn()
    assert not large.began.is_set()
    assert not small.began.is_set()  # would fit, and would keep the large one waiting
    await first.over()
    await others_had_their_turn()
    assert not large.began.is_set()
    await second.over()
    await large.began_in_time()
    await small.began_in_time()
    await large.over()
    await small.over()


async def test_what_never_fits_is_refused_with_both_numbers() -> None:
    room = room_of(Device())
    room.check(ROOM)
    with pytest.raises(OutOfMemory, match=rf"needs {ROOM + 1} bytes on the device, which has {ROOM}"):
        room.check(ROOM + 1)


async def test_what_fits_alone_but_for_what_lies_beyond_the_plan_runs_alone() -> None:
    room = room_of(Device())
    assert ROOM * BEYOND_THE_PLAN > ROOM
    small = Task(room, GIB)
    await small.began_in_time()
    whole = Task(room, ROOM)
    await others_had_their_turn()
    assert not whole.began.is_set()
    await small.over()
    await whole.began_in_time()
    await whole.over()


async def test_after_a_worker_ended_nothing_begins_until_the_device_shows_its_memory_as_free() -> None:
    device = Device(ROOM - 4 * GIB)
    room = room_of(device)
    room.doubt()
    waiting = Task(room, GIB)
    async with asyncio.timeout(PATIENCE_S):
        await device.seen.wait()
    await others_had_their_turn()
    assert not waiting.began.is_set()
    device.free = ROOM
    await waiting.began_in_time()
    await waiting.over()


async def test_what_others_were_promised_is_not_waited_for() -> None:
    device = Device(ROOM)
    room = room_of(device)
    running = Task(room, 4 * GIB)
    await running.began_in_time()
    device.free = ROOM - 4 * GIB
    room.doubt()
    beside = Task(room, GIB)
    await beside.began_in_time()
    await running.over()
    await beside.over()


async def test_memory_that_never_comes_back_holds_nobody_up_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(device_room, "PATIENCE_S", 0.01)
    room = room_of(Device(None))
    room.doubt()
    task = Task(room, GIB)
    await task.began_in_time()
    assert "does not show the memory of an ended worker" in caplog.text
    await task.over()


async def test_a_worker_that_ends_while_the_device_is_looked_at_has_it_looked_at_again() -> None:
    device = Device(ROOM)
    room = room_of(device)
    look = device.look

    async def looked_at_once() -> int | None:
        if device.looked == 0:
            room.doubt()
        return await look()

    room._look = looked_at_once
    room.doubt()
    task = Task(room, GIB)
    await task.began_in_time()
    assert device.looked == 2
    await task.over()


async def test_on_the_host_nothing_is_counted_and_no_device_looked_at() -> None:
    device = Device()
    room = DeviceRoom(device.look, 2)
    room.measured(None)
    room.doubt()
    task = Task(room, 1 << 60)
    await task.began_in_time()
    assert device.looked == 0
    await task.over()


async def test_a_worker_that_starts_while_tasks_run_says_nothing_of_what_there_is() -> None:
    room = room_of(Device())
    running = Task(room, GIB)
    await running.began_in_time()
    room.measured(100 * ROOM)
    with pytest.raises(OutOfMemory):
        room.check(ROOM + 1)
    await running.over()
    room.measured(100 * ROOM)
    room.check(ROOM + 1)
