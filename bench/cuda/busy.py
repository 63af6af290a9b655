"""How busy the device is kept: what a stream of tasks takes of it, through the time from the first to the last.

What one task takes of the device is measured by the same graph in this process, back to back, by the device's clock.
The stream goes through a real compute process with its objects in a folder.
"""

import asyncio
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from bench.cuda.device import DEVICE, as_a_worker_computes, device_ms, device_name
from bench.lines import Goal, Line
from compute.specs import DType, TensorSpec
from compute.worker.program import Program
from shared.messages import Stage
from tests.integration.compute_process import ComputeProcess, compute_process
from tests.integration.compute_tasks import request
from tests.unit.graphs import Document, document, node, read, ref, tensor

SIDE, TINY_SIDE = 4_096, 64
PRODUCTS = 200
TASKS, TINY_TASKS = 60, 2
BEFORE = 4
"""Tasks that are not counted: the plan, the worker and its libraries come with them."""
LINES = (
    Line(
        f"device busy on a stream of tasks, {PRODUCTS} products of {SIDE} x {SIDE} in bfloat16 each",
        "of the time",
        None,
        goal=Goal("ours", ">=", 0.95),
        limit="Each task's tensors are copied to the device and back from memory that is not pinned, between its "
        "products and the next one's.",
    ),
)


async def measure(*, is_tiny: bool) -> list[Line]:
    return [await asyncio.to_thread(_measure, is_tiny)]


def _measure(is_tiny: bool) -> Line:
    side, tasks = (TINY_SIDE, TINY_TASKS) if is_tiny else (SIDE, TASKS)
    # Its square has about the size of the matrix, and so has each further product.
    matrix = (torch.randn(side, side) / side**0.5).to(torch.bfloat16)
    graph = _chain()
    wall_s = _stream(graph, matrix, tasks)
    busy_ms = tasks * _alone_ms(graph, matrix)
    (line,) = LINES
    return replace(line, unit=f"{line.unit}, {device_name()}", ours=busy_ms / 1000 / wall_s)


def _alone_ms(graph: Document, matrix: torch.Tensor) -> float:
    as_a_worker_computes()
    program, given = Program(read(graph)), [matrix.to(DEVICE)]
    return device_ms(lambda: program.run(given, lambda: False, DEVICE), 10)


def _chain() -> Document:
    names = ["x", *(f"p{number}" for number in range(PRODUCTS))]
    nodes = [node(name, "aten.mm.default", self=ref(before), mat2=ref("x")) for before, name in pairwise(names)]
    return document([tensor("x", ["n", "n"], "bfloat16")], nodes, [ref(names[-1])])


def _stream(graph: Document, matrix: torch.Tensor, tasks: int) -> float:
    """Seconds from when the first one ran until the last one had run."""
    with (
        TemporaryDirectory() as folder,
        compute_process(Path(folder), device="cuda", max_in_work=8, max_tasks=BEFORE + tasks) as compute,
    ):
        model = compute.put_package({name: graph[name] for name in ("inputs", "nodes", "outputs")})
        spec = TensorSpec(DType.BFLOAT16, tuple(matrix.shape))
        uri = compute.put_tensor("matrix", spec, matrix.view(torch.uint8).numpy().tobytes())
        _spans(compute, [request(model, [uri]) for _ in range(BEFORE)])
        spans = _spans(compute, [request(model, [uri]) for _ in range(tasks)])
        return max(end for _, end in spans) - min(begin for begin, _ in spans)


def _spans(compute: ComputeProcess, bodies: list[dict[str, object]]) -> list[tuple[float, float]]:
    """When each one ran: as many are posted at once as are asked for."""
    for body in bodies:
        compute.post(body)
    spans = []
    for body in bodies:
        status = compute.ended(body)
        if status["stage"] != Stage.DONE:
            raise RuntimeError(f"the task ended so: {status}")
        at = {stage["stage"]: stage["at"] for stage in status["stages"]}
        spans.append((at[Stage.RUNNING], at[Stage.STORING]))
    return spans
