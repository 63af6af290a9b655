"""A call of every listed operator, on tensors that are large enough for torch to share the work among its threads."""

from compute.graph.operators import OPERATORS, Kind, Operator, Result
from compute.specs import DType, TensorSpec
from tests.unit.graphs import Document, document, node, ref, tensor

N = 256
SPECS = {
    "x": (N, N),
    "y": (N, N),
    "z": (2, N, N),
    "q": (2, 4, 128, 32),
    "v": (N,),
}
"""Inputs of the dtype that is tried."""
INDICES = {"i": (N,), "g": (N, N)}
"""Inputs that are int64, each a place in N."""

_HALVES = [N // 2, N // 2]
_TENSORS = {"self": "x", "other": "y", "exponent": "y", "input": "x", "mat1": "x", "mat2": "y", "weight": "x"}
_TENSORS |= {"query": "q", "key": "q", "value": "q", "batch1": "z", "batch2": "z", "indices": "i", "index": "g"}
_NUMBERS: dict[str, object] = {"dim": 0, "dim0": 0, "dim1": 1, "min": 1, "max": 1, "end": 1000, "start": 1, "k": 3}
_NUMBERS |= {"index": 0, "chunks": 2, "split_size": N // 2, "num_groups": 2, "a": 7, "b": 3}
_SIZES: dict[str, object] = {"shape": [N * N], "size": [2, N, N], "repeats": [2, 1], "normalized_shape": [N]}
_SIZES |= {"split_sizes": _HALVES, "dims": [1, 0], "pad": [1, 1], "dim": [0]}

_GIVEN: dict[str, Document] = {
    "aten.bmm.default": {"self": ref("z"), "mat2": ref("z")},
    "aten.baddbmm.default": {"self": ref("z")},
    "aten.group_norm.default": {"input": ref("z"), "num_groups": 2},
    "aten.index_select.default": {"index": ref("i")},
    "aten.index.Tensor": {"indices": [None, ref("i")]},
    "aten.clamp.default": {"min": 1},
    "aten.where.self": {"condition": ref("mask")},
    "aten.masked_fill.Scalar": {"mask": ref("mask")},
}
"""Where an argument's name and kind do not say what fits."""

MORE: list[tuple[str, Document]] = [
    ("aten.gelu.default", {"approximate": "tanh"}),
    ("aten.linear.default", {"bias": ref("v")}),
    ("aten.layer_norm.default", {"weight": ref("v"), "bias": ref("v"), "eps": 1e-6}),
    ("aten.rms_norm.default", {"weight": ref("v"), "eps": 1e-6}),
    ("aten.scaled_dot_product_attention.default", {"is_causal": True}),
    ("aten.scaled_dot_product_attention.default", {"query": ref("z"), "key": ref("z"), "value": ref("z")}),
    ("aten.sum.default", {"dtype": "float64"}),
    ("aten.mean.dim", {"dim": [0, 1], "keepdim": True, "dtype": "float32"}),
    ("aten.linalg_vector_norm.default", {"ord": 3, "dim": [1]}),
    ("aten.matmul.default", {"self": ref("z"), "other": ref("y")}),
    ("aten.matmul.default", {"self": ref("x"), "other": ref("v")}),
    *(("aten._to_copy.default", {"dtype": dtype.value}) for dtype in DType),
]
"""Calls that lead torch to other code than the plain ones do."""


def calls() -> list[tuple[str, Document]]:
    """Name and arguments: every operator once, and MORE."""
    return [(name, _arguments(operator)) for name, operator in OPERATORS.items()] + [
        (name, _arguments(OPERATORS[name]) | more) for name, more in MORE
    ]


def graph(name: str, arguments: Document, dtype: DType) -> Document:
    """The document whose only output is what the call gives."""
    nodes = [node("mask", "aten.gt.Tensor", self=ref("x"), other=ref("y")), node("result", name, **arguments)]
    given = ref("result", 0) if OPERATORS[name].result is Result.TENSORS else ref("result")
    if OPERATORS[name].result is Result.SIZE:
        nodes.append(node("told", "aten.full.default", size=[given], fill_value=1))
        given = ref("told")
    inputs = [tensor(key, list(shape), dtype) for key, shape in SPECS.items()]
    inputs += [tensor(key, list(shape), DType.INT64) for key, shape in INDICES.items()]
    return document(inputs, nodes, [given])


def specs(dtype: DType) -> list[TensorSpec]:
    return [TensorSpec(dtype, shape) for shape in SPECS.values()] + [
        TensorSpec(DType.INT64, shape) for shape in INDICES.values()
    ]


def _arguments(operator: Operator) -> Document:
    arguments: Document = {}
    for name, parameter in operator.parameters.items():
        if not parameter.required:
            continue
        match parameter.kind:
            case Kind.TENSOR:
                arguments[name] = ref(_TENSORS.get(name, "x"))
            case Kind.TENSORS:
                arguments[name] = [ref("x"), ref("y")]
            case Kind.INTS | Kind.SIZE:
                arguments[name] = _SIZES[name]
            case Kind.DTYPE:
                arguments[name] = DType.FLOAT32.value
            case _:
                arguments[name] = _NUMBERS.get(name, 2)
    return arguments | _GIVEN.get(operator.name, {})
