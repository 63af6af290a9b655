"""The memory that each operator takes beside its inputs and outputs stays below its bound."""

import warnings

import pytest
import torch

from compute.graph.operator import Operator
from compute.graph.shapes import infer
from compute.graph.steps import SPEC_DTYPES
from compute.graph.workspace import workspace_bytes
from compute.specs import DType, TensorSpec
from compute.worker.program import Program
from shared.errors import ComputationFailed, GraphInvalid
from tests.unit.graphs import Document, read
from tests.unit.samples import TORCH_OPERATORS, drawn_inputs, sample

SIDE = 64
"""Large enough that copies of tensors stand out beside torch's small buffers."""
SMALL = 1 << 16
DTYPES = (DType.FLOAT32, DType.BFLOAT16, DType.INT64)


def peak_bytes(doc: Document, inputs: list[torch.Tensor]) -> int:
    """The most that torch's allocator held while the graph ran, inputs excluded."""
    program = Program(read(doc))
    with torch.profiler.profile(profile_memory=True) as profile:
        program.run(inputs, lambda: False, torch.device("cpu"))
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


@pytest.mark.parametrize("operator", TORCH_OPERATORS, ids=lambda operator: operator.name)
def test_an_operator_takes_no_more_than_its_bound(operator: Operator) -> None:
    for dtype in DTYPES:
        doc = sample(operator.name, SIDE, dtype)
        inputs = drawn_inputs(doc)
        specs = [TensorSpec(SPEC_DTYPES[tensor.dtype], tuple(tensor.shape)) for tensor in inputs]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of odd dtypes, which is its answer to them
            try:
                inference = infer(read(doc), specs, max_bytes=1 << 30)
                peak = peak_bytes(doc, inputs)
            except (GraphInvalid, ComputationFailed):
                continue
        (node,) = read(doc).nodes
        given = sum(spec.nbytes for spec in inference.values[node.name])
        copied = sum(spec.nbytes for spec in inference.outputs)
        assert peak <= given + copied + workspace_bytes(node, inference.values) + SMALL, dtype
