"""Weights that stay on the device between tasks: used again, dropped for who needs the room, told by /ready."""

import struct
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compute.shared_memory import SharedBuffer, layout
from compute.worker.pool import WorkerPool
from compute.worker.wire import Job
from tests.cuda.test_failures import LIMITS
from tests.integration.compute_process import compute_process
from tests.integration.compute_tasks import floats
from tests.integration.test_compute_weights import FIRST_OF_THREE_ROWS, computed, put_weights
from tests.integration.test_compute_worker import package, worker_pool

pytestmark = pytest.mark.timeout(600)

COLUMNS = 1 << 20
ROW_BYTES = 4 * COLUMNS
LARGE_BYTES = 1 << 30
NOT_ALL_BYTES = LARGE_BYTES * 9 // 10
"""What else the driver does with the device is less than the rest."""


async def twice_the_first(
    pool: WorkerPool, weights: SharedBuffer, tenant: str = "one", device_bytes: int | None = None
) -> float:
    job = Job(package(FIRST_OF_THREE_ROWS), ((floats(weights.size // ROW_BYTES, COLUMNS),),))
    plan = await pool.plan(job, tenant)
    size = layout(plan.outputs)[1]
    needed = plan.peak_bytes + size if device_bytes is None else device_bytes
    with closing(SharedBuffer("outputs", size)) as outputs:
        job = replace(job, outputs=plan.outputs)
        await pool.run(job, [weights], outputs, lambda: None, tenant, needed, {weights})
        return struct.unpack("<f", outputs.view[:4])[0]


def put(weights: SharedBuffer, first: float) -> None:
    """Ours is the only mapping that can be written; nothing else looks whether it was."""
    weights.view[:4] = struct.pack("<f", first)


async def dropped(pool: WorkerPool, tenant: str = "one") -> None:
    pool._room.drop_idle(await pool._tenancy.worker_for(tenant))
    (going,) = pool._room._weights._going
    await going


async def test_the_next_task_computes_from_what_was_copied_for_the_last_until_it_is_dropped() -> None:
    async with worker_pool(device="cuda") as pool:
        with closing(SharedBuffer("weights", ROW_BYTES)) as weights:
            put(weights, 1)
            assert await twice_the_first(pool, weights) == 2
            put(weights, 7)
            assert await twice_the_first(pool, weights) == 2
            assert await twice_the_first(pool, weights, "another") == 14  # has a worker, and copies, of its own
            await dropped(pool)
            assert await twice_the_first(pool, weights) == 14


async def test_what_is_dropped_is_free_again_on_the_device() -> None:
    async with worker_pool(device="cuda", limits=LIMITS) as pool:
        with closing(SharedBuffer("weights", LARGE_BYTES)) as weights:
            put(weights, 1)
            assert await twice_the_first(pool, weights) == 2
            await pool.probe()  # by the next spare: no other process takes memory from now on
            full, _ = torch.cuda.mem_get_info()
            await dropped(pool)
            free, _ = torch.cuda.mem_get_info()
            assert free - full > NOT_ALL_BYTES


async def test_a_task_that_needs_the_room_gets_it_and_finds_the_memory_free() -> None:
    async with worker_pool(device="cuda", limits=LIMITS) as pool:
        with ExitStack() as stack:
            idle, other = (stack.enter_context(closing(SharedBuffer("weights", LARGE_BYTES))) for _ in range(2))
            put(idle, 1)
            assert await twice_the_first(pool, idle) == 2
            assert pool.device_weights.startswith("1 kept")
            await pool.probe()
            full, _ = torch.cuda.mem_get_info()
            assert pool._room._bytes is not None
            assert await twice_the_first(pool, other, device_bytes=pool._room._bytes) == 0
            assert pool.device_weights.startswith("1 kept")
            await dropped(pool)
            free, _ = torch.cuda.mem_get_info()
            assert free - full > NOT_ALL_BYTES


def test_a_service_on_the_device_tells_what_stays_there(tmp_path: Path) -> None:
    with compute_process(tmp_path, device="cuda", weights_cache_bytes=256 << 20) as compute:
        uri = put_weights(compute, "weights", value=3)
        for _ in range(2):
            assert computed(compute, uri)[0] == 6
        told = compute.http.get("/ready").json()["checks"]["weights"]["value"]
        assert told.startswith("1 held")
        assert "; on the device 1 kept" in told
