"""The second task on the same weights beside the first, which fetches them, through a real compute process.

Each round has weights of its own, on a server of ours in memory; the best round of each counts.
"""

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.compute.objects import path_of, weights_object
from bench.compute.s3 import CREDENTIALS, serving
from bench.compute.weights import COLUMNS, SIZE, TINY_SIZE
from bench.cuda.device import device_name
from bench.lines import Goal, Line
from compute.specs import DType, TensorSpec
from shared.messages import Stage
from shared.uris import parse_object_uri
from tests.integration.compute_process import ComputeProcess, compute_process
from tests.integration.compute_tasks import call, ref, request, tensor

ROUNDS = 4
LINES = (
    Line(
        "second task on the same weights on the device, start, beside the first",
        "a second",
        None,
        goal=Goal("ratio", ">=", 10),
        limit="What both have in common: reading the object's header, planning, and taking memory for the outputs.",
    ),
    Line("second task on the same weights on the device, computed, beside the first", "a second", None),
)
_FIRST_ROW = {
    "inputs": [tensor("w", ["n", "m"])],
    "nodes": [
        call("row", "aten.select.int", self=ref("w"), dim=0, index=0),
        call("sum", "aten.add.Tensor", self=ref("row"), other=ref("row")),
    ],
    "outputs": [ref("sum")],
}


async def measure(*, is_tiny: bool) -> list[Line]:
    return await asyncio.to_thread(_measure, is_tiny)


def _measure(is_tiny: bool) -> list[Line]:
    size = TINY_SIZE if is_tiny else SIZE
    spec = TensorSpec(DType.FLOAT32, (size // COLUMNS // 4, COLUMNS))
    uris = [parse_object_uri(f"s3://bench/public/weights-{number}") for number in range(2 if is_tiny else ROUNDS)]
    os.environ.update(CREDENTIALS)
    first: list[tuple[float, float]] = []
    second: list[tuple[float, float]] = []
    with (
        serving({path_of(uri): weights_object(spec) for uri in uris}) as port,
        TemporaryDirectory() as folder,
        compute_process(Path(folder), device="cuda", **_settings(Path(folder), port)) as compute,
    ):
        for uri in uris:
            first.append(_lasted(compute, str(uri)))
            second.append(_lasted(compute, str(uri)))
    unit = f"a second, {size // 1_000_000} MB, {device_name()}"
    # The first round has the worker's and the libraries' start in it.
    best = [[min(times) for times in zip(*rounds[1:], strict=True)] for rounds in (first, second)]
    return [
        replace(line, unit=unit, ours=1 / again, peer=1 / once)
        for line, once, again in zip(LINES, *best, strict=True)
    ]


def _settings(folder: Path, port: int) -> dict[str, object]:
    return {
        "s3_endpoint_url": f"http://127.0.0.1:{port}",
        "allowed_prefixes": f"s3://bench,file://{folder}/tensors",
        "weights_cache_bytes": 2 * ROUNDS * SIZE,
    }


def _lasted(compute: ComputeProcess, uri: str) -> tuple[float, float]:
    """Seconds from when the task was taken up until it ran, and until it had run."""
    body = request(compute.put_package(_FIRST_ROW), [uri])
    compute.post(body)
    status = compute.ended(body)
    if status["stage"] != Stage.DONE:
        raise RuntimeError(f"the task ended so: {status}")
    at = {stage["stage"]: stage["at"] for stage in status["stages"]}
    return at[Stage.RUNNING] - at[Stage.FETCHING], at[Stage.STORING] - at[Stage.FETCHING]
