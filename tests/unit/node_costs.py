"""What the nodes of a small graph cost, for the tests that compute it by hand from docs/task-graph.md."""

from compute.graph.cost import node_cost
from compute.graph.shapes import infer
from compute.specs import TensorSpec
from tests.unit.graphs import Document, read, tensor

NODE = 1_000_000
FAR = 2**50
CONVOLUTION = {
    "bias": None,
    "stride": [1, 1],
    "padding": [0, 0],
    "dilation": [1, 1],
    "output_padding": [0, 0],
    "groups": 1,
}


def costs(doc: Document, *shapes: tuple[int, ...]) -> list[int]:
    """The cost of each node on inputs of these shapes, each of the dtype that the document states."""
    graph = read(doc)
    specs = [TensorSpec(given.dtype, shape) for given, shape in zip(graph.inputs, shapes, strict=True)]
    inference = infer(graph, specs, max_bytes=FAR)
    return [node_cost(each, inference) for each in graph.nodes]


def inputs(*ranks: int) -> list[object]:
    return [tensor(f"x{place}", [f"d{place}_{dim}" for dim in range(rank)]) for place, rank in enumerate(ranks)]
