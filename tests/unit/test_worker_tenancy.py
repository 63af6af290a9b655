"""Which worker serves whom, with workers that only know whether they live."""

import asyncio

from compute.worker.tenancy import Tenancy
from compute.worker.wire import Role


class Worker:
    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.alive = True
        self.idle = True

    async def kill(self) -> None:
        await asyncio.sleep(0)
        self.alive = False


class Spares:
    """As many as are asked for, each after a moment."""

    role = Role.WORKER

    def __init__(self) -> None:
        self.made: list[Worker] = []

    async def take(self) -> Worker:
        await asyncio.sleep(0)
        self.made.append(Worker(len(self.made)))
        return self.made[-1]

    async def drop(self) -> None:
        pass


def tenancy(places: int) -> tuple[Tenancy, Spares]:
    spares = Spares()
    return Tenancy(spares, places), spares  # type: ignore[arg-type]


async def test_a_requester_keeps_its_worker_and_shares_it_with_nobody() -> None:
    held, _ = tenancy(2)
    first = await held.worker_for("one")
    assert await held.worker_for("two") is not first
    assert await held.worker_for("one") is first


async def test_tasks_of_one_requester_that_come_together_move_into_one_worker() -> None:
    held, spares = tenancy(2)
    workers = await asyncio.gather(*(held.worker_for("one") for _ in range(5)))
    assert len(set(workers)) == len(spares.made) == 1


async def test_another_requester_ends_the_worker_that_was_idle_longest() -> None:
    held, spares = tenancy(2)
    for tenant in ("one", "two", "one", "three"):
        await held.worker_for(tenant)
    assert [worker.alive for worker in spares.made] == [True, False, True]


async def test_a_worker_that_is_busy_is_not_ended_for_another() -> None:
    held, spares = tenancy(1)
    (await held.worker_for("one")).idle = False  # type: ignore[misc]
    await held.worker_for("two")
    assert all(worker.alive for worker in spares.made)


async def test_who_lost_its_worker_gets_another() -> None:
    held, _ = tenancy(1)
    first = await held.worker_for("one")
    await first.kill()
    assert await held.worker_for("one") is not first
    assert held.pid != first.pid


async def test_when_the_device_is_sick_all_end() -> None:
    held, spares = tenancy(3)
    for tenant in ("one", "two"):
        await held.worker_for(tenant)
    await held.end_all()
    assert not any(worker.alive for worker in spares.made)
    assert held.pid is None


async def test_when_the_device_is_full_those_that_run_nothing_end() -> None:
    held, spares = tenancy(3)
    for tenant in ("busy", "idle"):
        await held.worker_for(tenant)
    spares.made[0].idle = False
    await held.end_idle()
    assert [worker.alive for worker in spares.made] == [True, False]


async def test_workers_that_died_while_busy_push_nobody_out() -> None:
    held, spares = tenancy(2)
    for tenant in ("crashing one", "crashing two"):
        worker = await held.worker_for(tenant)
        worker.idle = worker.alive = False  # type: ignore[misc]
    for tenant in ("one", "two"):
        await held.worker_for(tenant)
    assert [worker.alive for worker in spares.made] == [False, False, True, True]
