"""What is refused of a node, its inputs' shapes known, before torch is asked."""

from collections.abc import Callable, Mapping

import torch

from compute.graph.arguments import MAX_ITEMS
from compute.graph.attention import check_attention
from compute.graph.norms import check_batch_norm, check_group_norm
from compute.graph.operator import Cost, Kind, Result
from compute.graph.powers import check_power
from compute.graph.requirements import Given
from compute.graph.steps import SPEC_DTYPES, Step, Value, Values, resolve
from compute.graph.task_graph import Argument, Node, Ref, references
from compute.graph.windows import check_adaptive_pool, check_convolution, check_pool, check_resize
from compute.specs import MAX_ELEMENTS, DType
from shared.errors import GraphInvalid, TooLarge

MAX_RANGE_BOUND = 2**53
MAX_DISTANCE = 2**40
UNBOUNDED = frozenset({("aten.slice.Tensor", "start"), ("aten.slice.Tensor", "end")})
"""torch brings these within the length; "to the end" is written as the largest number of 64 bits."""
INDEX_DTYPES = frozenset({DType.INT64, DType.INT32})


CHECKS: Mapping[str, Callable[[Given], None]] = {
    "aten.convolution.default": check_convolution,
    "aten.max_pool2d.default": check_pool,
    "aten.avg_pool2d.default": check_pool,
    "aten.adaptive_avg_pool2d.default": check_adaptive_pool,
    "aten.upsample_nearest2d.vec": check_resize,
    "aten.upsample_bilinear2d.vec": check_resize,
    "aten.batch_norm.default": check_batch_norm,
    "aten.group_norm.default": check_group_norm,
    "aten.scaled_dot_product_attention.default": check_attention,
    "aten.pow.Tensor_Tensor": check_power,
    "aten.pow.Tensor_Scalar": check_power,
    "aten.pow.Scalar": check_power,
}


def refuse_before_call(step: Step, values: Values) -> None:
    """Raises TooLarge or GraphInvalid for what torch would try, or let pass, even on meta tensors.

    Lengths whose product overflows, millions of results, a mask as index, a dimension that is not there.
    """
    node = step.node
    for name, argument in node.arguments.items():
        kind = node.operator.parameters[name].kind
        if kind is Kind.SIZE and isinstance(argument, tuple):
            _refuse_lengths(node, name, [_size(length, values) for length in argument])
        if kind in (Kind.INT, Kind.INTS) and not _may_be_far(node, name):
            _refuse_far_numbers(node, name, argument if isinstance(argument, tuple) else (argument,), values)
        if kind is Kind.INDICES and isinstance(argument, tuple):
            _refuse_masks(node, [resolve(ref, values) for ref in argument if isinstance(ref, Ref)])
    _refuse_dimension(node, values)
    _refuse_far_range(node, values)
    _refuse_variable_window(node)
    if node.operator.name in CHECKS:
        CHECKS[node.operator.name](step.resolved(values))
    items = _items(node, values)
    if items > MAX_ITEMS:
        raise TooLarge(f"{node} gives {items} tensors; at most {MAX_ITEMS} are allowed")


def _may_be_far(node: Node, name: str) -> bool:
    return node.operator.cost is Cost.NOTHING or (node.operator.name, name) in UNBOUNDED


def _refuse_far_numbers(node: Node, name: str, numbers: tuple[Argument, ...], values: Values) -> None:
    """torch adds and multiplies them to lengths in 64 bits, and does not look whether they wrap around."""
    for number in numbers:
        if number is not None and abs(_size(number, values)) > MAX_DISTANCE:
            raise TooLarge(f"{node}: the {name} {_size(number, values)} is beyond 2^40")


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


def _refuse_variable_window(node: Node) -> None:
    """The cost counts what a window holds, so its size stands in the package."""
    if node.operator.cost is Cost.WINDOWS and any(references(node.arguments.get("kernel_size"))):
        raise GraphInvalid(f"{node}: the kernel_size must be whole numbers, not sizes")


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
