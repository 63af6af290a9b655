"""A task graph as calls of torch: the one interpreter, for inference on meta tensors and for real runs."""

import operator as python_operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from compute.graph.arguments import INT64
from compute.graph.operator import Operator
from compute.graph.task_graph import Argument, Node, Ref, TaskGraph
from compute.specs import DType

Value = torch.Tensor | list[torch.Tensor] | int
Values = dict[str, Value]
Fill = Callable[[Values], object]
"""Gives one argument once the values that it refers to are there."""

TORCH_REFUSALS = (
    RuntimeError,
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
    AssertionError,
    AttributeError,
)
"""What torch raises for arguments that do not fit each other: from C++ the first four, from its Python meta
functions the others too. MemoryError is not among them."""

TORCH_DTYPES: Mapping[DType, torch.dtype] = {dtype: getattr(torch, dtype) for dtype in DType}
SPEC_DTYPES: Mapping[torch.dtype, DType] = {torch_dtype: dtype for dtype, torch_dtype in TORCH_DTYPES.items()}

LAID_OUT_ANEW = frozenset(
    {
        "aten.batch_norm.default",
        "aten.convolution.default",
        "aten.group_norm.default",
        "aten.lstm.input",
        "aten.pow.Scalar",
        "aten.scaled_dot_product_attention.default",
    }
)
"""What these give lies in memory as a device's kernel likes it, not as meta tensors tell. It is brought into the order
of its dimensions, or what was inferred as a view of it would be a copy that nobody counted."""


@dataclass(frozen=True, slots=True)
class Step:
    """One node, ready to be called. `last_uses`: the nodes whose values no later node and no output needs."""

    node: Node
    arguments: Mapping[str, Fill]
    call: Callable[[Values, torch.device], Value]
    last_uses: tuple[str, ...]

    def resolved(self, values: Values) -> dict[str, object]:
        """Its arguments by name, as torch is given them."""
        return {name: fill(values) for name, fill in self.arguments.items()}


def compile_steps(graph: TaskGraph) -> tuple[Step, ...]:
    """One step for each node, in order. Looks nothing up but allowlisted names among torch's operators."""
    last_uses = _last_uses(graph)
    return tuple(_step(node, last_uses[node.name]) for node in graph.nodes)


def resolve(ref: Ref, values: Values) -> Value:
    """The value that `ref` names. Raises IndexError where a node gave fewer tensors than the item asks for."""
    value = values[ref.name]
    if ref.item is None:
        return value
    assert isinstance(value, list)
    return value[ref.item]


def own_outputs(graph: TaskGraph, values: Values) -> list[torch.Tensor]:
    """The outputs, each contiguous in a memory of its own: views, inputs and repetitions are copied."""
    taken = {
        tensor.untyped_storage()._cdata for given in graph.inputs for tensor in tensors_of(values[given.name])
    }
    outputs = []
    for ref in graph.outputs:
        (output,) = tensors_of(resolve(ref, values))
        output = output.contiguous()
        if output.untyped_storage()._cdata in taken:
            output = output.clone()
        taken.add(output.untyped_storage()._cdata)
        outputs.append(output)
    return outputs


def tensors_of(value: Value) -> list[torch.Tensor]:
    if isinstance(value, int):
        return []
    return value if isinstance(value, list) else [value]


def _last_uses(graph: TaskGraph) -> dict[str, tuple[str, ...]]:
    """By node: which nodes' values may be freed after it, its own where nobody uses it. Inputs stay."""
    last: dict[str, str] = {}
    for node in graph.nodes:
        last[node.name] = node.name
        last.update((ref.name, node.name) for ref in node.references() if ref.name in last)
    kept = {ref.name for ref in graph.outputs}
    freed: dict[str, list[str]] = {node.name: [] for node in graph.nodes}
    for name, user in last.items():
        if name not in kept:
            freed[user].append(name)
    return {user: tuple(names) for user, names in freed.items()}


def _step(node: Node, last_uses: tuple[str, ...]) -> Step:
    arguments = {name: _fill(value) for name, value in node.arguments.items()}
    make_call = _size_call if node.operator.name in _SIZE_OPERATIONS else _torch_call
    return Step(node, arguments, make_call(node.operator, arguments), last_uses)


def _size_call(operator: Operator, arguments: Mapping[str, Fill]) -> Callable[[Values, torch.device], Value]:
    operation = _SIZE_OPERATIONS[operator.name]
    return lambda values, _: _checked_size(operation(*(fill(values) for fill in arguments.values())))


def _torch_call(operator: Operator, arguments: Mapping[str, Fill]) -> Callable[[Values, torch.device], Value]:
    overload, anew = _overload(operator), operator.name in LAID_OUT_ANEW
    named = dict(arguments)
    leading: list[Fill] = []
    fixed: dict[str, object] = dict(operator.fixed)
    # Torch takes positions faster than names; names begin where an argument is left out.
    for parameter in overload._schema.arguments:
        if parameter.kwarg_only or parameter.name not in named:
            break
        leading.append(named.pop(parameter.name))

    def call(values: Values, device: torch.device) -> Value:
        keywords = {name: fill(values) for name, fill in named.items()} | fixed
        if operator.creates:
            keywords["device"] = device
        result = overload(*(fill(values) for fill in leading), **keywords)
        value: Value = list(result) if isinstance(result, tuple) else result
        return _laid_out(value) if anew else value

    return call


def _laid_out(value: Value) -> Value:
    if isinstance(value, torch.Tensor):
        return value.contiguous()
    return [each.contiguous() for each in tensors_of(value)]


def _overload(operator: Operator) -> torch._ops.OpOverload:
    _, packet, overload = operator.name.split(".")
    found = getattr(getattr(torch.ops.aten, packet), overload)
    assert isinstance(found, torch._ops.OpOverload)
    return found


def _fill(value: Argument) -> Fill:
    if isinstance(value, Ref):
        return lambda values: resolve(value, values)
    if isinstance(value, tuple):
        parts = [_fill(element) for element in value]
        if any(isinstance(element, Ref) for element in value):
            return lambda values: [part(values) for part in parts]
        constant: object = [part({}) for part in parts]
        return lambda _: constant
    constant = TORCH_DTYPES[value] if isinstance(value, DType) else value
    return lambda _: constant


def _checked_size(size: object) -> int:
    if not isinstance(size, int) or size not in INT64:
        raise OverflowError("the size does not fit in 64 bits")
    return size


_SIZE_OPERATIONS: Mapping[str, Callable[..., object]] = {
    "size.of": torch.Tensor.size,
    "size.add": python_operator.add,
    "size.sub": python_operator.sub,
    "size.mul": python_operator.mul,
    "size.floordiv": python_operator.floordiv,
    "size.mod": python_operator.mod,
}


def first_line(exc: BaseException) -> str:
    """The first line of torch's message, escaped and short; the rest is advice to its developers."""
    text = str(exc).strip().partition("\n")[0]
    return (text or type(exc).__name__)[:300].encode("ascii", "backslashreplace").decode()
