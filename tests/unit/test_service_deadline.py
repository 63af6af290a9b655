import pytest

from compute.deadline import Deadline
from shared.errors import DeadlinePassed
from shared.messages import Stage
from tests.unit.service_world import World, world


class Clock:
    """Stands still until the test moves it."""

    def __init__(self, wall: float) -> None:
        self.wall_s = wall
        self.monotonic_s = 70.0

    def wall(self) -> float:
        return self.wall_s

    def monotonic(self) -> float:
        return self.monotonic_s

    async def sleep(self, seconds: float) -> None:
        self.monotonic_s += seconds


def deadline(tmp_path, clock: Clock, **members: object) -> Deadline:
    return Deadline.of(World(tmp_path).request(**members), clock)


def test_chain_time_decides_however_wrong_this_machines_clock_is(tmp_path):
    clock = Clock(wall=1_000 + 3_600)
    limit = deadline(tmp_path, clock, deadline=1_030, chain_time=1_000)
    assert limit.left_s() == 30
    clock.wall_s -= 7_200
    assert limit.left_s() == 30
    clock.monotonic_s += 12
    assert limit.left_s() == 18


def test_without_chain_time_this_machines_clock_is_asked_once(tmp_path):
    clock = Clock(wall=1_000)
    limit = deadline(tmp_path, clock, deadline=1_030)
    assert limit.left_s() == 30
    clock.wall_s += 3_600
    assert limit.left_s() == 30


def test_nothing_is_begun_from_the_margin_on(tmp_path):
    clock = Clock(wall=0)
    limit = deadline(tmp_path, clock, deadline=1_030, chain_time=1_000, landing_margin=15)
    clock.monotonic_s += 14.9
    limit.check_margin()
    clock.monotonic_s += 0.1
    with pytest.raises(DeadlinePassed, match=r"15.0 s are left .* needs 15 s to land"):
        limit.check_margin()


def test_without_a_deadline_there_is_none(tmp_path):
    clock = Clock(wall=0)
    limit = deadline(tmp_path, clock, landing_margin=15, chain_time=1_000)
    clock.monotonic_s += 1e9
    limit.check_margin()
    assert limit.left_s() is None


async def test_of_a_task_whose_deadline_has_passed_nothing_is_fetched(tmp_path):
    async with world(tmp_path) as w:
        request = w.request(deadline=1_000, chain_time=990, landing_margin=10)
        await w.service.submit(request)
        status = await w.end(request.key)
        assert status.reason == "DeadlinePassed"
        assert [time.stage for time in status.stages] == [Stage.QUEUED, Stage.FAILED]
        assert not w.storage.reads.reached.is_set()


async def test_a_task_whose_deadline_passes_while_it_is_queued_ends_there(tmp_path):
    async with world(tmp_path, max_in_work=1) as w:
        w.pool.runs.close()
        await w.service.submit(w.request())
        request = w.request(deadline=1_000, chain_time=999, landing_margin=0.8)
        await w.service.submit(request)
        status = await w.end(request.key)
        assert [time.stage for time in status.stages] == [Stage.QUEUED, Stage.FAILED]
        assert status.result.execution_time == 0


async def test_no_put_is_begun_within_the_margin(tmp_path):
    async with world(tmp_path) as w:
        really_begin = w.results.begin_objects

        async def begin_late(*arguments):
            w.clock.ahead_s = 55
            return await really_begin(*arguments)

        w.results.begin_objects = begin_late
        request = w.request(deadline=1_000, chain_time=900, landing_margin=50.0)
        await w.service.submit(request)
        status = await w.end(request.key)
        assert [time.stage for time in status.stages][-2:] == [Stage.STORING, Stage.FAILED]
        assert status.reason == "DeadlinePassed"
        assert not w.storage.puts.reached.is_set()
        assert await w.results.to_delete() == []


async def test_time_in_the_queue_is_no_execution_time(tmp_path):
    async with world(tmp_path, max_in_work=1) as w:
        w.pool.runs.close()
        first, second = w.request(), w.request()
        for request in (first, second):
            await w.service.submit(request)
        await w.reach(first.key, Stage.RUNNING)
        w.clock.ahead_s = 1_000
        w.pool.runs.open.set()
        ran_ms = (await w.end(first.key)).result.execution_time
        assert ran_ms >= 1_000_000
        assert (await w.end(second.key)).result.execution_time < ran_ms
