"""No operator takes more than ten times as long for each unit of cost as a matmul, counted by the thread's own clock.

Processor time on one thread, the best of several runs: what else the machine does changes neither by a factor of
ten. A try that is too slow is repeated beside a new matmul, later and later, before it counts. The matmul is one of
float32 or of the operator's own dtype, whichever is slower here: a processor without half arithmetic takes 40 times as
long for float16.
"""

import time
import warnings
from functools import cache

import pytest
import torch

from compute.graph.cost import node_cost
from compute.graph.operator import Operator
from compute.graph.shapes import infer
from compute.graph.steps import SPEC_DTYPES
from compute.specs import DType, TensorSpec
from compute.worker.program import Program
from shared.errors import ComputationFailed, GraphInvalid
from tests.unit.graphs import Document, read
from tests.unit.hostile_calls import CALLS
from tests.unit.samples import TORCH_OPERATORS, drawn_inputs, sample

MOST = 10
SIDE = 128
PAUSES_S = (0.0, 0.1, 0.5, 2.0, 5.0, 10.0)
"""Before each try: another process that shares the core's caches for a moment must not fill them all."""
RUNS = 3
DTYPES = (DType.FLOAT32, DType.INT64)
HOSTILE_DTYPES = (DType.FLOAT32, DType.FLOAT64, DType.BFLOAT16, DType.FLOAT16, DType.INT8)
SUBNORMAL = {DType.FLOAT32: 1e-40, DType.FLOAT64: 1e-310, DType.BFLOAT16: 1e-40}
CPU = torch.device("cpu")


def seconds_per_cost(doc: Document, value: float | None = None) -> float:
    """The best of a few runs, on drawn numbers or on `value` alone.

    Raises GraphInvalid or ComputationFailed for a dtype that the operator does not take.
    """
    graph, inputs = read(doc), drawn_inputs(doc)
    for each in inputs:
        if value is not None and each.is_floating_point():
            each.fill_(value)
    specs = [TensorSpec(SPEC_DTYPES[tensor.dtype], tuple(tensor.shape)) for tensor in inputs]
    inference = infer(graph, specs, max_bytes=1 << 32)
    program = Program(graph)
    best = float("inf")
    for _ in range(RUNS):
        before = time.thread_time()
        program.run(inputs, lambda: False, CPU)
        best = min(best, time.thread_time() - before)
    return best / sum(node_cost(node, inference) for node in graph.nodes)


@cache
def matmul_of(dtype: DType) -> float:
    return (
        seconds_per_cost(sample("aten.mm.default", 128, dtype)) if dtype.startswith(("float", "bfloat")) else 0.0
    )


def ratio_to_matmul(doc: Document, dtype: DType, value: float | None) -> float:
    return seconds_per_cost(doc, value) / max(seconds_per_cost(sample("aten.mm.default", 512)), matmul_of(dtype))


def slowest(doc: Document, dtype: DType, value: float | None = None) -> float | None:
    """The first ratio within the bound, or the best of all tries; nothing where torch does not take the dtype."""
    best = float("inf")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of odd dtypes, which is its answer to them
        for pause_s in PAUSES_S:
            time.sleep(pause_s)
            try:
                best = min(best, ratio_to_matmul(doc, dtype, value))
            except (GraphInvalid, ComputationFailed):
                return None
            if best <= MOST:
                break
    return best


@pytest.fixture(autouse=True)
def one_thread() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("operator", TORCH_OPERATORS, ids=lambda operator: operator.name)
def test_an_operator_costs_at_most_ten_times_a_matmuls_time(operator: Operator) -> None:
    for dtype in DTYPES:
        ratio = slowest(sample(operator.name, SIDE, dtype), dtype)
        assert ratio is None or ratio <= MOST, f"{operator.name} on {dtype}: {ratio:.1f}"


@pytest.mark.parametrize("operator", TORCH_OPERATORS, ids=lambda operator: operator.name)
def test_so_it_does_on_numbers_that_kernels_take_their_time_over(operator: Operator) -> None:
    for dtype, subnormal in SUBNORMAL.items():
        for value in (subnormal, -subnormal, float("inf"), float("nan"), torch.finfo(getattr(torch, dtype)).max):
            ratio = slowest(sample(operator.name, SIDE, dtype), dtype, value)
            assert ratio is None or ratio <= MOST, f"{operator.name} on {dtype}, {value}: {ratio:.1f}"


@pytest.mark.parametrize("name", CALLS)
def test_so_it_does_for_the_calls_that_take_the_longest_for_their_size(name: str) -> None:
    ratios = {dtype: slowest(CALLS[name](dtype), dtype) for dtype in HOSTILE_DTYPES}
    taken = {dtype: ratio for dtype, ratio in ratios.items() if ratio is not None}
    assert taken
    assert all(ratio <= MOST for ratio in taken.values()), {
        dtype: round(ratio, 1) for dtype, ratio in taken.items()
    }
