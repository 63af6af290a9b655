"""Every figure here is computed by hand from the formula in docs/task-graph.md."""

import pytest

from compute.graph.cost import compute_units
from compute.graph.shapes import infer
from compute.specs import DType, TensorSpec
from tests.unit.graphs import document, node, read, ref, tensor
from tests.unit.node_costs import NODE, costs, inputs


def test_an_elementwise_node_costs_16_for_each_byte_moved() -> None:
    doc = document(inputs(2, 2), [node("n", "aten.add.Tensor", self=ref("x0"), other=ref("x1"))], [ref("n")])
    # two inputs and one output of 4,000,000 bytes
    assert costs(doc, (1000, 1000), (1000, 1000)) == [NODE + 16 * 12_000_000]


def test_a_view_counts_its_bytes_too_and_one_tensor_named_twice_counts_twice() -> None:
    nodes = [
        node("wide", "aten.expand.default", self=ref("x0"), size=[10, 5]),
        node("square", "aten.mul.Tensor", self=ref("wide"), other=ref("wide")),
    ]
    doc = document(inputs(1), nodes, [ref("square")])
    # 5 floats in, 50 out; 50 twice in, 50 out
    assert costs(doc, (5,)) == [NODE + 16 * 220, NODE + 16 * 600]


def test_dtypes_count_by_their_bytes() -> None:
    doc = document(
        [tensor("x", ["n"], "int8")],
        [node("n", "aten._to_copy.default", self=ref("x"), dtype="float64")],
        [ref("n")],
    )
    assert costs(doc, (1000,)) == [NODE + 16 * (1000 + 8000)]


def test_nodes_on_sizes_cost_nothing() -> None:
    nodes = [
        node("rows", "size.of", self=ref("x0"), dim=0),
        node("twice", "size.mul", a=ref("rows"), b=2),
        node("y", "aten.zeros.default", size=[ref("twice")]),
    ]
    assert costs(document(inputs(1), nodes, [ref("y")]), (8,)) == [0, 0, NODE + 16 * 64]


def test_several_results_all_count() -> None:
    doc = document(inputs(1), [node("n", "aten.chunk.default", self=ref("x0"), chunks=4)], [ref("n", 0)])
    assert costs(doc, (1000,)) == [NODE + 16 * 8000]


@pytest.mark.parametrize(
    ("nodes", "units"),
    [(0, 1), (1, 1), (999, 1), (1000, 1), (1001, 2), (2000, 2), (2001, 3)],
)
def test_units_are_thousand_millions_rounded_up_and_at_least_one(nodes: int, units: int) -> None:
    """A node on an empty tensor costs exactly a million, so a thousand of them are one unit."""
    chain = [node(f"n{i}", "aten.neg.default", self=ref(f"n{i - 1}" if i else "x0")) for i in range(nodes)]
    graph = read(document(inputs(1), chain, [ref(f"n{nodes - 1}" if nodes else "x0")]))
    inference = infer(graph, [TensorSpec(DType.FLOAT32, (0,))], max_bytes=1)
    assert compute_units(graph, inference) == units
