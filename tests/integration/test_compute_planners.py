"""Who has which planner, with real ones: their processes are counted as the kernel shows them."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

from compute.worker.pool import WorkerPool
from tests.integration.compute_process import name_of, parent_of
from tests.integration.test_compute_worker import add_job, worker_pool

ENOUGH_S = 120.0


def planners() -> set[int]:
    """Below a fork server of this process; the one that waits among them."""
    numbers = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    named = {pid: parent_of(pid) for pid in numbers if name_of(pid) == "splitup-planner"}
    return {pid for pid, parent in named.items() if parent is not None and parent_of(parent) == os.getpid()}


async def shown(true: Callable[[set[int]], bool]) -> set[int]:
    """The planners, once that holds of them: a spare starts, and an end is told of, a moment later."""
    async with asyncio.timeout(ENOUGH_S):
        while not true(pids := planners()):  # noqa: ASYNC110 # the kernel tells nobody
            await asyncio.sleep(0.02)
    return pids


async def two_planners(pool: WorkerPool, first: str, second: str) -> tuple[set[int], set[int], set[int]]:
    """Of two requesters who have had a plan made, and the one that waits then."""
    waits = await shown(lambda pids: len(pids) == 1)
    await pool.plan(add_job(1), first)
    firsts, waits = waits, await shown(lambda pids: len(pids) == 2) - waits
    await pool.plan(add_job(2), second)
    return firsts, waits, await shown(lambda pids: len(pids) == 3) - firsts - waits


def states(pid: int) -> set[str]:
    """Of its threads, as the kernel shows them."""
    return {stat.read_text().rpartition(")")[2].split()[0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")}


async def stop(pid: int) -> None:
    """Returns once none of its threads runs any more."""
    os.kill(pid, signal.SIGSTOP)
    async with asyncio.timeout(ENOUGH_S):
        while states(pid) != {"T"}:  # noqa: ASYNC110 # the kernel tells nobody
            await asyncio.sleep(0.02)


async def test_as_many_requesters_keep_their_planners_as_there_are_places_and_none_is_left_behind():
    async with worker_pool(max_running=2) as pool:
        ones, twos, waits = await two_planners(pool, "one", "two")
        for length in range(3, 9):
            await pool.plan(add_job(length), ("one", "two")[length % 2])
        assert planners() == ones | twos | waits, "none was taken or ended since"
        await pool.plan(add_job(9), "three")
        threes, waits = waits, await shown(lambda pids: len(pids - twos) == 3) - ones - twos - waits
        assert planners() == ones | threes | waits, "whose plan was made longest ago lost its planner"
    # Not those of this process: one that outlived its fork server would have another parent.
    assert not any(name_of(pid) == "splitup-planner" for pid in ones | twos | threes | waits)


async def test_the_death_of_one_requesters_planner_leaves_anothers_as_it_was():
    async with worker_pool(max_running=2) as pool:
        honest, hostile, waits = await two_planners(pool, "honest", "hostile")
        for pid in hostile:
            os.kill(pid, signal.SIGKILL)
        await shown(lambda pids: not pids & hostile)
        await pool.plan(add_job(3), "hostile")
        fresh = waits
        await pool.plan(add_job(4), "honest")
        assert (await shown(lambda pids: len(pids) == 3)) >= honest | fresh


async def test_while_one_requesters_planner_hangs_anothers_plans_are_made():
    async with worker_pool(plan_limit_s=ENOUGH_S, max_running=2) as pool:
        waits = await shown(lambda pids: len(pids) == 1)
        await pool.plan(add_job(1), "hostile")
        (hostile,) = waits
        await stop(hostile)
        try:
            hanging = [asyncio.create_task(pool.plan(add_job(length), "hostile")) for length in (2, 3)]
            await asyncio.sleep(0)  # they begin
            for length in (2, 3):
                assert (await pool.plan(add_job(length), "honest")).compute_units == 1
            assert not any(plan.done() for plan in hanging)
        finally:
            os.kill(hostile, signal.SIGCONT)
        assert [plan.compute_units for plan in await asyncio.gather(*hanging)] == [1, 1]
        assert hostile in planners(), "it made them both"
