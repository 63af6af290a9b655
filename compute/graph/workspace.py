"""Bounds for the memory that an operator takes beside its inputs and outputs while it runs, in bytes.

Bounds, not estimates: torch's kernels differ between devices, dtypes and strides, and a task's memory must be known
before it runs. tests/unit/test_graph_workspace.py holds them against what torch allocates.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from compute.graph.operator import Workspace
from compute.graph.task_graph import Node, Ref
from compute.specs import TensorSpec

WIDEST = 8
"""Bytes of the widest dtype, to which a kernel may cast."""
ACCUMULATED = 4
"""Bytes of the narrowest dtype in which products are added up."""
SMALL = 1 << 20
"""What a kernel takes whatever the shapes: buffers of each thread, packed tiles."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A node with what is known of its tensors."""

    node: Node
    known: Mapping[str, tuple[TensorSpec, ...]]

    @property
    def inputs(self) -> list[TensorSpec]:
        return [self._spec(ref) for ref in self.node.references() if self.known[ref.name]]

    @property
    def tensors(self) -> list[TensorSpec]:
        return [*self.inputs, *self.known[self.node.name]]

    @property
    def output(self) -> TensorSpec:
        return self.known[self.node.name][0]

    @property
    def elements(self) -> int:
        return sum(spec.elements for spec in self.tensors)

    @property
    def width(self) -> int:
        """Bytes of an element while it is computed with."""
        return max(ACCUMULATED, *(spec.dtype.itemsize for spec in self.tensors))

    def argument(self, name: str) -> TensorSpec:
        ref = self.node.arguments[name]
        assert isinstance(ref, Ref)
        return self._spec(ref)

    def _spec(self, ref: Ref) -> TensorSpec:
        return self.known[ref.name][ref.item or 0]


def workspace_bytes(node: Node, known: Mapping[str, tuple[TensorSpec, ...]]) -> int:
    """`known`: the tensors of every input and of the nodes up to this one, as in Inference.values."""
    return _BOUNDS[node.operator.workspace](_Call(node, known))


def _casts(call: _Call) -> int:
    """Where all dtypes are one, kernels read and write in place whatever the strides."""
    return 0 if len({spec.dtype for spec in call.tensors}) <= 1 else WIDEST * call.elements


def _copies(call: _Call) -> int:
    return 2 * WIDEST * call.elements


def _product(call: _Call) -> int:
    """Factors that are repeated along a batch are copied for each of its matrices, strided ones once."""
    batch = math.prod(call.output.shape[:-2])
    repeated = sum(batch * math.prod(spec.shape[-2:]) for spec in call.inputs if len(spec.shape) > 2)
    return SMALL + call.width * (repeated + call.elements)


def _attention(call: _Call) -> int:
    """Scores, their softmax and the mask; keys and values for every head of the queries."""
    query, key, value = (call.argument(name) for name in ("query", "key", "value"))
    scores = math.prod(query.shape[:-1]) * key.shape[-2]
    heads = math.prod(query.shape[:-2])
    spread = heads * key.shape[-2] * (key.shape[-1] + value.shape[-1])
    return SMALL + call.width * (3 * scores + spread + 2 * call.elements)


def _convolution(call: _Call) -> int:
    """The input unrolled to one column for each place of the window."""
    signal, weight = call.argument("input"), call.argument("weight")
    window = math.prod(weight.shape[2:])
    places = max(math.prod(spec.shape[2:]) for spec in (signal, call.output))
    channels = max(signal.shape[1], call.output.shape[1])
    return SMALL + call.width * (signal.shape[0] * channels * window * places + 2 * call.elements)


def _recurrent(call: _Call) -> int:
    """Four gates and what they are made of, for every step."""
    return SMALL + call.width * 12 * call.elements


_BOUNDS: Mapping[Workspace, Callable[[_Call], int]] = {
    Workspace.NONE: lambda _: 0,
    Workspace.CASTS: _casts,
    Workspace.COPIES: _copies,
    Workspace.PRODUCT: _product,
    Workspace.ATTENTION: _attention,
    Workspace.CONVOLUTION: _convolution,
    Workspace.RECURRENT: _recurrent,
}
