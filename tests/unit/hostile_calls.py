"""Calls that take the longest for what they cost: tiny rows, many groups, wide windows, lists of a thousand tensors.

Each is a graph of one call, `n`, perhaps behind one that turns its input around.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from compute.graph.operators import OPERATORS
from compute.specs import DType
from tests.unit.graphs import Document, document, node, ref, tensor

MANY = 1 << 16
Call = Callable[[DType], Document]
_ONES = [1, 1, 1]


def _call(
    op: str, shapes: Sequence[tuple[int, ...]], dtype: DType, *, turned: bool = False, **args: object
) -> Document:
    """Arguments that are Ellipsis become the inputs in order, in lists too; the first one transposed if `turned`."""
    inputs = [tensor(f"t{place}", list(shape), dtype) for place, shape in enumerate(shapes)]
    names = iter(["turned" if turned and not place else f"t{place}" for place in range(len(shapes))])

    def placed(value: object) -> object:
        if isinstance(value, list):
            return [placed(element) for element in value]
        return ref(next(names)) if value is ... else value

    before = [node("turned", "aten.transpose.int", self=ref("t0"), dim0=0, dim1=1)] if turned else []
    call = node("n", op, **{name: placed(value) for name, value in args.items()})
    several = OPERATORS[op].result == "Tensor[]"
    return document(inputs, [*before, call], [ref("n", 0) if several else ref("n")])


def _permuted(op: str, shape: tuple[int, ...], dtype: DType, **args: object) -> Document:
    """On a tensor whose dimensions are walked in the opposite order, and one more whose are not."""
    doc = _call(op, [shape, shape[::-1]], dtype, turned=True, self=..., other=..., **args)
    doc["nodes"][0] = node("turned", "aten.permute.default", self=ref("t0"), dims=[*range(len(shape))][::-1])
    return doc


def _indexing(
    op: str, shape: tuple[int, ...], places: Sequence[tuple[int, ...]], dtype: DType, **args: object
) -> Document:
    doc = _call(op, [shape, *places], dtype, **args)
    for given in doc["inputs"][1:]:
        given["dtype"] = "int64"
    return doc


def _convolution(signal: tuple[int, ...], weight: tuple[int, ...], dtype: DType, **changed: object) -> Document:
    dimensions = len(signal) - 2
    plain = {
        "bias": None,
        "stride": _ONES[:dimensions],
        "padding": [0] * dimensions,
        "dilation": _ONES[:dimensions],
        "transposed": False,
        "output_padding": [0] * dimensions,
        "groups": 1,
    }
    return _call("aten.convolution.default", [signal, weight], dtype, input=..., weight=..., **(plain | changed))


def _lstm(length: int, batch: int, features: int, hidden: int, dtype: DType) -> Document:
    weights = [(4 * hidden, features), (4 * hidden, hidden), (4 * hidden,), (4 * hidden,)]
    state = (1, batch, hidden)
    settings = {"has_biases": True, "num_layers": 1, "bidirectional": False, "batch_first": True}
    shapes = [(batch, length, features), state, state, *weights]
    return _call("aten.lstm.input", shapes, dtype, input=..., hx=[..., ...], params=[...] * 4, **settings)


def _reductions() -> Mapping[str, Call]:
    dims = {"aten.sum.dim_IntList": [1], "aten.mean.dim": [1], "aten.amax.default": [1], "aten.amin.default": [1]}
    dims |= {"aten.var.correction": [1], "aten.logsumexp.default": [1], "aten.linalg_vector_norm.default": [1]}
    names = [*dims, "aten.argmax.default", "aten.argmin.default", "aten.any.dim", "aten.all.dim", "aten.max.dim"]
    names += ["aten.min.dim", "aten.cumsum.default", "aten.softmax.int", "aten.log_softmax.int"]
    calls: dict[str, Call] = {}
    for name in names:
        dim = dims.get(name, 1)
        calls[f"{name}, rows of one"] = partial(_call, name, [(MANY, 1)], self=..., dim=dim)
        calls[f"{name}, rows of two"] = partial(_call, name, [(MANY, 2)], self=..., dim=dim)
        calls[f"{name}, before a short one"] = partial(_call, name, [(256, 64, 16)], self=..., dim=dim)
        calls[f"{name}, turned"] = partial(_call, name, [(512, 512)], turned=True, self=..., dim=dim)
    return calls


CALLS: Mapping[str, Call] = {
    **_reductions(),
    **{
        f"a norm of order {order}, rows of two": partial(
            _call, "aten.linalg_vector_norm.default", [(MANY, 2)], self=..., ord=order, dim=[1]
        )
        for order in (0, 0.5, 1, 3, "inf")
    },
    "any of all": partial(_call, "aten.any.default", [(512, 512)], self=...),
    "a row sorted": partial(_call, "aten.topk.default", [(1, MANY)], self=..., k=MANY),
    "columns sorted": partial(_call, "aten.topk.default", [(1024, 64)], self=..., k=1024, dim=0),
    "the best half": partial(_call, "aten.topk.default", [(1, MANY)], self=..., k=MANY // 2, sorted=False),
    "layer norm, rows of one": partial(_call, "aten.layer_norm.default", [(MANY, 1)], input=..., normalized_shape=[1]),
    "rms norm, rows of two": partial(_call, "aten.rms_norm.default", [(MANY, 2)], input=..., normalized_shape=[2]),
    "group norm, rows of one": partial(_call, "aten.group_norm.default", [(MANY, 1)], input=..., num_groups=1),
    "group norm, groups of one": partial(_call, "aten.group_norm.default", [(2, MANY)], input=..., num_groups=MANY),
    **{
        f"a sum of {len(shape)} dimensions, turned": partial(_permuted, "aten.add.Tensor", shape)
        for shape in ((2,) * 16, (4,) * 8, (8,) * 6, (16,) * 4, (2, MANY, 2))
    },
    "a high power": partial(_call, "aten.pow.Tensor_Scalar", [(512, 512)], self=..., exponent=2**40),
    "powers of three": partial(_call, "aten.pow.Scalar", [(512, 512)], self=3, exponent=...),
    "triangles of one": partial(_call, "aten.tril.default", [(MANY, 1, 1)], self=...),
    "a thousand joined": partial(_call, "aten.cat.default", [(1,)] * 1024, tensors=[...] * 1024),
    "a thousand stacked": partial(_call, "aten.stack.default", [(1,)] * 1024, tensors=[...] * 1024),
    "taken apart": partial(_call, "aten.unbind.int", [(4096,)], self=...),
    "cut apart": partial(_call, "aten.split.Tensor", [(4096,)], self=..., split_size=1),
    "cut to sizes": partial(_call, "aten.split_with_sizes.default", [(1024,)], self=..., split_sizes=[1] * 1024),
    "four indices": partial(
        _indexing,
        "aten.index.Tensor",
        (4, 4, 4, 4),
        [(64, 1, 1), (1, 64, 1), (1, 1, 16), (1,)],
        self=...,
        indices=[..., ..., ..., ...],
    ),
    "rows of one embedded": partial(_indexing, "aten.embedding.default", (4, 1), [(MANY,)], weight=..., indices=...),
    "rows of one selected": partial(
        _indexing, "aten.index_select.default", (4, 1), [(MANY,)], self=..., dim=0, index=...
    ),
    "columns gathered": partial(_indexing, "aten.gather.default", (4, MANY), [(4, MANY)], self=..., dim=0, index=...),
    "a matrix by a vector": partial(_call, "aten.mm.default", [(1024, 1024), (1024, 1)], self=..., mat2=...),
    "matrices of one": partial(_call, "aten.bmm.default", [(MANY, 1, 1)] * 2, self=..., mat2=...),
    "matrices of one, added": partial(
        _call, "aten.baddbmm.default", [(MANY, 1, 1)] * 3, self=..., batch1=..., batch2=...
    ),
    "linear of one": partial(_call, "aten.linear.default", [(MANY, 1), (1, 1)], input=..., weight=...),
    **{
        f"attention, {what}": partial(
            _call, "aten.scaled_dot_product_attention.default", [shape] * 3, query=..., key=..., value=...
        )
        for what, shape in {
            "heads of one": (1, 1, 512, 1),
            "heads of eight": (1, 1, 512, 8),
            "a head each": (64, 64, 1, 1),
            "without heads": (512, 8),
        }.items()
    },
    "attention, masked": partial(
        _call,
        "aten.scaled_dot_product_attention.default",
        [*[(1, 1, 512, 1)] * 3, (512, 512)],
        query=...,
        key=...,
        value=...,
        attn_mask=...,
    ),
    **{f"an LSTM of {sizes}": partial(_lstm, *sizes) for sizes in ((2, 8192, 1, 1), (4, 1, 256, 256), (32, 1, 1, 1))},
    **{
        f"a convolution, {what}": partial(_convolution, *shapes, **changed)
        for what, (shapes, changed) in {
            "each channel": (((1, 256, 7, 7), (256, 1, 3, 3)), {"groups": 256}),
            "each channel of a signal": (((1, 256, 64), (256, 1, 3)), {"groups": 256}),
            "each channel of a volume": (((1, 64, 6, 6, 6), (64, 1, 3, 3, 3)), {"groups": 64}),
            "a place of each channel": (((1, 1024, 1, 1), (1024, 1, 1, 1)), {"groups": 1024}),
            "each channel apart": (((1, 256, 7, 7), (256, 1, 3, 3)), {"groups": 256, "dilation": [2, 2]}),
            "each channel of many": (((64, 64, 5, 5), (64, 1, 3, 3)), {"groups": 64, "dilation": [2, 2]}),
            "each channel spread": (((64, 64, 1, 1), (64, 1, 1, 1)), {"groups": 64, "transposed": True}),
            "many of one": (((4096, 1, 1, 1), (1, 1, 1, 1)), {}),
            "many spread": (((1024, 1, 1, 1), (1, 1, 3, 3)), {"transposed": True}),
            "a wide window": (((1, 1, 64, 64), (1, 1, 31, 31)), {}),
            "mostly padding": (((1, 1, 1, 1), (1, 1, 32, 32)), {"padding": [32, 32]}),
            "far apart": (((1, 4, 16, 16), (4, 4, 2, 2)), {"transposed": True, "stride": [32, 32]}),
        }.items()
    },
    **{
        f"{kind} pool, {what}": partial(_call, f"aten.{kind}_pool2d.default", [shape], self=..., **changed)
        for kind in ("max", "avg")
        for what, shape, changed in (
            ("a window of 32", (1, 1, 64, 64), {"kernel_size": [32], "stride": [1]}),
            ("a window of 9", (1, 2, 64, 64), {"kernel_size": [9], "stride": [1]}),
            ("a window of 3", (1, 4, 64, 64), {"kernel_size": [3], "stride": [1]}),
            ("a window of 1", (1, 8, 64, 64), {"kernel_size": [1], "stride": [1]}),
        )
    },
    "max pool, apart": partial(
        _call, "aten.max_pool2d.default", [(1, 1, 96, 96)], self=..., kernel_size=[24], stride=[1], dilation=[3]
    ),
    "adaptive pool, larger": partial(
        _call, "aten.adaptive_avg_pool2d.default", [(1, 4, 4, 4)], self=..., output_size=[128, 128]
    ),
    "an image from four points": partial(
        _call,
        "aten.upsample_bilinear2d.vec",
        [(1, 1, 2, 2)],
        input=...,
        output_size=[256, 256],
        align_corners=True,
        scale_factors=None,
    ),
}  # fmt: skip
