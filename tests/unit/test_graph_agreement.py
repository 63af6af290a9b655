"""What is inferred is what a run gives, for every operator and dtype."""

import warnings
from collections.abc import Sequence

import pytest
import torch

from compute.graph.operator import Operator
from compute.graph.shapes import infer
from compute.graph.steps import SPEC_DTYPES
from compute.specs import DType, TensorSpec
from compute.worker.program import Program
from shared.errors import ComputationFailed, GraphInvalid
from tests.unit.graphs import Document, read
from tests.unit.samples import TORCH_OPERATORS, drawn_inputs, sample

CPU = torch.device("cpu")
MIB = 1 << 20


def by_name(operator: Operator) -> str:
    return operator.name


def specs(tensors: Sequence[torch.Tensor]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(SPEC_DTYPES[tensor.dtype], tuple(tensor.shape)) for tensor in tensors)


def run_and_compare(doc: Document) -> None:
    """Raises GraphInvalid or ComputationFailed where inference, or only the run, refuses it."""
    graph, inputs = read(doc), drawn_inputs(doc)
    inferred = infer(graph, specs(inputs), max_bytes=64 * MIB)
    given = Program(graph).run(inputs, lambda: False, CPU)
    assert specs(given) == inferred.outputs


@pytest.mark.parametrize("operator", TORCH_OPERATORS, ids=by_name)
def test_each_operator_gives_what_is_inferred_of_it(operator: Operator) -> None:
    run_and_compare(sample(operator.name))


@pytest.mark.parametrize("dtype", DType)
def test_so_it_does_for_every_dtype_that_torch_takes(dtype: DType) -> None:
    taken = 0
    for operator in TORCH_OPERATORS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of odd dtypes, which is its answer to them
            try:
                run_and_compare(sample(operator.name, dtype=dtype))
                taken += 1
            except (GraphInvalid, ComputationFailed):
                continue
    # Of float8 torch can move, compare and convert elements, and no more.
    assert taken >= (20 if dtype.startswith("float8") else 75), taken
