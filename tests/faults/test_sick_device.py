"""A device that computes wrongly: the task fails with its reason, the next one runs."""

import asyncio
import struct
import sys
from pathlib import Path

import pytest

from compute.specs import DType, TensorSpec
from compute.worker import health, launcher
from compute.worker.process import WorkerGone
from compute.worker.wire import Job
from shared.errors import ComputationFailed
from tests.faults import sick_worker
from tests.integration.compute_tasks import call, floats, ref, tensor
from tests.integration.test_compute_worker import add_job, package, run, worker_pool

pytestmark = pytest.mark.timeout(300)

PATIENCE_S = 120.0
INPUTS = [struct.pack("<3f", 1, 2, 3), struct.pack("<3f", 10, 20, 30)]
SUM = [struct.pack("<3f", 11, 22, 33)]
LOOKUP = {
    "inputs": [tensor("x", ["n"]), tensor("at", ["m"], "int64")],
    "nodes": [call("picked", "aten.index_select.default", self=ref("x"), dim=0, index=ref("at"))],
    "outputs": [ref("picked")],
}


class Sickness:
    """While the file's byte is set, the device multiplies wrongly."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end()

    def begin(self) -> None:
        self._write(b"\1")

    def end(self) -> None:
        self._write(b"\0")

    def _write(self, byte: bytes) -> None:
        # In place: the worker has the file mapped.
        with self.path.open("r+b" if self.path.exists() else "wb") as file:
            file.write(byte)


@pytest.fixture
def sick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sickness:
    real = launcher._command
    monkeypatch.setattr(
        launcher,
        "_command",
        lambda *given: [sys.executable, "-m", sick_worker.__name__, *real(*given)[3:]],
    )
    # A slow machine makes no spare within the real limit.
    monkeypatch.setattr(health, "PROBE_S", PATIENCE_S)
    sickness = Sickness(tmp_path / "sick")
    monkeypatch.setenv(sick_worker.SICK, str(sickness.path))
    return sickness


async def failing(pool) -> None:
    """A task that fails by its own fault: it looks beyond its tensor."""
    job = Job(package(LOOKUP), ((floats(3),), (TensorSpec(DType.INT64, (1,)),)))
    with pytest.raises(ComputationFailed):
        await run(pool, job, [INPUTS[0], struct.pack("<q", 7)])


async def test_a_task_that_fails_on_a_well_device_leaves_its_worker_alone(sick: Sickness) -> None:
    async with worker_pool() as pool:
        assert await run(pool, add_job(3), INPUTS) == SUM
        before = pool.pid
        await failing(pool)
        assert await run(pool, add_job(3), INPUTS) == SUM
        assert pool.pid == before


async def test_a_device_that_is_sick_after_a_failure_gets_a_fresh_worker_before_the_next_task(
    sick: Sickness,
) -> None:
    async with worker_pool() as pool:
        assert await run(pool, add_job(3), INPUTS) == SUM
        before = pool.pid
        await pool.probe()  # the next spare is there: none starts on a sick device
        sick.begin()
        await failing(pool)
        assert pool.pid != before, "the worker was ended with the task that failed"
        sick.end()
        assert await run(pool, add_job(3), INPUTS) == SUM


async def test_a_probe_that_finds_the_device_sick_says_so_and_replaces_its_worker(sick: Sickness) -> None:
    async with worker_pool() as pool:
        assert await run(pool, add_job(3), INPUTS) == SUM
        before = pool.pid
        await pool.probe()  # the next spare is there: none starts on a sick device
        sick.begin()
        with pytest.raises(ComputationFailed, match="multiplied wrongly"):
            await pool.probe()
        assert pool.pid != before
        sick.end()
        assert await run(pool, add_job(3), INPUTS) == SUM
        await pool.probe()


async def test_a_device_that_stays_sick_takes_no_task(sick: Sickness, monkeypatch: pytest.MonkeyPatch) -> None:
    sick.begin()
    monkeypatch.setattr(health, "PROBE_S", 0.1)
    async with worker_pool() as pool:
        await _until_it_says(pool, "multiplied wrongly")
        with pytest.raises(WorkerGone, match="no answer"):
            await pool.probe()
        assert pool.pid is None


async def _until_it_says(pool, what: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while what not in pool.state:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
