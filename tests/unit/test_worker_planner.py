"""Whose planner plans, and what becomes of a plan whose planner is lost, with planners that do as they are told."""

import asyncio
import gc
import itertools
from collections.abc import Sequence

import pytest

from compute.shared_memory import SharedBuffer
from compute.specs import DType, TensorSpec
from compute.worker.answers import Answer
from compute.worker.gate import Gate
from compute.worker.planner import Planner
from compute.worker.process import WorkerGone
from compute.worker.wire import Job, Plan, Role, encode_plan
from shared.errors import ComputationFailed, TooLarge

HONEST, LIE = Plan((), 7, 0), Plan((), 1, 0)
NEW_LENGTHS = itertools.count(2)


class Process:
    def __init__(self, pid: int, does: object) -> None:
        self.pid = pid
        self.does = does
        self.alive = True
        self.idle = True
        self.asked = 0

    async def request(self, _operation: object, _given: object, room: SharedBuffer) -> Answer:
        self.asked += 1
        self.idle = False
        try:
            return await self._answered(room)
        finally:
            self.idle = True

    async def _answered(self, room: SharedBuffer) -> Answer:
        await asyncio.sleep(0)
        if isinstance(self.does, Exception):
            self.alive = False
            raise self.does
        if self.does is None:
            try:
                await asyncio.Event().wait()
            finally:  # as a process that does not stop when it is told to
                self.alive = False
        does = self.does
        if isinstance(does, asyncio.Event):
            await does.wait()
            does = HONEST
        data = encode_plan(does)  # type: ignore[arg-type]
        room.view[: len(data)] = data
        return Answer(0)

    async def kill(self) -> None:
        self.alive = False


class Spares:
    role = Role.PLANNER

    def __init__(self, *does: object) -> None:
        self.made = [Process(pid, what) for pid, what in enumerate(does)]
        self._next = iter(self.made)

    async def take(self) -> Process:
        return next(self._next)


def planner(*does: object, limit_s: float = 60, places: int = 2) -> tuple[Planner, list[Process]]:
    spares = Spares(*does)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compute.worker.planner.Spare", lambda *_: spares)
        return Planner(limit_s, places), spares.made


async def settled() -> None:
    """Whatever can go on has gone on: all here waits for nothing but the event loop or a test's event."""
    for _ in range(100):
        await asyncio.sleep(0)


def begin(planning: Planner, tenants: Sequence[str]) -> list[asyncio.Task[Plan]]:
    """A job that was not planned before for each of them, in this order."""
    return [asyncio.create_task(planning.plan(job(next(NEW_LENGTHS)), tenant)) for tenant in tenants]


async def plan_each(planning: Planner, tenants: Sequence[str]) -> None:
    """A job that was not planned before for each of them, one after the other."""
    for tenant in tenants:
        assert await planning.plan(job(next(NEW_LENGTHS)), tenant) == HONEST


def job(length: int = 1) -> Job:
    return Job(b"package", ((TensorSpec(DType.FLOAT32, (length,)),),))


def lost(*, culprit: bool) -> WorkerGone:
    return WorkerGone("the worker process ended by SIGKILL", culprit=culprit)


async def test_a_tenant_keeps_its_planner_and_another_gets_a_fresh_one() -> None:
    planning, made = planner(HONEST, HONEST)
    await plan_each(planning, ("one", "one", "two", "two"))
    assert [process.asked for process in made] == [2, 2]
    assert [process.alive for process in made] == [True, True]


async def test_of_the_same_job_asked_for_many_times_at_once_one_plan_is_made() -> None:
    end = asyncio.Event()
    planning, made = planner(end)
    plans = [asyncio.create_task(planning.plan(job(), "one")) for _ in range(5)]
    await settled()
    end.set()
    assert await asyncio.gather(*plans) == [HONEST] * 5
    assert made[0].asked == 1


async def test_tenants_whose_plans_alternate_have_no_fresh_planners_made() -> None:
    planning, made = planner(HONEST, HONEST, HONEST)
    await plan_each(planning, ("one", "two") * 10)
    assert [process.asked for process in made] == [10, 10, 0]


async def test_with_all_places_taken_the_planner_that_was_used_least_recently_ends() -> None:
    planning, made = planner(*[HONEST] * 4)
    await plan_each(planning, ("one", "two", "one", "three"))
    assert [process.alive for process in made[:3]] == [True, False, True]
    await plan_each(planning, ("one", "two", "two"))
    assert [process.asked for process in made] == [3, 1, 1, 2], "whose planner ended has a fresh one"
    assert [process.alive for process in made] == [True, False, False, True]


async def test_of_tenants_whose_plans_come_together_no_more_keep_planners_than_have_places() -> None:
    planning, made = planner(*[HONEST] * 5)
    await asyncio.gather(*(planning.plan(job(), tenant) for tenant in "abcde"))
    assert [process.asked for process in made] == [1] * 5
    assert [process.alive for process in made] == [False, False, False, True, True]


async def test_no_more_plans_are_made_beside_each_other_than_there_are_places() -> None:
    ends = [asyncio.Event() for _ in range(5)]
    planning, made = planner(*ends)
    plans = begin(planning, "abcde")
    for over in range(5):
        await settled()
        begun = made[: over + 2]
        assert [process.asked for process in made] == [1] * len(begun) + [0] * (5 - len(begun))
        assert [process.idle for process in begun] == [True] * over + [False] * (len(begun) - over)
        assert sum(process.alive for process in begun) == 2
        ends[over].set()
    assert await asyncio.gather(*plans) == [HONEST] * 5


async def test_while_one_tenants_plan_hangs_others_plans_are_made_however_many_it_has_waiting() -> None:
    end = asyncio.Event()
    planning, made = planner(end, HONEST, HONEST)
    hanging = begin(planning, ["hostile"] * 5)
    others = begin(planning, ("one", "two", "one"))
    await settled()
    assert [plan.done() for plan in others] == [True] * 3
    assert [plan.done() for plan in hanging] == [False] * 5
    assert [process.alive for process in made] == [True, False, True], "who is busy makes no room"
    end.set()
    assert await asyncio.gather(*hanging) == [HONEST] * 5


async def test_one_tenants_plans_are_made_one_after_the_other_in_the_order_of_asking() -> None:
    end = asyncio.Event()
    planning, made = planner(end)
    plans = begin(planning, ["one"] * 4)
    ended: list[int] = []
    for number, plan in enumerate(plans):
        plan.add_done_callback(lambda _, number=number: ended.append(number))  # type: ignore[misc]
    await settled()
    assert made[0].asked == 1
    end.set()
    await asyncio.gather(*plans)
    await settled()
    assert made[0].asked == 4
    assert ended == [0, 1, 2, 3]


async def test_plans_that_are_cancelled_while_they_wait_leave_no_turn_and_no_place_taken_and_no_gate() -> None:
    before = gates()
    ends = [asyncio.Event() for _ in range(3)]
    planning, made = planner(*ends)
    plans = begin(planning, ("one", "two"))
    for waiting in begin(planning, ("one", "three")):  # one waits for its turn, one for a place
        await settled()
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
    ends[0].set()
    plans += begin(planning, ("one", "three"))
    await settled()
    assert [process.asked for process in made] == [2, 1, 1], "not asked for what was cancelled"
    for end in ends:
        end.set()
    assert await asyncio.gather(*plans) == [HONEST] * 4
    plans.clear()
    del waiting
    assert gates() <= before


def gates() -> set[Gate]:
    gc.collect()
    # isinstance would ask each object for its class, and some of other packages warn when they are asked for anything.
    return {thing for thing in gc.get_objects() if type(thing) is Gate}


@pytest.mark.parametrize("end", [WorkerGone("the worker process ended by SIGSEGV", culprit=True), None])
async def test_a_planner_that_crashes_or_hangs_takes_no_other_tenants_with_it(
    end: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    planning, made = planner(HONEST, end, HONEST, HONEST)
    await plan_each(planning, ("honest",))
    with monkeypatch.context() as patch, pytest.raises((ComputationFailed, TooLarge)):
        if end is None:
            patch.setattr(planning, "_limit_s", 0.01)
        await planning.plan(job(), "hostile")
    await plan_each(planning, ("honest", "hostile", "honest"))
    assert [process.asked for process in made] == [3, 1, 1, 0]
    assert [process.alive for process in made[:3]] == [True, False, True]


async def test_who_lies_by_its_planner_lies_to_itself() -> None:
    planning, _ = planner(LIE, HONEST)
    assert await planning.plan(job(), "hostile") == LIE
    assert await planning.plan(job(), "honest") == HONEST
    assert await planning.plan(job(), "hostile") == LIE, "what was kept"


async def test_a_planner_that_was_lost_by_no_fault_of_the_package_is_asked_once_more() -> None:
    planning, made = planner(lost(culprit=False), HONEST)
    assert await planning.plan(job(), "one") == HONEST
    assert [process.asked for process in made] == [1, 1]


@pytest.mark.parametrize("ends", [[True], [False, True], [False, False]])
async def test_a_package_that_ends_its_planner_fails(ends: list[bool]) -> None:
    planning, made = planner(*(lost(culprit=culprit) for culprit in ends), HONEST)
    with pytest.raises(ComputationFailed, match="by SIGKILL while it planned this task"):
        await planning.plan(job(), "one")
    assert [process.asked for process in made] == [1] * len(ends) + [0]


async def test_planning_has_a_limit() -> None:
    planning, _ = planner(None, limit_s=0.01)
    with pytest.raises(TooLarge, match=r"longer than 0.01 s"):
        await planning.plan(job(), "one")
