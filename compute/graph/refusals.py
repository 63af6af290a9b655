"""What is refused of a node, its inputs' shapes known, before torch is asked."""

import torch

from compute.graph.arguments import MAX_ITEMS
from compute.graph.operators import Kind, Result
from compute.graph.steps import SPEC_DTYPES, Value, Values, resolve
from compute.graph.task_graph import Argument, Node, Ref
from compute.specs import MAX_ELEMENTS, DType
from shared.errors import GraphInvalid, TooLarge

MAX_RANGE_BOUND = 2**53
INDEX_DTYPES = frozenset({DType.INT64, DType.INT32})


def refuse_before_call(node: Node, values: Values) -> None:
    """Raises TooLarge or GraphInvalid for what torch would try, or let pass, even on meta tensors.

    Lengths whose product overflows, millions of results, a mask as index, a dimension that is not there.
    """
    for name, argument in node.arguments.items():
        kind = node.operator.parameters[name].kind
        if kind is Kind.SIZE and isinstance(argument, tuple):
            _refuse_lengths(node, name, [_size(length, values) for length in argument])
        if kind is Kind.INDICES and isinstance(argument, tuple):
            _refuse_masks(node, [resolve(ref, values) for ref in argument if isinstance(ref, Ref)])
    _refuse_dimension(node, values)
    _refuse_far_range(node, values)
    items = _items(node, values)
    if items > MAX_ITEMS:
        raise TooLarge(f"{node} gives {items} tensors; at most {MAX_ITEMS} are allowed")


def _refuse_lengths(node: Node, name: str, lengths: list[int]) -> None:
    elements = 1
    for length in lengths:
        elements *= max(1, length)
        if elements > MAX_ELEMENTS:
            raise TooLarge(f"{node}: the {name} has 2^40 elements or more")


def _refuse_dimension(node: Node, values: Values) -> None:
    """Some operators (softmax) look at `dim` only when they compute."""
    source, dim = node.arguments.get("self"), node.arguments.get("dim")
    if (
        node.operator.name == "aten.unsqueeze.default"
        or not isinstance(source, Ref)
        or dim is None
        or isinstance(dim, tuple)
    ):
        return
    tensor = resolve(source, values)
    assert isinstance(tensor, torch.Tensor)
    rank = max(1, tensor.dim())
    if not -rank <= _size(dim, values) < rank:
        raise GraphInvalid(f"{node}: there is no dimension {_size(dim, values)} among {tensor.dim()}")


def _refuse_far_range(node: Node, values: Values) -> None:
    """Beyond what a float64 holds exactly, torch counts a range's elements differently on meta and on a device."""
    if not node.operator.name.startswith("aten.arange."):
        return
    for name in ("start", "end", "step"):
        argument = node.arguments.get(name, 0)
        bound = resolve(argument, values) if isinstance(argument, Ref) else argument
        assert isinstance(bound, int | float)
        if abs(bound) > MAX_RANGE_BOUND:
            raise TooLarge(f"{node}: the {name} {bound} is beyond 2^53")


def _refuse_masks(node: Node, indices: list[Value]) -> None:
    for index in indices:
        assert isinstance(index, torch.Tensor)
        if SPEC_DTYPES[index.dtype] not in INDEX_DTYPES:
            raise GraphInvalid(
                f"{node}: an index is {SPEC_DTYPES[index.dtype]}; int64 or int32 is wanted, "
                "since a mask would give a shape that depends on data"
            )


def _items(node: Node, values: Values) -> int:
    """How many tensors a node of the splitting kind would give; 0 where the arguments do not say."""
    arguments = node.arguments
    if node.operator.result is not Result.TENSORS or "self" not in arguments:
        return 0
    if node.operator.name == "aten.chunk.default":
        return _size(arguments["chunks"], values)
    if node.operator.name not in ("aten.split.Tensor", "aten.unbind.int"):
        return 0
    source = resolve(_ref(arguments["self"]), values)
    assert isinstance(source, torch.Tensor)
    length = source.size(_size(arguments.get("dim", 0), values))
    part = _size(arguments.get("split_size", 1), values)
    return -(-length // part) if part > 0 else 0


def _ref(argument: Argument) -> Ref:
    assert isinstance(argument, Ref)
    return argument


def _size(argument: Argument, values: Values) -> int:
    size = resolve(argument, values) if isinstance(argument, Ref) else argument
    assert isinstance(size, int)
    return size
