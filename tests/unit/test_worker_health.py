"""Who answers for the device and for a worker, with processes that only answer as they are told."""

import asyncio
from typing import Any

import pytest

from compute.worker import health
from compute.worker.answers import Answer
from compute.worker.health import Health
from compute.worker.process import WorkerGone
from compute.worker.spare import Spare
from compute.worker.wire import Role
from shared.errors import ComputationFailed, OutOfMemory, TaskError

SICK = ComputationFailed("multiplied wrongly")


class Process:
    """Answers a probe with `error` once it may; counts how often it is killed."""

    def __init__(self, error: TaskError | None = None) -> None:
        self.error = error
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked = asyncio.Event()
        self.alive = True
        self.pid = 1

    async def request(self, _operation: object) -> Answer:
        self.asked.set()
        await self.may_answer.wait()
        return Answer(0, self.error)

    async def kill(self) -> None:
        self.alive = False


class Workers:
    ended = idle_ended = False

    async def end_all(self) -> None:
        self.ended = True

    async def end_idle(self) -> None:
        self.idle_ended = True


def spare_of(process: Process | None) -> Spare:
    spare = Spare(Role.WORKER, lambda _: None)
    spare._process = process  # type: ignore[assignment]
    return spare


def health_of(spare: Spare) -> tuple[Health, Workers]:
    workers: Any = Workers()
    return Health(spare, workers), workers


async def test_a_sick_device_ends_all_workers_and_a_well_one_none() -> None:
    for error in (None, SICK):
        checked, workers = health_of(spare_of(Process(error)))
        if error is None:
            await checked.check_device()
        else:
            with pytest.raises(ComputationFailed, match="wrongly"):
                await checked.check_device()
        assert workers.ended == (error is not None)


async def test_a_full_device_is_not_a_sick_one_and_ends_idle_workers_only() -> None:
    checked, workers = health_of(spare_of(Process(OutOfMemory("no room"))))
    with pytest.raises(OutOfMemory):
        await checked.check_device()
    assert workers.idle_ended and not workers.ended


async def test_the_process_that_is_asked_is_nobodys_until_it_has_answered() -> None:
    process = Process()
    process.may_answer.clear()
    spare = spare_of(process)
    checked, _ = health_of(spare)
    checking = asyncio.create_task(checked.check_device())
    await process.asked.wait()
    taking = asyncio.create_task(spare.take())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not taking.done()
    process.may_answer.set()
    await checking
    assert await taking is process  # type: ignore[comparison-overlap]


@pytest.mark.parametrize("process", [None, Process])
async def test_no_answer_for_the_device_is_a_failure_and_no_reason_to_end_workers(
    process: type[Process] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PROBE_S", 0.05)
    silent = process() if process else None
    if silent:
        silent.may_answer.clear()
    checked, workers = health_of(spare_of(silent))
    with pytest.raises(WorkerGone, match="no answer"):
        await checked.check_device()
    assert not workers.ended


async def test_a_worker_that_answers_wrongly_or_not_in_time_is_ended_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "PROBE_S", 0.05)
    well, wrong, silent = Process(), Process(SICK), Process()
    silent.may_answer.clear()
    checked, workers = health_of(spare_of(None))
    for process in (well, wrong, silent):
        await checked.check_worker(process)  # type: ignore[arg-type]
    assert [process.alive for process in (well, wrong, silent)] == [True, False, False]
    assert not workers.ended
