"""What a task does to the device: it fails with its reason, and the next one runs."""

import asyncio
import struct

import pytest
import torch

from compute.specs import DType, TensorSpec
from compute.worker.wire import Job, Limits
from shared.errors import ComputationFailed, OutOfMemory, TaskError
from tests.hostile.hostile_worker import Deed
from tests.hostile.pool import do, hostile_pool
from tests.integration.compute_tasks import call, floats, ref, tensor
from tests.integration.test_compute_worker import add_job, package, run, worker_pool

pytestmark = pytest.mark.timeout(600)

LIMITS = Limits(max_graph_bytes=1 << 20, max_graph_nodes=20_000, max_task_bytes=1 << 40)
SMALL = [struct.pack("<3f", 1, 2, 3), struct.pack("<3f", 10, 20, 30)]
SUM = [struct.pack("<3f", 11, 22, 33)]
HANGS_S = 5.0
KEPT_FREE_BYTES = 2 << 30
"""For the contexts of the workers that there are."""


def square_job(side: int) -> Job:
    """A table of side x side, added up again: 4 x side^2 bytes of the device, and few of the host."""
    graph = {
        "inputs": [tensor("x", [1, "n"]), tensor("y", ["m", 1])],
        "nodes": [
            call("table", "aten.add.Tensor", self=ref("x"), other=ref("y")),
            call("all", "aten.sum.dim_IntList", self=ref("table"), dim=[0, 1]),
        ],
        "outputs": [ref("all")],
    }
    return Job(package(graph), ((floats(1, side),), (floats(side, 1),)))


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
