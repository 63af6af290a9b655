"""What kernels spend beside arithmetic: rows, matrices, groups, lists and indices, computed by hand."""

import pytest

from tests.unit.graphs import Document, document, node, ref, tensor
from tests.unit.node_costs import CONVOLUTION, NODE, costs, inputs


def call(op: str, **args: object) -> Document:
    return node("n", op, **args)


X, Y, Z = ref("x0"), ref("x1"), ref("x2")
FLOORS: list[tuple[Document, tuple[tuple[int, ...], ...], int]] = [
    # rows of two: each has a sum of its own
    (call("aten.sum.dim_IntList", self=X, dim=[1]), ((1000, 2),), 1_024 * 1000),
    (call("aten.var.correction", self=X, dim=[1]), ((1000, 2),), 2_048 * 1000),
    (call("aten.argmax.default", self=X, dim=1), ((10, 1000),), 128 * 10_000),
    (call("aten.softmax.int", self=X, dim=-1), ((1000, 2),), 1_024 * 1000),
    (call("aten.softmax.int", self=X, dim=0), ((1000, 2),), 128 * 2000),
    (call("aten.layer_norm.default", input=X, normalized_shape=[2]), ((1000, 2),), 1_024 * 1000),
    (call("aten.group_norm.default", input=X, num_groups=6), ((100, 6),), 1_024 * 600),
    (call("aten.tril.default", self=X), ((1000, 1, 2),), 512 * 1000),
    # 100 is a number of 7 bits
    (call("aten.topk.default", self=X, k=100, dim=0), ((128, 3),), 100 * 384 * 8),
    (call("aten.pow.Tensor_Scalar", self=X, exponent=3), ((1000,),), 128 * 1000),
    (call("aten.log2.default", self=X), ((1000,),), 512 * 1000),
    (call("aten.cat.default", tensors=[X, X, Y]), ((1,), (1,)), 20_000 * 4),
    (call("aten.unbind.int", self=X), ((100,),), 20_000 * 100),
    (call("aten.bmm.default", self=X, mat2=Y), ((1000, 1, 1), (1000, 1, 1)), 2_000 * 1000),
    (call("aten.linear.default", input=X, weight=Y), ((100, 10, 1, 1), (1, 1)), 16 * 4 * 2001),
    (
        call("aten.scaled_dot_product_attention.default", query=X, key=Y, value=Z),
        ((1, 1, 64, 1),) * 3,
        2 * 64 * 64 * 48,
    ),
    (
        call("aten.scaled_dot_product_attention.default", query=X, key=Y, value=Z),
        ((8, 8, 1, 1),) * 3,
        10_000 * 64,
    ),
    (
        call("aten.convolution.default", input=X, weight=Y, **CONVOLUTION, transposed=False),
        ((1, 1, 64, 64), (1, 1, 9, 9)),
        16 * 2 * 56 * 56 * 81,
    ),
    (
        call("aten.convolution.default", input=X, weight=Y, **{**CONVOLUTION, "groups": 64}, transposed=False),
        ((1, 64, 1, 1), (64, 1, 1, 1)),
        100_000 * 64,
    ),
    (
        call("aten.convolution.default", input=X, weight=Y, **{**CONVOLUTION, "groups": 64}, transposed=True),
        ((10, 64, 1, 1), (64, 1, 1, 1)),
        20_000 * 640,
    ),
    # six dimensions of two, 64 elements, are walked one by one
    (call("aten.neg.default", self=X), ((2,) * 6,), 8 * 36 * 64),
]


@pytest.mark.parametrize(("one", "shapes", "operations"), FLOORS)
def test_what_takes_time_beside_arithmetic_has_a_floor(
    one: Document, shapes: tuple[tuple[int, ...], ...], operations: int
) -> None:
    several = one["op"] in ("aten.topk.default", "aten.unbind.int")
    doc = document(inputs(*map(len, shapes)), [one], [ref("n", 0) if several else ref("n")])
    assert costs(doc, *shapes) == [NODE + operations]


def test_each_element_looks_every_index_up_and_a_power_of_whole_numbers_multiplies_again_and_again() -> None:
    indices = [tensor("i", ["n"], "int64"), tensor("j", ["n"], "int64")]
    both = node("n", "aten.index.Tensor", self=ref("x0"), indices=[ref("i"), ref("j")])
    doc = document([*inputs(2), *indices], [both], [ref("n")])
    # the bytes of two indices are more here than 64 for each index
    assert costs(doc, (3, 3), (1000,), (1000,)) == [NODE + 16 * (36 + 8000 * 2 + 4000)]
    # spread over 1000 x 1000 elements they are not
    wide = node("wide", "aten.unsqueeze.default", self=ref("i"), dim=1)
    both = node("n", "aten.index.Tensor", self=ref("x0"), indices=[ref("wide"), ref("j")])
    doc = document([*inputs(2), *indices], [wide, both], [ref("n")])
    assert costs(doc, (3, 3), (1000,), (1000,))[1] == NODE + 64 * 2 * 1_000_000
    power = node("n", "aten.pow.Tensor_Scalar", self=ref("x"), exponent=3)
    assert costs(document([tensor("x", ["n"], "int8")], [power], [ref("n")]), (1000,)) == [NODE + 1_024 * 1000]
