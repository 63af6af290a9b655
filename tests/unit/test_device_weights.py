"""What stays on a device between tasks, and who makes room for whom, with workers that answer when they are told."""

import asyncio
from collections.abc import Sequence

import pytest

from compute.shared_memory import SharedBuffer
from compute.worker import device_room, device_weights
from compute.worker.answers import Answer
from compute.worker.device_room import WORKER_BYTES, DeviceRoom
from compute.worker.device_weights import in_blocks
from compute.worker.process import WorkerGone

MIB = 1 << 20
ROOM = 100 * MIB
PATIENCE_S = 60


class Worker:
    """Drops what it is told once it may; `dropped` are the numbers in the order in which it heard of them."""

    def __init__(self, *, answers: bool = True) -> None:
        self.alive = True
        self.answers = answers
        self.dropped: list[int] = []
        self.packets: list[Sequence[int]] = []
        self._asked: list[asyncio.Future[Answer]] = []

    def drop(self, numbers: Sequence[int]) -> asyncio.Future[Answer]:
        self.dropped += numbers
        self.packets.append(numbers)
        self._asked.append(asyncio.get_running_loop().create_future())
        if self.answers:
            self.answer()
        return self._asked[-1]

    def answer(self) -> None:
        for asked in self._asked:
            if not asked.done():
                asked.set_result(Answer(0))

    def end(self) -> None:
        self.alive = False
        for asked in self._asked:
            if not asked.done():
                asked.set_exception(WorkerGone("it ended", culprit=False))


class Device:
    """A room of 100 MiB; the device shows as free what it is told to."""

    def __init__(self, weights_bytes: int | None = 2 * ROOM) -> None:
        """The budget is so large by itself that only the room counts."""
        self.free: int | None = ROOM
        self.looked = asyncio.Event()
        self.room = DeviceRoom(self._look, 2, weights_bytes)
        self.room.measured(ROOM + 2 * WORKER_BYTES)

    async def _look(self) -> int | None:
        self.looked.set()
        return self.free

    @property
    def taken(self) -> int:
        return self.room._promised + self.room._weights.held_bytes

    async def run(self, needed: int, worker: Worker, *weights: SharedBuffer) -> list[int]:
        """One task that is over at once: the numbers of those weights that stay."""
        task = Task(self, needed, worker, *weights)
        await task.began_in_time()
        return await task.over()


class Task:
    """Holds its room until it is told to end."""

    def __init__(self, device: Device, needed: int, worker: Worker, *weights: SharedBuffer) -> None:
        self.began = asyncio.Event()
        self.numbers: list[int] = []
        self._end = asyncio.Event()
        self._task = asyncio.create_task(self._hold(device, needed, worker, weights))

    async def _hold(self, device: Device, needed: int, worker: Worker, weights: Sequence[SharedBuffer]) -> None:
        keys = [(worker, buffer) for buffer in weights]
        async with device.room.promised(needed, keys) as numbers:  # type: ignore[arg-type]
            self.numbers = [numbers[buffer] for buffer in weights if buffer in numbers]
            self.began.set()
            await self._end.wait()

    async def began_in_time(self) -> "Task":
        async with asyncio.timeout(PATIENCE_S):
            await self.began.wait()
        return self

    async def over(self) -> list[int]:
        self._end.set()
        await self._task
        return self.numbers

    async def cancelled(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})


async def begins_once_all_is_free(device: Device, task: Task) -> None:
    """It was begun while the device did not show all of its memory as free."""
    async with asyncio.timeout(PATIENCE_S):
        await device.looked.wait()
    await others_had_their_turn()
    assert not task.began.is_set()
    device.free = ROOM
    await task.began_in_time()


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_room, "LOOK_AGAIN_S", 0)


@pytest.fixture
async def device() -> Device:
    return Device()


def weights(mib: int) -> SharedBuffer:
    return SharedBuffer("weights", mib * MIB)


async def others_had_their_turn() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_weights_that_stay_count_once_beside_what_their_tasks_take(device: Device) -> None:
    worker, model = Worker(), weights(40)
    first = await Task(device, 60 * MIB, worker, model).began_in_time()
    assert device.taken == in_blocks(40 * MIB) + in_blocks(20 * MIB)
    second = await Task(device, 60 * MIB, worker, model).began_in_time()  # both alone would take 120
    assert device.taken == in_blocks(40 * MIB) + 2 * in_blocks(20 * MIB)
    assert await first.over() == await second.over() == [0]
    assert device.taken == in_blocks(40 * MIB)
    assert device.room.weights == f"1 kept, 44 MiB of {2 * ROOM >> 20} MiB"


async def test_each_worker_has_copies_and_numbers_of_its_own(device: Device) -> None:
    one, other, model = Worker(), Worker(), weights(10)
    assert await device.run(20 * MIB, one, model, model) == [0, 0]
    assert await device.run(20 * MIB, other, model) == [1]
    assert await device.run(20 * MIB, one, model) == [0]
    assert device.taken == 2 * in_blocks(10 * MIB)


async def test_a_task_that_needs_the_room_begins_once_idle_copies_are_gone(device: Device) -> None:
    worker = Worker(answers=False)
    await device.run(50 * MIB, worker, weights(40))
    large = Task(device, 80 * MIB, Worker())
    await others_had_their_turn()
    assert worker.dropped == [0]
    assert not large.began.is_set()
    assert device.taken == in_blocks(40 * MIB)  # until it says that it gave it back
    worker.answer()
    await large.began_in_time()
    assert device.taken == in_blocks(80 * MIB)
    await large.over()


async def test_no_more_goes_than_must_and_the_least_recently_used_first(device: Device) -> None:
    worker, models = Worker(), [weights(20) for _ in range(4)]
    for model in (*models, models[0]):
        await device.run(20 * MIB, worker, model)
    await device.run(50 * MIB, Worker())
    assert worker.dropped == [1, 2]


async def test_what_the_host_no_longer_has_goes_before_everything_else(device: Device) -> None:
    worker, models = Worker(), [weights(20) for _ in range(3)]
    for model in models:
        await device.run(20 * MIB, worker, model)
    models[2].close()
    await device.run(40 * MIB, Worker())
    assert worker.dropped == [2]


async def test_a_task_s_own_weights_make_room_for_nobody_while_it_runs(device: Device) -> None:
    worker, model = Worker(), weights(40)
    running = await Task(device, 50 * MIB, worker, model).began_in_time()
    waiting = Task(device, 60 * MIB, Worker())
    await others_had_their_turn()
    assert worker.dropped == []
    assert not waiting.began.is_set()
    await running.over()
    await waiting.began_in_time()
    assert worker.dropped == [0]
    await waiting.over()


async def test_two_tasks_whose_weights_lie_there_do_not_wait_for_each_other(device: Device) -> None:
    one, other = (Worker(), weights(40)), (Worker(), weights(40))
    for worker, model in (one, other):
        await device.run(40 * MIB, worker, model)
    first, second = (Task(device, 85 * MIB, *of) for of in (one, other))
    await first.began_in_time()
    await first.over()
    await second.began_in_time()
    await second.over()


async def test_a_task_s_weights_that_lie_there_stay_while_it_makes_room_for_the_rest(device: Device) -> None:
    worker, model, idle = Worker(), weights(40), weights(40)
    await device.run(40 * MIB, worker, model)
    await device.run(40 * MIB, worker, idle)
    assert await device.run(80 * MIB, worker, model) == [0]
    assert worker.dropped == [1]


async def test_a_waiting_task_that_is_cancelled_leaves_what_was_dropped_on_its_way(device: Device) -> None:
    worker = Worker(answers=False)
    await device.run(50 * MIB, worker, weights(40))
    waiting = Task(device, 80 * MIB, Worker())
    await others_had_their_turn()
    await waiting.cancelled()
    assert device.taken == in_blocks(40 * MIB)
    worker.answer()
    await others_had_their_turn()
    assert device.taken == 0


async def test_what_no_budget_is_left_for_is_part_of_what_the_task_is_promised() -> None:
    device, worker, model = Device(50 * MIB), Worker(), weights(30)
    running = await Task(device, 50 * MIB, worker, model).began_in_time()
    assert device.taken == in_blocks(50 * MIB)
    assert await running.over() == []
    assert device.taken == 0


async def test_one_worker_has_half_of_the_budget_and_makes_room_of_its_own_first() -> None:
    device, one, other = Device(100 * MIB), Worker(), Worker()
    await device.run(20 * MIB, other, weights(20))
    await device.run(20 * MIB, one, weights(20))
    await device.run(20 * MIB, one, weights(20))
    await device.run(20 * MIB, one, weights(20))
    assert (one.dropped, other.dropped) == ([1], [])


async def test_what_is_in_use_stays_where_the_budget_is_full_and_new_weights_do_not() -> None:
    device, worker = Device(100 * MIB), Worker()
    running = await Task(device, 40 * MIB, worker, weights(40)).began_in_time()
    assert await device.run(20 * MIB, worker, weights(20)) == []
    assert worker.dropped == []
    await running.over()
    assert await device.run(20 * MIB, worker, weights(20)) == [1]
    assert worker.dropped == [0]


@pytest.mark.parametrize(("budget", "numbers"), [(0, []), (None, [0])])
async def test_a_budget_of_nothing_keeps_nothing_and_none_is_half_of_the_room(budget, numbers) -> None:
    device, worker = Device(budget), Worker()
    assert await device.run(30 * MIB, worker, weights(20)) == numbers
    assert await device.run(30 * MIB, worker, weights(24)) == []  # with its blocks more than a quarter of the room
    assert device.taken == in_blocks(20 * MIB) * len(numbers)


async def test_what_the_host_no_longer_has_goes_with_the_next_task(device: Device) -> None:
    worker, gone = Worker(), weights(1)
    await device.run(MIB, worker, gone)
    await device.run(MIB, worker, weights(1))
    gone.close()
    assert await device.run(MIB, Worker()) == []
    assert worker.dropped == [0]


async def test_many_are_dropped_in_packets_that_a_worker_can_take(monkeypatch, device: Device) -> None:
    monkeypatch.setattr(device_weights, "DROPPED_AT_ONCE", 2)
    worker = Worker()
    for _ in range(5):
        await device.run(MIB, worker, weights(1))
    device.room.drop_idle(worker)  # type: ignore[arg-type]
    assert worker.packets == [[0, 1], [2, 3], [4]]
    await others_had_their_turn()
    assert device.taken == 0


async def test_after_its_worker_s_end_a_copy_is_forgotten_and_its_memory_waited_for(device: Device) -> None:
    worker, model = Worker(), weights(40)
    await device.run(40 * MIB, worker, model)
    worker.end()
    assert device.room.weights.startswith("0 kept, 0 MiB")
    device.free = ROOM - in_blocks(40 * MIB)
    next_one = Task(device, 10 * MIB, Worker(), model)
    await begins_once_all_is_free(device, next_one)
    assert await next_one.over() == [1]


async def test_a_worker_that_ends_instead_of_dropping_has_the_device_looked_at(device: Device) -> None:
    worker = Worker(answers=False)
    await device.run(40 * MIB, worker, weights(40))
    device.free = ROOM - in_blocks(40 * MIB)
    waiting = Task(device, 80 * MIB, Worker())
    await others_had_their_turn()
    worker.end()
    await begins_once_all_is_free(device, waiting)
    await waiting.over()


async def test_what_stays_is_not_waited_for_after_another_worker_s_end(device: Device) -> None:
    await device.run(40 * MIB, Worker(), weights(40))
    device.free = ROOM - in_blocks(40 * MIB)
    device.room.doubt()
    await device.run(10 * MIB, Worker())
    assert device.looked.is_set()


async def test_a_worker_that_starts_beside_copies_says_nothing_of_what_there_is(device: Device) -> None:
    worker = Worker()
    await device.run(40 * MIB, worker, weights(40))
    device.room.measured(2 * ROOM + 2 * WORKER_BYTES)
    assert device.room._bytes == ROOM
    device.room.drop_idle(worker)  # type: ignore[arg-type]
    await others_had_their_turn()
    device.room.measured(2 * ROOM + 2 * WORKER_BYTES)
    assert device.room._bytes == 2 * ROOM


async def test_a_worker_without_memory_gives_back_what_is_idle_in_it_and_no_other_does(device: Device) -> None:
    worker, other, used = Worker(), Worker(), weights(10)
    running = await Task(device, 10 * MIB, worker, used).began_in_time()
    await device.run(10 * MIB, worker, weights(10))
    await device.run(10 * MIB, other, weights(10))
    device.room.drop_idle(worker)  # type: ignore[arg-type]
    assert (worker.dropped, other.dropped) == ([1], [])
    assert await running.over() == [0]


async def test_on_the_host_nothing_stays() -> None:
    device = Device()
    device.room.measured(None)
    assert await device.run(1 << 40, Worker(), weights(10)) == []
    assert device.taken == 0
    assert device.room.weights == ""
