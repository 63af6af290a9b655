"""One call of an exported program as one node of a task graph: the same function, written in the allowlist."""

import operator as python_operator
from collections.abc import Callable, Mapping

import torch

from compute.graph.operator import Kind, Operator
from compute.graph.operators import OPERATORS
from compute.graph.task_graph import Argument, Node, Ref
from compute.specs import DType
from requester.recurrent import LSTM
from shared.errors import OperatorNotAllowed

DROPPED = frozenset(
    {
        "aten._assert_tensor_metadata.default",
        "aten._assert_scalar.default",
        "aten.sym_constrain_range.default",
        "aten.sym_constrain_range_for_size.default",
    }
)
"""Checks made while exporting; a task's inputs are checked against its graph."""

IDENTITIES = frozenset(
    {
        "aten.alias.default",
        "aten.clone.default",
        "aten.contiguous.default",
        "aten.detach.default",
        "aten.lift_fresh_copy.default",
    }
)
"""Copies, which mean nothing where nothing is written to."""

RENAMED: Mapping[str, str] = {
    # Whether a view is possible depends on strides, which differ between devices; a reshape always is.
    "aten.view.default": "aten.reshape.default",
    "aten._unsafe_view.default": "aten.reshape.default",
    "aten.__and__.Tensor": "aten.bitwise_and.Tensor",
    "aten.__or__.Tensor": "aten.bitwise_or.Tensor",
    "aten.__xor__.Tensor": "aten.bitwise_xor.Tensor",
    "aten.sym_size.int": "size.of",
    # Without its second and third result, which only training gives.
    "aten._native_batch_norm_legit_no_training.default": "aten.batch_norm.default",
    LSTM: "aten.lstm.input",
}
_RENAMED_ARGUMENTS = {("aten.reshape.default", "size"): "shape"}

PYTHON_OPERATORS: Mapping[object, str] = {
    python_operator.add: "size.add",
    python_operator.sub: "size.sub",
    python_operator.mul: "size.mul",
    python_operator.floordiv: "size.floordiv",
    python_operator.mod: "size.mod",
}

_WITHOUT_EFFECT = frozenset(
    {
        "device",
        "layout",
        "pin_memory",
        "non_blocking",
        "memory_format",
        "implicit",
        "cudnn_enable",
        "cudnn_enabled",
        "momentum",
        "padding_idx",
        "scale_grad_by_freq",
        "sparse",
    }
)
"""Where and how torch computes, or what matters to gradients only: the value is the same without."""


def knows(target: str) -> bool:
    """Whether this file can write calls of the operator `target` in the allowlist."""
    return target in OPERATORS or target in RENAMED or target in DROPPED or target in IDENTITIES


def translate(node: torch.fx.Node, target: str, value: Callable[[object], object]) -> Node | Ref:
    """The node, or what it refers to where it does nothing. `value` turns its arguments into references.

    Raises OperatorNotAllowed, which names the operator, or the argument that the allowlist has not.
    """
    name = RENAMED.get(target, target)
    given = {argument: value(given) for argument, given in _arguments(node, target, name).items()}
    if name == "aten._to_copy.default" and "dtype" not in given:
        source = given["self"]
        assert isinstance(source, Ref)
        return source
    operator = _allowed(_scalar_overload(name, given), node)
    return Node(node.name, operator, _ordered(operator, given, node))


def _arguments(node: torch.fx.Node, target: str, name: str) -> dict[str, object]:
    """By name, without those that have no effect or are what torch takes anyway."""
    if target.startswith("size."):
        return dict(zip(("a", "b"), node.args, strict=True))
    if not isinstance(node.target, torch._ops.OpOverload):
        raise OperatorNotAllowed(f"operator {target} of node {node.name} is not in the allowlist")
    parameters = node.target._schema.arguments
    given = dict(zip((parameter.name for parameter in parameters), node.args, strict=False)) | node.kwargs
    return {
        _RENAMED_ARGUMENTS.get((name, parameter.name), parameter.name): given[parameter.name]
        for parameter in parameters
        if parameter.name in given and not _is_default(parameter, given[parameter.name])
    }


def _is_default(parameter: torch.Argument, value: object) -> bool:
    if parameter.name in _WITHOUT_EFFECT:
        return True
    if not parameter.has_default_value() or isinstance(value, (torch.fx.Node, list, tuple)):
        return False
    return type(value) is type(parameter.default_value) and value == parameter.default_value


def _scalar_overload(name: str, given: Mapping[str, object]) -> str:
    """torch takes a number where it says tensor; the allowlist has an overload of its own for that."""
    other = given.get("other")
    if name.endswith(".Tensor") and other is not None and not isinstance(other, Ref):
        return name.removesuffix("Tensor") + "Scalar"
    return name


def _allowed(name: str, node: torch.fx.Node) -> Operator:
    if name not in OPERATORS:
        raise OperatorNotAllowed(f"operator {name} of node {node.name} is not in the allowlist")
    return OPERATORS[name]


def _ordered(operator: Operator, given: dict[str, object], node: torch.fx.Node) -> dict[str, Argument]:
    arguments: dict[str, Argument] = {}
    for parameter in operator.parameters.values():
        if parameter.name in given:
            arguments[parameter.name] = _argument(given.pop(parameter.name), parameter.kind)
    for name, left in given.items():
        raise OperatorNotAllowed(f"node {node.name}: {operator.name} may not be given {name} = {left!r}")
    return arguments


def _argument(value: object, kind: Kind) -> Argument:
    """A list where torch takes one number for a list of one; a float where it takes a whole number for it."""
    if kind in (Kind.INTS, Kind.SIZE) and isinstance(value, (int, Ref)):
        return (value,)
    if kind is Kind.FLOAT and isinstance(value, int):
        return float(value)
    assert value is None or isinstance(value, (bool, int, float, str, DType, Ref, tuple))
    return value
