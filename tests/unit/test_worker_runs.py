"""Who waits for whom among tasks that run, with workers that end and answer when they are told."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from compute.shared_memory import SharedBuffer
from compute.worker.answers import Answer
from compute.worker.device_room import WORKER_BYTES, DeviceRoom
from compute.worker.process import WorkerGone
from compute.worker.runs import Run, Runs
from compute.worker.wire import Operation
from shared.errors import ComputationFailed, OutOfMemory

PATIENCE_S = 60


class Worker:
    """Its requests wait until they are told what comes of them."""

    alive = True

    def __init__(self) -> None:
        self.requests: list[asyncio.Future[Answer]] = []
        self.keep: list[Sequence[int | None]] = []
        self.dropped: list[int] = []
        self.stopped = 0
        self.reservations = 0

    @contextmanager
    def reserved(self) -> Iterator[None]:
        self.reservations += 1
        try:
            yield
        finally:
            self.reservations -= 1

    async def request(
        self, _operation: Operation, _given: object, _filled: object, keep: Sequence[int | None]
    ) -> Answer:
        self.keep.append(keep)
        self.requests.append(asyncio.get_running_loop().create_future())
        try:
            return await self.requests[-1]
        except asyncio.CancelledError:
            self.stopped += 1
            raise

    def drop(self, numbers: Sequence[int]) -> asyncio.Future[Answer]:
        self.dropped += numbers
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        answer.set_result(Answer(0))
        return answer

    async def asked(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.requests) < count:  # noqa: ASYNC110
                await asyncio.sleep(0)

    def lose(self) -> None:
        """Whatever runs in it, as when it is killed for another's sake."""
        for request in self.requests:
            if not request.done():
                request.set_exception(WorkerGone("the worker process ended by SIGKILL", culprit=False))


class Tenancy:
    def __init__(self) -> None:
        self.workers: defaultdict[str, Worker] = defaultdict(Worker)

    async def worker_for(self, tenant: str) -> Worker:
        return self.workers[tenant]


class Health:
    """Device and workers are well, as soon as it may say so."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked = asyncio.Event()

    async def check_device(self) -> None:
        self.asked.set()
        await self.may_answer.wait()

    async def check_worker(self, _worker: Worker) -> None: ...


def runs_of(max_running: int, limit_s: float | None = None, health: Health | None = None) -> tuple[Runs, Tenancy]:
    tenancy, room = Tenancy(), DeviceRoom(no_device, max_running)
    return Runs(tenancy, health or Health(), room, max_running, limit_s), tenancy  # type: ignore[arg-type]


async def no_device() -> None:
    return None


async def run(runs: Runs, tenant: str) -> None:
    await runs.run(Run(tenant, SharedBuffer("job", 0), [], SharedBuffer("outputs", 0), 0, ()), lambda: None)


async def test_what_one_tenant_does_alone_after_a_crash_stops_nobody_else() -> None:
    runs, tenancy = runs_of(2)
    crashing, other = tenancy.workers["crashing"], tenancy.workers["other"]
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(run(runs, "crashing"))
        await crashing.asked(2)
        crashing.lose()
        await crashing.asked(3)
        group.create_task(run(runs, "other"))
        await other.asked(1)  # beside the one that is done alone; the second to be done alone holds no place
        other.requests[0].set_result(Answer(0))
        crashing.requests[2].set_result(Answer(0))
        await crashing.asked(4)
        crashing.requests[3].set_result(Answer(0))


async def test_a_tenant_that_lost_a_worker_runs_its_tasks_one_by_one_until_those_are_over() -> None:
    runs, tenancy = runs_of(4)
    worker = tenancy.workers["one"]
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(run(runs, "one"))
        await worker.asked(2)
        worker.lose()
        for running in (3, 4):
            await worker.asked(running)
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(worker.requests) == running
            worker.requests[-1].set_result(Answer(0))


async def test_a_task_that_computes_for_longer_than_its_limit_is_stopped_and_fails() -> None:
    runs, tenancy = runs_of(1, limit_s=0.01)
    with pytest.raises(ComputationFailed, match=r"longer than 0.01 s"):
        await run(runs, "one")
    assert tenancy.workers["one"].stopped == 1


async def test_after_a_failure_the_next_task_waits_until_the_device_was_looked_at() -> None:
    health = Health()
    health.may_answer.clear()
    runs, tenancy = runs_of(1, health=health)
    failing, next_one = tenancy.workers["failing"], tenancy.workers["next"]
    failed = asyncio.create_task(run(runs, "failing"))
    await failing.asked(1)
    waiting = asyncio.create_task(run(runs, "next"))
    failing.requests[0].set_result(Answer(0, ComputationFailed("sick")))
    async with asyncio.timeout(PATIENCE_S):
        await health.asked.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not next_one.requests
    health.may_answer.set()
    await next_one.asked(1)
    with pytest.raises(ComputationFailed, match="sick"):
        await failed
    next_one.requests[0].set_result(Answer(0))
    await waiting


MIB = 1 << 20


class OnDevice:
    """Tasks with 20 MiB of weights and 1 MiB of their own, on a device with room for 100 MiB."""

    def __init__(self) -> None:
        self.tenancy = Tenancy()
        self.room = DeviceRoom(no_device, 2)
        self.room.measured(100 * MIB + 2 * WORKER_BYTES)
        self.runs = Runs(self.tenancy, Health(), self.room, 2, None)  # type: ignore[arg-type]
        self.weights = SharedBuffer("weights", 20 * MIB)
        self.started = 0

    def begin(self, tenant: str, device_bytes: int = 21 * MIB) -> asyncio.Task[None]:
        inputs = [SharedBuffer("input", 4), self.weights]
        run = Run(tenant, SharedBuffer("job", 0), inputs, SharedBuffer("out", 0), device_bytes, {self.weights})
        return asyncio.create_task(self.runs.run(run, self._start))

    def _start(self) -> None:
        self.started += 1


async def test_a_worker_is_asked_to_keep_the_weights_and_nothing_else() -> None:
    device = OnDevice()
    worker = device.tenancy.workers["one"]
    for count in (1, 2):
        running = device.begin("one")
        await worker.asked(count)
        worker.requests[-1].set_result(Answer(0))
        await running
    assert worker.keep == [[None, 0], [None, 0]]


async def test_a_run_without_memory_has_idle_weights_dropped_and_what_it_used_as_well() -> None:
    device = OnDevice()
    worker = device.tenancy.workers["one"]
    running = device.begin("one")
    await worker.asked(1)
    worker.requests[0].set_result(Answer(0, OutOfMemory("none left")))
    with pytest.raises(OutOfMemory):
        await running
    assert worker.dropped == [0]


async def test_a_run_that_is_cancelled_leaves_its_weights_counted_as_long_as_the_worker_lives() -> None:
    device = OnDevice()
    worker = device.tenancy.workers["one"]
    running = device.begin("one")
    await worker.asked(1)
    running.cancel()
    await asyncio.wait({running})
    assert device.room.weights.startswith("1 kept, 22 MiB")
    worker.alive = False
    assert device.room.weights.startswith("0 kept")


async def test_a_worker_that_ends_while_its_task_waits_for_room_is_not_asked_and_another_is() -> None:
    device = OnDevice()
    ended, other = device.tenancy.workers["one"], device.tenancy.workers["other"]
    full = device.begin("other", 80 * MIB)
    await other.asked(1)
    waiting = device.begin("one", 60 * MIB)
    for _ in range(20):
        await asyncio.sleep(0)
    assert ended.reservations == 1, "or it would be ended for another tenant's sake"
    ended.alive = False
    next_one = device.tenancy.workers["one"] = Worker()
    other.requests[0].set_result(Answer(0))
    await full
    await next_one.asked(1)
    next_one.requests[0].set_result(Answer(0))
    await waiting
    assert not ended.requests
    assert [worker.reservations for worker in (ended, other, next_one)] == [0, 0, 0]
    assert device.started == 2
