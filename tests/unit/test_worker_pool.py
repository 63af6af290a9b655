"""Who waits for whom in the pool, with workers that end and answer when they are told."""

import asyncio
from collections import defaultdict

import pytest

from compute.shared_memory import SharedBuffer
from compute.worker.answers import Answer
from compute.worker.options import WorkerOptions
from compute.worker.pool import WorkerPool
from compute.worker.process import WorkerGone
from compute.worker.wire import Job, Limits
from shared.errors import ComputationFailed

PATIENCE_S = 60


class Worker:
    """Its requests wait until they are told what comes of them."""

    alive = True

    def __init__(self) -> None:
        self.requests: list[asyncio.Future[Answer]] = []
        self.stopped = 0

    async def request(self, *_: object) -> Answer:
        self.requests.append(asyncio.get_running_loop().create_future())
        try:
            return await self.requests[-1]
        except asyncio.CancelledError:
            self.stopped += 1
            raise

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


def pool_of(max_running: int, run_limit_s: float | None = None) -> tuple[WorkerPool, Tenancy]:
    options = WorkerOptions("cpu", 1, max_running, Limits(1, 1, 1), 1)
    pool, tenancy = WorkerPool(options, plan_limit_s=1, run_limit_s=run_limit_s), Tenancy()
    pool._tenancy, pool._health = tenancy, Health()  # type: ignore[assignment]
    return pool, tenancy


async def run(pool: WorkerPool, tenant: str) -> None:
    await pool.run(Job(b"", ()), [], SharedBuffer("outputs", 0), lambda: None, tenant)


async def test_what_one_tenant_does_alone_after_a_crash_stops_nobody_else() -> None:
    pool, tenancy = pool_of(2)
    crashing, other = tenancy.workers["crashing"], tenancy.workers["other"]
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(run(pool, "crashing"))
        await crashing.asked(2)
        crashing.lose()
        await crashing.asked(3)
        group.create_task(run(pool, "other"))
        await other.asked(1)  # beside the one that is done alone; the second to be done alone holds no place
        other.requests[0].set_result(Answer(0))
        crashing.requests[2].set_result(Answer(0))
        await crashing.asked(4)
        crashing.requests[3].set_result(Answer(0))


async def test_a_tenant_that_lost_a_worker_runs_its_tasks_one_by_one_until_those_are_over() -> None:
    pool, tenancy = pool_of(4)
    worker = tenancy.workers["one"]
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(run(pool, "one"))
        await worker.asked(2)
        worker.lose()
        for running in (3, 4):
            await worker.asked(running)
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(worker.requests) == running
            worker.requests[-1].set_result(Answer(0))


async def test_a_task_that_computes_for_longer_than_its_limit_is_stopped_and_fails() -> None:
    pool, tenancy = pool_of(1, run_limit_s=0.01)
    with pytest.raises(ComputationFailed, match=r"longer than 0.01 s"):
        await run(pool, "one")
    assert tenancy.workers["one"].stopped == 1


async def test_after_a_failure_the_next_task_waits_until_the_device_was_looked_at() -> None:
    pool, tenancy = pool_of(1)
    health = Health()
    health.may_answer.clear()
    pool._health = health  # type: ignore[assignment]
    failing, next_one = tenancy.workers["failing"], tenancy.workers["next"]
    failed = asyncio.create_task(run(pool, "failing"))
    await failing.asked(1)
    waiting = asyncio.create_task(run(pool, "next"))
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
