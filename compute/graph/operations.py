"""How many floating-point operations a node is counted with, from its shapes and arguments.

Products, windows and recurrences have a formula. Kernels also spend time on what is no arithmetic: each row that is
reduced, each matrix of a batch, each group of a convolution. A node that is little else would be nearly free, so every
formula has a floor, out of what was measured on a CPU: far less than ten times a matmul's time for each unit.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from compute.graph.inference import Inference
from compute.graph.operator import Cost
from compute.graph.task_graph import Argument, Node, references
from compute.specs import DType, TensorSpec

NODE_COST = 1_000_000
WHOLE_NUMBERS = frozenset({DType.INT64, DType.INT32, DType.INT16, DType.INT8, DType.UINT8, DType.BOOL})
PLAIN_RANK = 4
"""Dimensions up to which an element takes no longer for the order in which a tensor is walked."""
PER_TENSOR = 20_000
"""For each tensor that a node takes or gives in a list."""
PER_VALUE = 512
"""For each value of a function that takes its time over some: subnormal numbers, infinities."""
PER_MATRIX = 2_000
PER_HEAD = 10_000
"""For each head of each query batch that attention computes."""
LEAST_HEAD = 48
"""Elements of query and value together that a score counts at least: its softmax takes time as well."""
PER_PLACE = 128
"""For each element that a convolution gives: a transposed one may spread its window far."""
PER_GROUP = 100_000
"""For each group of a convolution: where no kernel takes them together, they are computed one by one."""
PER_SIGNAL = 20_000
"""For each group of each element of a convolution's batch, likewise."""
LEAST_FILTERS = 16
"""Filters that each unrolled element of a convolution's input meets at least: unrolling takes time as well."""
PER_WINDOW_ELEMENT = 64
PER_STATE = 2_048
"""For each element of an LSTM's hidden state at each step: its gates are computed one operator after the other."""


def operations(node: Node, inference: Inference) -> int:
    """0 for an operator whose bytes moved say it all."""
    tensors = _Tensors(node, inference)
    count = _COUNTS.get(node.operator.cost)
    return max(count(tensors) if count else 0, *(_scattered(spec) for spec in tensors.all))


@dataclass(frozen=True, slots=True)
class _Tensors:
    """The tensors of one node."""

    node: Node
    inference: Inference

    @property
    def all(self) -> list[TensorSpec]:
        given = [self.inference.spec(ref) for ref in self.node.references() if self.inference.values[ref.name]]
        return [*given, *self.inference.values[self.node.name]]

    @property
    def output(self) -> TensorSpec:
        return self.inference.values[self.node.name][0]

    def argument(self, name: str) -> TensorSpec:
        (spec,) = self.arguments(name)
        return spec

    def arguments(self, name: str) -> list[TensorSpec]:
        return [self.inference.spec(ref) for ref in references(self.node.arguments[name])]

    def value(self, name: str, otherwise: Argument = None) -> Argument:
        return self.node.arguments.get(name, otherwise)


def _scattered(spec: TensorSpec) -> int:
    """Permuted, many short dimensions are walked element by element, with one counter for each."""
    rank = len(spec.shape)
    return 8 * rank**2 * spec.elements if rank > PLAIN_RANK else 0


def _lists(tensors: _Tensors) -> int:
    listed = sum(len(list(references(given))) for given in tensors.node.arguments.values() if type(given) is tuple)
    return PER_TENSOR * (listed + len(tensors.inference.values[tensors.node.name]))


def _reduced(tensors: _Tensors) -> int:
    return max(64 * tensors.argument("self").elements, 1_024 * tensors.output.elements)


def _statistics(tensors: _Tensors) -> int:
    return max(128 * tensors.argument("self").elements, 2_048 * tensors.output.elements)


def _normalised(tensors: _Tensors) -> int:
    """Each row has a mean, a sum or a maximum of its own."""
    return max(128 * tensors.output.elements, 1_024 * _rows(tensors))


def _functions(tensors: _Tensors) -> int:
    return PER_VALUE * tensors.output.elements


def _powers(tensors: _Tensors) -> int:
    """Of whole numbers by repeated multiplication, up to 63 times."""
    whole = tensors.output.dtype in WHOLE_NUMBERS
    return (1_024 if whole else 128) * tensors.output.elements


def _indexed(tensors: _Tensors) -> int:
    """Each element looks every index up."""
    return 64 * tensors.output.elements * len(tensors.arguments("indices"))


def _triangle(tensors: _Tensors) -> int:
    """A row at a time, however short."""
    return 512 * _over(tensors.output, -1)


def _sorted(tensors: _Tensors) -> int:
    """A row is sorted, or brought into a heap of the `k` that are wanted."""
    taken = tensors.output.shape
    dim = tensors.value("dim", -1)
    k = (taken[dim] if isinstance(dim, int) else max(taken)) if taken else 1
    return 100 * tensors.argument("self").elements * (1 + k.bit_length())


def _rows(tensors: _Tensors) -> int:
    """How often a normalisation sums up. A size that an earlier node gives counts as the most that it can be."""
    shape, groups = tensors.output.shape, tensors.value("num_groups")
    if groups is not None:
        return shape[0] * (groups if isinstance(groups, int) else shape[1])
    lengths, dim = tensors.value("normalized_shape"), tensors.value("dim")
    if isinstance(lengths, tuple):
        return math.prod(shape[: len(shape) - len(lengths)])
    return _over(tensors.output, dim) if isinstance(dim, int) else tensors.output.elements


def _over(spec: TensorSpec, dim: int) -> int:
    """The number of rows along a dimension."""
    return spec.elements // max(1, spec.shape[dim]) if spec.shape else 1


def _linear(tensors: _Tensors) -> int:
    return 2 * tensors.output.elements * tensors.argument("input").shape[-1]


def _matmul(tensors: _Tensors) -> int:
    # The left factor: `self`, or the second argument where `self` is what is added.
    left = next(name for name in ("mat1", "batch1", "self") if name in tensors.node.arguments)
    products = 2 * tensors.output.elements * tensors.argument(left).shape[-1]
    return max(products, PER_MATRIX * math.prod(tensors.output.shape[:-2]))


def _attention(tensors: _Tensors) -> int:
    query, key, value = (tensors.argument(name) for name in ("query", "key", "value"))
    scores = math.prod(query.shape[:-1]) * key.shape[-2]
    products = 2 * scores * max(query.shape[-1] + value.shape[-1], LEAST_HEAD)
    return max(products, PER_HEAD * math.prod(query.shape[:-2]))


def _convolution(tensors: _Tensors) -> int:
    """Transposed, each element of the input meets the whole window of each filter, else each of the output."""
    weight, signal = tensors.argument("weight"), tensors.argument("input")
    places, channels = (
        (signal, signal.shape[1]) if tensors.value("transposed") else (tensors.output, weight.shape[0])
    )
    groups = tensors.value("groups")
    # A size that an earlier node gives is at most the number of channels.
    counted = groups if isinstance(groups, int) else signal.shape[1]
    products = 2 * places.elements * math.prod(weight.shape[1:])
    return max(
        products,
        products * LEAST_FILTERS * counted // channels,
        PER_PLACE * tensors.output.elements,
        PER_GROUP * counted,
        PER_SIGNAL * counted * signal.shape[0],
    )


def _resized(tensors: _Tensors) -> int:
    return 64 * tensors.output.elements


def _windows(tensors: _Tensors) -> int:
    """Each element of the output looks at as many elements of the input, at most."""
    kernel = tensors.value("kernel_size")
    if isinstance(kernel, tuple):
        sizes = [size for size in kernel if isinstance(size, int)]
        window = math.prod(sizes * 2 if len(sizes) == 1 else sizes)
    else:
        lengths = zip(tensors.argument("self").shape[-2:], tensors.output.shape[-2:], strict=True)
        window = math.prod(-(-length // pooled) + 1 for length, pooled in lengths)
    return PER_WINDOW_ELEMENT * tensors.output.elements * window


def _recurrent(tensors: _Tensors) -> int:
    """As if unrolled: each step of each layer and direction is a node, with two products and four gates."""
    signal, state = tensors.argument("input"), tensors.arguments("hx")[0]
    length = signal.shape[1 if tensors.value("batch_first") else 0]
    weights = sum(weight.elements for weight in tensors.arguments("params") if len(weight.shape) == 2)
    step = max(2 * state.shape[1] * weights, PER_STATE * state.elements)
    return length * (state.shape[0] * NODE_COST + step)


_COUNTS: Mapping[Cost, Callable[[_Tensors], int]] = {
    Cost.FUNCTIONS: _functions,
    Cost.LISTS: _lists,
    Cost.POWERS: _powers,
    Cost.REDUCED: _reduced,
    Cost.STATISTICS: _statistics,
    Cost.NORMALISED: _normalised,
    Cost.INDEXED: _indexed,
    Cost.TRIANGLE: _triangle,
    Cost.SORTED: _sorted,
    Cost.LINEAR: _linear,
    Cost.MATMUL: _matmul,
    Cost.ATTENTION: _attention,
    Cost.CONVOLUTION: _convolution,
    Cost.RESIZED: _resized,
    Cost.WINDOWS: _windows,
    Cost.RECURRENT: _recurrent,
}
