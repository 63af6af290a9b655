"""What a task does to the device: it fails with its reason, and the next one runs."""

import asyncio
import struct
from pathlib import Path

import pytest
import torch

from compute.specs import DType, TensorSpec
from compute.worker.wire import Job, Limits
from shared.errors import ComputationFailed, OutOfMemory, TaskError
from tests.hostile.hostile_worker import Deed
from tests.hostile.pool import do, hostile_pool
from tests.integration.compute_process import compute_process
from tests.integration.compute_tasks import add_task, call, floats, ref, request, tensor
from tests.integration.test_compute_worker import add_job, package, run, worker_pool

pytestmark = pytest.mark.timeout(600)

LIMITS = Limits(max_graph_bytes=1 << 20, max_graph_nodes=20_000, max_task_bytes=1 << 40)
SMALL = [struct.pack("<3f", 1, 2, 3), struct.pack("<3f", 10, 20, 30)]
SUM = [struct.pack("<3f", 11, 22, 33)]
HANGS_S = 5.0
KEPT_FREE_BYTES = 2 << 30
"""For the contexts of the workers that there are."""
HELD = 1 << 29
"""Elements of float32 in each of two inputs: with their sum 6 GB of the device."""


SQUARE = {
    "inputs": [tensor("x", [1, "n"]), tensor("y", ["m", 1])],
    "nodes": [
        call("table", "aten.add.Tensor", self=ref("x"), other=ref("y")),
        call("all", "aten.sum.dim_IntList", self=ref("table"), dim=[0, 1]),
    ],
    "outputs": [ref("all")],
}
"""A table of side x side, added up again: 4 x side^2 bytes of the device, and few of the host."""


def square_job(side: int) -> Job:
    return Job(package(SQUARE), ((floats(1, side),), (floats(side, 1),)))


async def test_a_task_without_room_on_the_device_fails_with_the_numbers_and_the_next_one_runs() -> None:
    side = 40_000  # 6.4 GB
    async with worker_pool(device="cuda", limits=LIMITS) as pool:
        assert await run(pool, add_job(3), SMALL) == SUM
        free, _ = torch.cuda.mem_get_info()
        others = torch.empty(free - KEPT_FREE_BYTES, dtype=torch.uint8, device="cuda")
        try:
            with pytest.raises(OutOfMemory, match=r"\d"):
                await run(pool, square_job(side), [bytes(4 * side)] * 2)
            assert await run(pool, add_job(3), SMALL) == SUM
        finally:
            del others
            torch.cuda.empty_cache()
        assert len(await run(pool, square_job(side), [bytes(4 * side)] * 2)) == 1


async def test_an_index_out_of_range_is_refused_before_the_device_sees_it() -> None:
    graph = {
        "inputs": [tensor("x", ["n"]), tensor("at", ["m"], "int64")],
        "nodes": [call("picked", "aten.gather.default", self=ref("x"), dim=0, index=ref("at"))],
        "outputs": [ref("picked")],
    }
    job = Job(package(graph), ((floats(3),), (TensorSpec(DType.INT64, (1,)),)))
    async with worker_pool(device="cuda") as pool:
        assert await run(pool, job, [SMALL[0], struct.pack("<q", 2)]) == [struct.pack("<f", 3)]
        before = pool.pid
        for index in (3, -1, 1 << 40):
            with pytest.raises(ComputationFailed, match="outside of a dimension of length 3"):
                await run(pool, job, [SMALL[0], struct.pack("<q", index)])
        assert await run(pool, job, [SMALL[0], struct.pack("<q", 0)]) == [struct.pack("<f", 1)]
        assert pool.pid == before  # an error of the device would have ended it


@pytest.mark.parametrize("deed", [Deed.CRASH, Deed.HANG])
async def test_after_a_crash_or_a_hang_a_new_worker_takes_the_next_task(deed: Deed) -> None:
    async with hostile_pool("cuda") as pool:
        await do(pool, Deed.NOTHING)
        before = pool.pid
        with pytest.raises((TaskError, TimeoutError)):
            async with asyncio.timeout(HANGS_S if deed is Deed.HANG else None):
                await do(pool, deed)
        assert len(await do(pool, Deed.NOTHING)) == 1
        assert pool.pid != before
        assert not pool.on_host


async def test_after_a_crash_nothing_begins_until_the_device_has_its_memory_again() -> None:
    async with hostile_pool("cuda", limits=LIMITS) as pool:
        await do(pool, Deed.NOTHING)
        free, _ = torch.cuda.mem_get_info()
        crash = struct.pack("<f", Deed.CRASH) + bytes(4 * (HELD - 1))
        with pytest.raises(ComputationFailed, match="SIGSEGV"):
            await run(pool, add_job(HELD), [crash, bytes(4 * HELD)])
        begun: list[int] = []
        await run(pool, add_job(3), [bytes(12)] * 2, started=lambda: begun.append(torch.cuda.mem_get_info()[0]))
        # What is not there again is at most what another worker's context takes.
        assert begun[0] > free - KEPT_FREE_BYTES


async def test_what_never_fits_on_the_device_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    _, total = torch.cuda.mem_get_info()
    side = int((total / 4) ** 0.5) + 1
    # So that only the device's own memory stands in the way.
    settings = {"max_task_bytes": 1 << 44, "max_compute_units": 1 << 40}
    with compute_process(tmp_path, device="cuda", **settings) as compute:
        inputs = [
            compute.put_tensor("row", floats(1, side), bytes(4 * side)),
            compute.put_tensor("column", floats(side, 1), bytes(4 * side)),
        ]
        body = request(compute.put_package(SQUARE), inputs)
        compute.post(body)
        status = compute.ended(body)
        assert status["reason"] == "OutOfMemory"
        assert "bytes on the device, which has" in status["result"]["errorMessage"]
        follows = add_task(compute)
        compute.post(follows)
        assert compute.ended(follows)["stage"] == "done"
