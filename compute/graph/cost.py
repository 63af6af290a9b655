"""computeUnits: what a task costs, counted from the shapes alone, the same on every machine.

cost = sum over nodes of (1e6 + max(floating-point operations, 16 x bytes moved)), where a multiply-add is two
operations; computeUnits = ceil(cost / 1e9), at least 1.
"""

import math

from compute.graph.inference import Inference
from compute.graph.operators import Cost
from compute.graph.task_graph import Node, Ref, TaskGraph
from compute.specs import TensorSpec

NODE_COST = 1_000_000
COST_PER_BYTE = 16
COST_PER_UNIT = 1_000_000_000


def compute_units(graph: TaskGraph, inference: Inference) -> int:
    """The computeUnits of one run of `graph` on the shapes of `inference`."""
    cost = sum(node_cost(node, inference) for node in graph.nodes)
    return max(1, -(-cost // COST_PER_UNIT))


def node_cost(node: Node, inference: Inference) -> int:
    """What one node adds to the cost. Bytes moved are those of its tensors, in and out, views included.

    A tensor that is named twice among the arguments counts twice. A node on sizes costs nothing.
    """
    if node.operator.cost is Cost.NOTHING:
        return 0
    tensors = [inference.spec(ref) for ref in node.references() if inference.values[ref.name]]
    moved = sum(tensor.nbytes for tensor in (*tensors, *inference.values[node.name]))
    return NODE_COST + max(_operations(node, inference), COST_PER_BYTE * moved)


def _operations(node: Node, inference: Inference) -> int:
    """Floating-point operations. Only products can have more than 16 to a byte, so only they are counted."""
    output = inference.values[node.name]

    def spec(name: str) -> TensorSpec:
        ref = node.arguments[name]
        assert isinstance(ref, Ref)
        return inference.spec(ref)

    match node.operator.cost:
        case Cost.LINEAR:
            return 2 * output[0].elements * spec("input").shape[-1]
        case Cost.MATMUL:
            # The left factor: `self`, or the second argument where `self` is what is added.
            left = next(name for name in ("mat1", "batch1", "self") if name in node.arguments)
            return 2 * output[0].elements * spec(left).shape[-1]
        case Cost.ATTENTION:
            query, key, value = spec("query"), spec("key"), spec("value")
            scores = math.prod(query.shape[:-1]) * key.shape[-2]
            return 2 * scores * (query.shape[-1] + value.shape[-1])
        case _:
            return 0
