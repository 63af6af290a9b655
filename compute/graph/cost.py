"""computeUnits: what a task costs, counted from the shapes alone, the same on every machine.

cost = sum over nodes of (1e6 + max(floating-point operations, 16 x bytes moved)), where a multiply-add is two
operations; computeUnits = ceil(cost / 1e9), at least 1.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from compute.graph.inference import Inference
from compute.graph.operator import Cost
from compute.graph.task_graph import Node, TaskGraph, references
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
    """Floating-point operations. Only products, windows and recurrences can have more than 16 to a byte."""
    count = _COUNTS.get(node.operator.cost)
    return count(_Tensors(node, inference)) if count else 0


@dataclass(frozen=True, slots=True)
class _Tensors:
    """The tensors of one node."""

    node: Node
    inference: Inference

    @property
    def output(self) -> TensorSpec:
        return self.inference.values[self.node.name][0]

    def argument(self, name: str) -> TensorSpec:
        (spec,) = self.arguments(name)
        return spec

    def arguments(self, name: str) -> list[TensorSpec]:
        return [self.inference.spec(ref) for ref in references(self.node.arguments[name])]


def _linear(tensors: _Tensors) -> int:
    return 2 * tensors.output.elements * tensors.argument("input").shape[-1]


def _matmul(tensors: _Tensors) -> int:
    # The left factor: `self`, or the second argument where `self` is what is added.
    left = next(name for name in ("mat1", "batch1", "self") if name in tensors.node.arguments)
    return 2 * tensors.output.elements * tensors.argument(left).shape[-1]


def _attention(tensors: _Tensors) -> int:
    query, key, value = (tensors.argument(name) for name in ("query", "key", "value"))
    scores = math.prod(query.shape[:-1]) * key.shape[-2]
    return 2 * scores * (query.shape[-1] + value.shape[-1])


def _convolution(tensors: _Tensors) -> int:
    """Transposed, each element of the input meets the whole window, else each of the output."""
    places = tensors.argument("input") if tensors.node.arguments["transposed"] else tensors.output
    return 2 * places.elements * math.prod(tensors.argument("weight").shape[1:])


def _windows(tensors: _Tensors) -> int:
    """One operation for each element of the input that an element of a pooled output looks at, at most."""
    kernel = tensors.node.arguments.get("kernel_size")
    if isinstance(kernel, tuple):
        sizes = [size for size in kernel if isinstance(size, int)]
        return tensors.output.elements * math.prod(sizes * 2 if len(sizes) == 1 else sizes)
    lengths = zip(tensors.argument("self").shape[-2:], tensors.output.shape[-2:], strict=True)
    return tensors.output.elements * math.prod(-(-length // pooled) + 1 for length, pooled in lengths)


def _recurrent(tensors: _Tensors) -> int:
    """As if unrolled: each step of each layer and direction is a node, with two products."""
    signal, states = tensors.argument("input"), tensors.arguments("hx")[0]
    length = signal.shape[1 if tensors.node.arguments["batch_first"] else 0]
    products = sum(weight.elements for weight in tensors.arguments("params") if len(weight.shape) == 2)
    return length * (states.shape[0] * NODE_COST + 2 * states.shape[1] * products)


_COUNTS: Mapping[Cost, Callable[[_Tensors], int]] = {
    Cost.LINEAR: _linear,
    Cost.MATMUL: _matmul,
    Cost.ATTENTION: _attention,
    Cost.CONVOLUTION: _convolution,
    Cost.WINDOWS: _windows,
    Cost.RECURRENT: _recurrent,
}
