"""Bounds for the memory that an operator takes beside its inputs and outputs while it runs, in bytes.

Bounds, not estimates: torch's kernels differ between devices, dtypes and strides, and a task's memory must be known
before it runs. tests/unit/test_graph_workspace.py holds them to what torch's allocator gives.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from compute.graph.operator import Kind, Workspace
from compute.graph.task_graph import Node, Ref, references
from compute.specs import DType, TensorSpec

WIDEST = 8
"""Bytes of the widest dtype, to which a kernel may cast."""
ACCUMULATED = 4
"""Bytes of the narrowest dtype in which products are added up."""
BY_LIBRARIES = 1 << 20
"""What a library's kernel takes whatever the shapes, mostly past torch's allocator: buffers, packed tiles."""
TILE = 60 * 60
"""Elements of the square by which torch transposes while it copies. A tensor of fewer is copied without it."""
BLOCK = 16
"""Channels that a library's convolution lays beside each other: fewer are filled up, in a copy of the whole tensor."""
PER_STEP = 1 << 10
"""Bytes of the tensors, past their elements, that one step of an LSTM leaves until the last one."""
QUERY_ROWS, KEY_COLUMNS = 256, 512
"""The most scores that each thread has at once in torch's attention on a CPU."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A node with what is known of its tensors."""

    node: Node
    known: Mapping[str, tuple[TensorSpec, ...]]
    threads: int

    @property
    def inputs(self) -> list[TensorSpec]:
        return [self.spec(ref) for ref in self.node.references() if self.known[ref.name]]

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
        return _width(self.tensors)

    @property
    def one_dtype(self) -> bool:
        """Nothing is cast. Truth values are, to int64 or float32, where they meet a number."""
        dtypes = {spec.dtype for spec in self.tensors}
        kinds = {self.node.operator.parameters[name].kind for name in self.node.arguments}
        return len(dtypes) <= 1 and not (DType.BOOL in dtypes and Kind.NUMBER in kinds)

    def argument(self, name: str) -> TensorSpec:
        ref = self.node.arguments[name]
        assert isinstance(ref, Ref)
        return self.spec(ref)

    def spec(self, ref: Ref) -> TensorSpec:
        return self.known[ref.name][ref.item or 0]


def workspace_bytes(node: Node, known: Mapping[str, tuple[TensorSpec, ...]], threads: int) -> int:
    """`known`: the tensors of every input and of the nodes up to this one, as in Inference.values.

    `threads`: with how many torch computes.
    """
    call = _Call(node, known, threads)
    copied = [] if node.operator.workspace is Workspace.NONE else call.tensors
    return _BOUNDS[node.operator.workspace](call) + transposing_bytes(copied)


def transposing_bytes(copied: Iterable[TensorSpec]) -> int:
    """What copying one of these takes beside its copy where it lies transposed in memory.

    torch has one tile at a time, of the tensor's dtype, for uint8 of four bytes an element.
    """
    large = [spec for spec in copied if spec.elements >= TILE]
    return TILE * _width(large) if large else 0


def _width(tensors: Iterable[TensorSpec]) -> int:
    return max([ACCUMULATED, *(spec.dtype.itemsize for spec in tensors)])


def _casts(call: _Call) -> int:
    """Where all dtypes are one, kernels read and write in place whatever the strides."""
    return 0 if call.one_dtype else WIDEST * call.elements


def _sums(call: _Call) -> int:
    """Halves are added up as float32, of which a mean, or a sum over repeated elements, makes a whole copy."""
    if not call.one_dtype:
        return _casts(call)
    return ACCUMULATED * call.elements if call.output.dtype.itemsize < ACCUMULATED else 0


def _copy(call: _Call) -> int:
    """What is strided is copied as it is, indices as int64: torch reads it only as a whole."""
    return sum(
        spec.elements * (WIDEST if spec.dtype is DType.INT32 else spec.dtype.itemsize) for spec in call.tensors
    )


def _copies(call: _Call) -> int:
    return 2 * WIDEST * call.elements


def _product(call: _Call) -> int:
    """Factors that are repeated along a batch are copied for each of its matrices, strided ones once."""
    batch = math.prod(call.output.shape[:-2])
    repeated = sum(batch * math.prod(spec.shape[-2:]) for spec in call.inputs if len(spec.shape) > 2)
    return BY_LIBRARIES + call.width * (repeated + call.elements)


def _attention(call: _Call) -> int:
    """Scores, their softmax and the mask; keys and values for every head of the queries.

    Or, without a score beyond them, each thread's tile: scores twice, where halves are brought back to halves, and
    what its queries gather.
    """
    query, key, value = (call.argument(name) for name in ("query", "key", "value"))
    scores = math.prod(query.shape[:-1]) * key.shape[-2]
    heads = math.prod(query.shape[:-2])
    spread = heads * key.shape[-2] * (key.shape[-1] + value.shape[-1])
    rows, columns = min(query.shape[-2], QUERY_ROWS), min(key.shape[-2], KEY_COLUMNS)
    tiles = call.threads * rows * 2 * (columns + value.shape[-1] + 2)
    return BY_LIBRARIES + call.width * (max(3 * scores, tiles) + spread + 2 * call.elements)


def _convolution(call: _Call) -> int:
    """The input unrolled to one column for each place of the window, or every tensor in blocks of channels."""
    signal, weight, output = call.argument("input"), call.argument("weight"), call.output
    window = math.prod(weight.shape[2:])
    places = max(math.prod(spec.shape[2:]) for spec in (signal, output))
    unrolled = signal.shape[0] * max(signal.shape[1], output.shape[1]) * window * places
    images = sum(
        spec.shape[0] * _filled_up(spec.shape[1]) * math.prod(spec.shape[2:]) for spec in (signal, output)
    )
    blocked = images + _filled_up(weight.shape[0]) * _filled_up(weight.shape[1]) * window
    return BY_LIBRARIES + call.width * (max(unrolled, blocked) + 2 * call.elements)


def _filled_up(channels: int) -> int:
    return -(-channels // BLOCK) * BLOCK


def _recurrent(call: _Call) -> int:
    """Four gates and what they are made of, for every step, and what torch keeps of each step however small it is."""
    states = next(references(call.node.arguments["hx"]))
    steps = call.argument("input").shape[1 if call.node.arguments["batch_first"] else 0]
    layers = call.spec(states).shape[0]
    return BY_LIBRARIES + call.width * 12 * call.elements + PER_STEP * layers * steps


_BOUNDS: Mapping[Workspace, Callable[[_Call], int]] = {
    Workspace.NONE: lambda _: 0,
    Workspace.CASTS: _casts,
    Workspace.SUMS: _sums,
    Workspace.COPY: _copy,
    Workspace.COPIES: _copies,
    Workspace.PRODUCT: _product,
    Workspace.ATTENTION: _attention,
    Workspace.CONVOLUTION: _convolution,
    Workspace.RECURRENT: _recurrent,
}
