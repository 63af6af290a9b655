"""computeUnits: what a task costs, counted from the shapes alone, the same on every machine.

cost = sum over nodes of (1e6 + max(floating-point operations, 16 x bytes moved)), where a multiply-add is two
operations; computeUnits = ceil(cost / 1e9), at least 1.
"""

from compute.graph.inference import Inference
from compute.graph.operations import NODE_COST, operations
from compute.graph.operator import Cost
from compute.graph.task_graph import Node, TaskGraph

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
    return NODE_COST + max(operations(node, inference), COST_PER_BYTE * moved)
