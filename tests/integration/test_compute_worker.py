"""The worker pool with a real worker, without the API around it."""

import asyncio
import fcntl
import json
import os
import random
import struct
from collections.abc import Callable
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest

from compute.shared_memory import SharedBuffer, layout, map_shared, tensor_views
from compute.specs import DType, TensorSpec
from compute.worker.answers import parse_plan
from compute.worker.options import WorkerOptions
from compute.worker.pool import WorkerPool
from compute.worker.wire import Job, Limits, Operation, Plan, decode_job, encode_job, encode_plan
from shared.errors import ComputationFailed, GraphInvalid, InputMismatch, TooLarge
from tests.integration.compute_process import FORMAT, until
from tests.integration.compute_tasks import ADD, call, chain_of_products, floats, ref, tensor

LIMITS = Limits(max_graph_bytes=1 << 20, max_graph_nodes=20_000, max_task_bytes=1 << 30)


@asynccontextmanager
async def worker_pool(
    plan_limit_s: float = 20.0,
    max_running: int = 2,
    limits: Limits = LIMITS,
    device: str = "cpu",
    threads: int = 1,
    memory_bytes: int = 4 << 30,
):
    options = WorkerOptions(device, threads, max_running, limits, memory_bytes)
    pool = WorkerPool(options, plan_limit_s=plan_limit_s)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(pool.serve())
        yield pool
        serving.cancel()


def package(graph: dict[str, object]) -> bytes:
    return json.dumps(FORMAT | graph).encode()


async def run(
    pool: WorkerPool,
    job: Job,
    inputs: list[bytes],
    tenant: str = "one",
    started: Callable[[], None] = lambda: None,
) -> list[bytes]:
    """The outputs' bytes; `inputs` are the bytes of each input buffer."""
    plan = await pool.plan(job, tenant)
    job = Job(job.package, job.inputs, plan.outputs)
    with ExitStack() as stack:
        buffers = [stack.enter_context(closing(SharedBuffer("input", len(data)))) for data in inputs]
        for buffer, data in zip(buffers, inputs, strict=True):
            buffer.view[:] = data
        outputs = stack.enter_context(closing(SharedBuffer("outputs", layout(plan.outputs)[1])))
        await pool.run(job, buffers, outputs, started, tenant)
        return [bytes(view) for view in tensor_views(outputs.view, plan.outputs)]


def add_job(length: int) -> Job:
    return Job(package(ADD), ((floats(length),), (floats(length),)))


async def test_a_plan_tells_outputs_and_cost_and_a_run_fills_them():
    async with worker_pool() as pool:
        plan = await pool.plan(add_job(3), "one")
        assert plan.outputs == (floats(3),)
        assert plan.compute_units == 1
        assert plan.peak_bytes == 36
        assert pool.on_host
        left, right = struct.pack("<3f", 1, 2, 3), struct.pack("<3f", 10, 20, 30)
        assert await run(pool, add_job(3), [left, right]) == [struct.pack("<3f", 11, 22, 33)]


async def test_several_tensors_share_a_buffer_and_some_have_no_bytes():
    graph = {
        "inputs": [tensor("flags", [3], "bool"), tensor("none", [0, 2]), tensor("x", [2], "float64")],
        "nodes": [call("same", "aten.add.Tensor", self=ref("x"), other=ref("x"))],
        "outputs": [ref("flags"), ref("none"), ref("same")],
    }
    specs = (TensorSpec(DType.BOOL, (3,)), floats(0, 2), TensorSpec(DType.FLOAT64, (2,)))
    begins, size = layout(specs)
    data = bytearray(size)
    data[begins[0] : begins[0] + 3] = b"\1\0\1"
    data[begins[2] : begins[2] + 16] = struct.pack("<2d", 1.5, 2.5)
    async with worker_pool() as pool:
        outputs = await run(pool, Job(package(graph), (specs,)), [bytes(data)])
        assert outputs == [b"\1\0\1", b"", struct.pack("<2d", 3, 5)]


async def test_a_worker_that_waits_maps_no_tensor_of_what_it_computed():
    async with worker_pool() as pool:
        await run(pool, add_job(3), [bytes(12), bytes(12)])
        maps = Path(f"/proc/{pool.pid}/maps")

        def maps_no_tensor() -> bool:
            told = maps.read_text()
            return "memfd:input" not in told and "memfd:outputs" not in told

        await asyncio.to_thread(until, maps_no_tensor, "the worker has let go of its tensors")


async def test_the_same_task_gives_the_same_bytes_alone_and_under_load():
    side = 200
    rng = random.Random(5)
    data = b"".join(struct.pack("<f", rng.gauss(0, 0.05)) for _ in range(side * side))
    job = Job(package(chain_of_products(20)), ((floats(side, side),),))
    async with worker_pool(max_running=4) as pool:
        alone = await run(pool, job, [data])
        together = await asyncio.gather(*(run(pool, job, [data]) for _ in range(12)))
        assert together == [alone] * 12


@pytest.mark.parametrize(
    ("job", "error"),
    [
        (Job(b"{", ((floats(1),),)), GraphInvalid),
        (Job(package(ADD), ((floats(1),), (floats(2),))), InputMismatch),
        (Job(package(ADD), ((floats(1 << 30),), (floats(1 << 30),))), TooLarge),
    ],
)
async def test_what_a_plan_refuses_keeps_its_kind(job, error):
    async with worker_pool() as pool:
        with pytest.raises(error):
            await pool.plan(job, "one")


async def test_outputs_other_than_planned_are_refused():
    job = add_job(3)
    async with worker_pool() as pool:
        with closing(SharedBuffer("outputs", 1024)) as outputs:
            buffers = [SharedBuffer("input", 12), SharedBuffer("input", 12)]
            with pytest.raises(ComputationFailed, match="the plan says"):
                await pool.run(Job(job.package, job.inputs, (floats(4),)), buffers, outputs, lambda: None, "one")


async def test_a_plan_that_takes_too_long_is_given_up_and_the_next_one_is_made():
    # At this size reading and planning take most of a second.
    long = Job(package(chain_of_products(15_000)), ((floats(2, 2),),))
    async with worker_pool(plan_limit_s=0.05, limits=Limits(1 << 24, 20_000, 1 << 30)) as pool:
        with pytest.raises(TooLarge, match=r"planning .* longer than 0.05 s"):
            await pool.plan(long, "one")
        pool._planner._limit_s = 60  # a machine that is busy may take longer for any plan
        assert (await pool.plan(add_job(3), "one")).outputs == (floats(3),)


async def test_a_plan_counts_on_the_threads_that_workers_compute_with():
    shape = [1, 1, 512, 64]
    attention = call(
        "y", "aten.scaled_dot_product_attention.default", query=ref("x"), key=ref("x"), value=ref("x")
    )
    graph = {"inputs": [tensor("x", shape)], "nodes": [attention], "outputs": [ref("y")]}
    job = Job(package(graph), ((TensorSpec(DType.FLOAT32, tuple(shape)),),))
    peaks = []
    for threads in (1, 4 * os.cpu_count()):
        async with worker_pool(threads=threads) as pool:
            peaks.append((await pool.plan(job, "one")).peak_bytes)
            assert f"{threads} threads" in pool.state
    assert peaks[0] < peaks[1]


async def test_what_many_threads_only_reserve_is_not_taken_from_what_a_worker_may_take():
    async with worker_pool(max_running=8, threads=64, memory_bytes=256 << 20) as pool, asyncio.timeout(90):
        left, right = struct.pack("<3f", 1, 2, 3), struct.pack("<3f", 10, 20, 30)
        assert await run(pool, add_job(3), [left, right]) == [struct.pack("<3f", 11, 22, 33)]


async def test_the_worker_has_no_credentials_and_no_open_file_of_ours(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-operator")
    monkeypatch.setenv("SPLITUP_TOKEN_FILE", "token-of-the-operator")
    with (tmp_path / "ours").open("w") as ours:
        os.set_inheritable(ours.fileno(), True)
        async with worker_pool() as pool:
            await pool.plan(add_job(1), "one")
            environment = Path(f"/proc/{pool.pid}/environ").read_text()
            assert "of-the-operator" not in environment
            targets = [str(fd.readlink()) for fd in Path(f"/proc/{pool.pid}/fd").iterdir()]
            assert str(tmp_path / "ours") not in targets
            assert len([target for target in targets if target.startswith("socket:")]) == 1


def test_shared_memory_cannot_be_cut_by_who_else_holds_it():
    with closing(SharedBuffer("sealed", 4096)) as buffer:
        buffer.view[0] = 7
        assert map_shared(buffer.fd, 4096, writable=False)[0] == 7
        with pytest.raises(OSError, match="not permitted"):
            os.ftruncate(buffer.fd, 0)
        assert fcntl.fcntl(buffer.fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK


def test_jobs_and_plans_cross_the_wire_unchanged():
    specs = (floats(2, 0, 3), TensorSpec(DType.FLOAT8_E4M3FN, ()))
    job = Job(b'{"any": "bytes"}\xff', (specs, ()), specs)
    assert decode_job(encode_job(job)) == job
    plan = Plan(specs, 2**53, 2**60)
    assert parse_plan(memoryview(encode_plan(plan) + bytes(10))) == plan


async def test_a_worker_keeps_an_input_under_its_number_until_it_is_told_to_drop_it():
    job = Job(package(ADD), ((floats(1),), (floats(1),)), (floats(1),))
    data = encode_job(job)
    async with worker_pool() as pool:
        await pool.plan(job, "one")
        worker = await pool._tenancy.worker_for("one")

        async def sum_of(left: float, right: float, keep: list[int | None]) -> float:
            with ExitStack() as stack:
                sizes = {"job": len(data), "outputs": 64, "left": 4, "right": 4}
                made = {
                    name: stack.enter_context(closing(SharedBuffer(name, size))) for name, size in sizes.items()
                }
                made["job"].view[:] = data
                made["left"].view[:], made["right"].view[:] = struct.pack("<f", left), struct.pack("<f", right)
                given = [made["job"], made["left"], made["right"]]
                answer = await worker.request(Operation.RUN, given, made["outputs"], keep)
                assert answer.error is None
                return struct.unpack("<f", made["outputs"].view[:4])[0]

        assert await sum_of(1, 10, [7, None]) == 11
        assert await sum_of(2, 20, [7, None]) == 21
        assert await sum_of(2, 20, [None, None]) == 22
        assert (await worker.drop([7, 8])).error is None
        assert await sum_of(3, 30, [7, 8]) == 33
