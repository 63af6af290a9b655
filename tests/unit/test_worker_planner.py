"""Whose planner plans, and what becomes of a plan whose planner is lost, with planners that do as they are told."""

import asyncio

import pytest

from compute.shared_memory import SharedBuffer
from compute.specs import DType, TensorSpec
from compute.worker.answers import Answer
from compute.worker.planner import Planner
from compute.worker.process import WorkerGone
from compute.worker.wire import Job, Plan, encode_plan
from shared.errors import ComputationFailed, TooLarge

HONEST, LIE = Plan((), 7, 0), Plan((), 1, 0)


class Process:
    def __init__(self, does: object) -> None:
        self.does = does
        self.alive = True
        self.asked = 0

    async def request(self, _operation: object, _given: object, room: SharedBuffer) -> Answer:
        self.asked += 1
        if isinstance(self.does, Exception):
            self.alive = False
            raise self.does
        if self.does is None:
            await asyncio.Event().wait()
        data = encode_plan(self.does)  # type: ignore[arg-type]
        room.view[: len(data)] = data
        return Answer(0)

    async def kill(self) -> None:
        self.alive = False


class Spares:
    def __init__(self, *does: object) -> None:
        self.made = [Process(what) for what in does]
        self._next = iter(self.made)

    async def take(self) -> Process:
        return next(self._next)


def planner(*does: object, limit_s: float = 60) -> tuple[Planner, list[Process]]:
    made, spares = Planner(limit_s), Spares(*does)
    made._spare = spares  # type: ignore[assignment]
    return made, spares.made


def job(length: int = 1) -> Job:
    return Job(b"package", ((TensorSpec(DType.FLOAT32, (length,)),),))


def lost(*, culprit: bool) -> WorkerGone:
    return WorkerGone("the worker process ended by SIGKILL", culprit=culprit)


async def test_a_tenant_keeps_its_planner_and_another_gets_a_fresh_one() -> None:
    planning, made = planner(HONEST, HONEST, HONEST)
    for length, tenant in ((1, "one"), (2, "one"), (3, "two"), (4, "one")):
        await planning.plan(job(length), tenant)
    assert [process.asked for process in made] == [2, 1, 1]
    assert [process.alive for process in made] == [False, False, True]


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
