"""One operator after the other, as workers run a graph, beside a CUDA graph of the same kernels that is replayed.

The node keeps no CUDA graphs: these lines say what they would win.
"""

from dataclasses import replace

import torch

from bench.cuda.device import DEVICE, as_a_worker_computes, device_ms, device_name
from bench.lines import Line
from compute.worker.program import Program
from tests.unit.graphs import Document, document, node, read, ref, tensor

LAYERS = 32
TIMES, TINY_TIMES = 50, 1
ROWS = {"few rows": 8, "many rows": 16_384}
WIDTH = 1_024
LINES = tuple(
    Line(f"{LAYERS} linear layers of {WIDTH}, {what}, beside a CUDA graph of them", "ms", None) for what in ROWS
)


async def measure(*, is_tiny: bool) -> list[Line]:
    as_a_worker_computes()
    program = Program(read(_layers()))
    weights = torch.randn(WIDTH, WIDTH, device=DEVICE) / WIDTH**0.5
    lines = []
    for line, rows in zip(LINES, ROWS.values(), strict=True):
        given = [torch.randn(rows, WIDTH, device=DEVICE), weights]
        times = TINY_TIMES if is_tiny else TIMES
        ours = device_ms(lambda given=given: program.run(given, lambda: False, DEVICE), times)
        bare = device_ms(_captured(program, given).replay, times)
        lines.append(replace(line, unit=f"ms, {rows} rows, {device_name()}", ours=ours, bare=bare))
    return lines


def _layers() -> Document:
    nodes, before = [], "x"
    for number in range(LAYERS):
        nodes += [
            node(f"l{number}", "aten.linear.default", input=ref(before), weight=ref("w")),
            node(f"r{number}", "aten.relu.default", self=ref(f"l{number}")),
        ]
        before = f"r{number}"
    return document([tensor("x", ["rows", WIDTH]), tensor("w", [WIDTH, WIDTH])], nodes, [ref(before)])


def _captured(program: Program, given: list[torch.Tensor]) -> torch.cuda.CUDAGraph:
    beside = torch.cuda.Stream(DEVICE)
    with torch.cuda.stream(beside):  # capturing wants libraries that have begun on another stream than the first
        program.run(given, lambda: False, DEVICE)
    torch.cuda.synchronize(DEVICE)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=beside):
        program.run(given, lambda: False, DEVICE)
    return graph
