"""Weights in memory: how soon a task starts whose weights the last one used, beside the first, which fetches them."""

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.compute.objects import OBJECT, path_of, weights_object
from bench.compute.s3 import CREDENTIALS, serving
from bench.lines import Goal, Line
from bench.machine import machine
from compute.input_loader import InputLoader
from compute.memory import HostMemory
from compute.pipeline import Pipeline
from compute.results import Results
from compute.settings import ComputeSettings
from compute.specs import DType, TensorSpec
from compute.storage import open_storage
from compute.weights.cache import WeightsCache
from compute.worker.by_settings import worker_options
from compute.worker.pool import WorkerPool
from shared.messages import TaskRequest

SIZE, TINY_SIZE = 400_000_000, 4_000_000
COLUMNS = 1_000
ROUNDS = 5
EVERYTHING = 1 << 62
LIMIT = "What both have in common: reading the object's header, planning, and taking memory for the outputs."

_FIRST_ROW = {
    "format": "splitup-task-graph",
    "version": 1,
    "inputs": [{"name": "w", "dtype": "float32", "shape": ["n", "m"]}],
    "nodes": [
        {"name": "row", "op": "aten.select.int", "args": {"self": {"ref": "w"}, "dim": 0, "index": 0}},
        {"name": "sum", "op": "aten.add.Tensor", "args": {"self": {"ref": "row"}, "other": {"ref": "row"}}},
    ],
    "outputs": [{"ref": "sum"}],
}


async def measure(*, is_tiny: bool) -> list[Line]:
    size = TINY_SIZE if is_tiny else SIZE
    objects = {path_of(OBJECT): weights_object(TensorSpec(DType.FLOAT32, (size // COLUMNS // 4, COLUMNS)))}
    first, second = [], []
    with serving(objects) as port, TemporaryDirectory() as folder:
        async with _pipeline(Path(folder), port) as (pipeline, weights, request):
            await _task(pipeline, request)  # whatever is made once for all tasks
            for _ in range(1 if is_tiny else ROUNDS):
                weights.reclaim(EVERYTHING)
                first.append(await _task(pipeline, request))
                second.append(await _task(pipeline, request))
    return [
        _line(
            size, "start", [began for began, _ in first], [began for began, _ in second], Goal("ratio", ">=", 10)
        ),
        _line(size, "computed", [ended for _, ended in first], [ended for _, ended in second], None),
    ]


def _line(size: int, what: str, first: list[float], second: list[float], goal: Goal | None) -> Line:
    """Of each the best round: what else runs on the machine only ever takes away."""
    name = f"second task on the same {size // 1_000_000} MB weights, {what}, beside the first"
    return Line(name, f"a second, {machine()}", 1 / min(second), peer=1 / min(first), goal=goal, limit=LIMIT)


async def _task(pipeline: Pipeline, request: TaskRequest) -> tuple[float, float]:
    """Seconds until a worker could begin, and until it had computed."""
    begun = time.perf_counter()
    started = begun

    def start() -> None:
        nonlocal started
        started = time.perf_counter()

    async with pipeline.fetched(request, lambda _: None) as fetched:
        await pipeline.run(fetched, start)
        return started - begun, time.perf_counter() - begun


@asynccontextmanager
async def _pipeline(folder: Path, port: int) -> AsyncIterator[tuple[Pipeline, WeightsCache, TaskRequest]]:
    os.environ.update(CREDENTIALS)
    package = json.dumps(_FIRST_ROW).encode()
    model_id = hashlib.sha256(package).hexdigest()
    (folder / f"{model_id}.json").write_bytes(package)
    settings = ComputeSettings(
        token_file=folder / "token",
        allowed_prefixes="s3://bench",
        model_stores=f"file://{folder}",
        output_prefix=f"file://{folder}/outputs",
        s3_endpoint_url=f"http://127.0.0.1:{port}",
        device="cpu",
    )
    request = TaskRequest(
        execution_id="bench", task_id="weights", model_id=model_id, input_uris=[str(OBJECT)], output_count=1
    )
    weights = WeightsCache(4 * SIZE)
    storage = open_storage(settings)
    results = Results(folder / "state")
    pool = WorkerPool(worker_options(settings), plan_limit_s=settings.plan_limit_s)
    loader = InputLoader(storage, HostMemory(weights.reclaim), weights)
    serving_pool = asyncio.create_task(pool.serve())
    try:
        yield Pipeline(settings, storage, pool, results, loader), weights, request
    finally:
        serving_pool.cancel()
        await asyncio.wait({serving_pool})
        storage.close()
        await results.close()
