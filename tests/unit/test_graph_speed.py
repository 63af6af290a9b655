"""No operator takes more than ten times as long for each unit of cost as a matmul, counted by the thread's own clock.

Processor time on one thread, the best of several tries: what else the machine does changes neither by a factor of
ten. A try that is too slow is repeated beside a new matmul before it counts.
"""

import time
import warnings

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
from tests.unit.samples import TORCH_OPERATORS, drawn_inputs, sample

MOST = 10
SIDE = 128
TRIES = 3
RUNS = 5
DTYPES = (DType.FLOAT32, DType.INT64)
CPU = torch.device("cpu")


def seconds_per_cost(doc: Document) -> float:
    """The best of a few runs. Raises GraphInvalid or ComputationFailed for a dtype that the operator does not take."""
    graph, inputs = read(doc), drawn_inputs(doc)
    specs = [TensorSpec(SPEC_DTYPES[tensor.dtype], tuple(tensor.shape)) for tensor in inputs]
    inference = infer(graph, specs, max_bytes=1 << 32)
    program = Program(graph)
    best = float("inf")
    for _ in range(RUNS):
        before = time.thread_time()
        program.run(inputs, lambda: False, CPU)
        best = min(best, time.thread_time() - before)
    return best / sum(node_cost(node, inference) for node in graph.nodes)


def ratio_to_matmul(doc: Document) -> float:
    return seconds_per_cost(doc) / seconds_per_cost(sample("aten.mm.default", 512))


@pytest.fixture(autouse=True)
def one_thread() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("operator", TORCH_OPERATORS, ids=lambda operator: operator.name)
def test_an_operator_costs_at_most_ten_times_a_matmuls_time(operator: Operator) -> None:
    for dtype in DTYPES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of odd dtypes, which is its answer to them
            try:
                ratio = min(ratio_to_matmul(sample(operator.name, SIDE, dtype)) for _ in range(TRIES))
            except (GraphInvalid, ComputationFailed):
                continue
        assert ratio <= MOST, f"{operator.name} on {dtype}: {ratio:.1f}"
