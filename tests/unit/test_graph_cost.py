"""Every figure here is computed by hand from the formula in docs/task-graph.md."""

import pytest

from compute.graph.cost import compute_units, node_cost
from compute.graph.shapes import infer
from compute.specs import DType, TensorSpec
from tests.unit.graphs import Document, document, node, read, ref, tensor

NODE = 1_000_000
FAR = 2**50


def costs(doc: Document, *shapes: tuple[int, ...]) -> list[int]:
    """The cost of each node on inputs of these shapes, each of the dtype that the document states."""
    graph = read(doc)
    specs = [TensorSpec(given.dtype, shape) for given, shape in zip(graph.inputs, shapes, strict=True)]
    inference = infer(graph, specs, max_bytes=FAR)
    return [node_cost(each, inference) for each in graph.nodes]


def inputs(*ranks: int) -> list[object]:
    return [tensor(f"x{place}", [f"d{place}_{dim}" for dim in range(rank)]) for place, rank in enumerate(ranks)]


def test_an_elementwise_node_costs_16_for_each_byte_moved() -> None:
    doc = document(inputs(2, 2), [node("n", "aten.add.Tensor", self=ref("x0"), other=ref("x1"))], [ref("n")])
    # two inputs and one output of 4,000,000 bytes
    assert costs(doc, (1000, 1000), (1000, 1000)) == [NODE + 16 * 12_000_000]


def test_a_view_counts_its_bytes_too_and_one_tensor_named_twice_counts_twice() -> None:
    nodes = [
        node("wide", "aten.expand.default", self=ref("x0"), size=[10, 5]),
        node("square", "aten.mul.Tensor", self=ref("wide"), other=ref("wide")),
    ]
    doc = document(inputs(1), nodes, [ref("square")])
    # 5 floats in, 50 out; 50 twice in, 50 out
    assert costs(doc, (5,)) == [NODE + 16 * 220, NODE + 16 * 600]


def test_dtypes_count_by_their_bytes() -> None:
    doc = document(
        [tensor("x", ["n"], "int8")],
        [node("n", "aten._to_copy.default", self=ref("x"), dtype="float64")],
        [ref("n")],
    )
    assert costs(doc, (1000,)) == [NODE + 16 * (1000 + 8000)]


@pytest.mark.parametrize(
    ("op", "names", "shapes", "operations"),
    [
        ("aten.mm.default", ("self", "mat2"), ((512, 2048), (2048, 1024)), 2 * 512 * 2048 * 1024),
        ("aten.bmm.default", ("self", "mat2"), ((3, 512, 2048), (3, 2048, 1024)), 3 * 2 * 512 * 2048 * 1024),
        ("aten.matmul.default", ("self", "other"), ((2, 512, 2048), (2048, 1024)), 2 * 2 * 512 * 2048 * 1024),
        (
            "aten.addmm.default",
            ("self", "mat1", "mat2"),
            ((1024,), (512, 2048), (2048, 1024)),
            2 * 512 * 2048 * 1024,
        ),
        ("aten.linear.default", ("input", "weight"), ((4, 512, 2048), (1024, 2048)), 4 * 2 * 512 * 2048 * 1024),
        (
            "aten.linear.default",
            ("input", "weight", "bias"),
            ((512, 2048), (1024, 2048), (1024,)),
            2 * 512 * 2048 * 1024,
        ),
        (
            # queries [2, 8, 1024, 64], keys [2, 8, 2048, 64], values [2, 8, 2048, 32]: two products a score
            "aten.scaled_dot_product_attention.default",
            ("query", "key", "value"),
            ((2, 8, 1024, 64), (2, 8, 2048, 64), (2, 8, 2048, 32)),
            2 * (2 * 8 * 1024 * 2048) * (64 + 32),
        ),
    ],
)
def test_products_count_two_operations_for_each_multiply_add(
    op: str, names: tuple[str, ...], shapes: tuple[tuple[int, ...], ...], operations: int
) -> None:
    given = {name: ref(f"x{place}") for place, name in enumerate(names)}
    doc = document(inputs(*(len(shape) for shape in shapes)), [node("n", op, **given)], [ref("n")])
    assert costs(doc, *shapes) == [NODE + operations]


CONVOLUTION = {
    "bias": None,
    "stride": [1, 1],
    "padding": [0, 0],
    "dilation": [1, 1],
    "output_padding": [0, 0],
    "groups": 1,
}


@pytest.mark.parametrize(
    ("transposed", "groups", "weight", "operations"),
    [
        # 30 x 30 places of 64 channels, each of 32 channels and 3 x 3 places
        (False, 1, (64, 32, 3, 3), 2 * (2 * 64 * 30 * 30) * (32 * 9)),
        (False, 4, (64, 8, 3, 3), 2 * (2 * 64 * 30 * 30) * (8 * 9)),
        # 32 x 32 places of 32 channels, each spread over 64 channels and 3 x 3 places
        (True, 1, (32, 64, 3, 3), 2 * (2 * 32 * 32 * 32) * (64 * 9)),
    ],
)
def test_a_convolution_counts_two_operations_for_each_multiply_add(
    transposed: bool, groups: int, weight: tuple[int, ...], operations: int
) -> None:
    arguments = {**CONVOLUTION, "transposed": transposed, "groups": groups}
    call = node("n", "aten.convolution.default", input=ref("x0"), weight=ref("x1"), **arguments)
    assert costs(document(inputs(4, 4), [call], [ref("n")]), (2, 32, 32, 32), weight) == [NODE + operations]


@pytest.mark.parametrize("op", ["aten.max_pool2d.default", "aten.avg_pool2d.default"])
def test_a_pool_counts_64_for_each_element_of_its_windows(op: str) -> None:
    doc = document(inputs(4), [node("n", op, self=ref("x0"), kernel_size=[16], stride=[1])], [ref("n")])
    # 49 x 49 places of 3 channels, each over 16 x 16
    assert costs(doc, (1, 3, 64, 64)) == [NODE + 64 * 49 * 49 * 3 * 256]


def test_an_adaptive_pool_counts_the_largest_window_that_it_may_have() -> None:
    call = node("n", "aten.adaptive_avg_pool2d.default", self=ref("x0"), output_size=[50, 50])
    # windows of at most 2 + 1 in both directions
    assert costs(document(inputs(4), [call], [ref("n")]), (3, 3, 99, 99)) == [NODE + 64 * 9 * (9 * 50 * 50)]


def test_an_lstm_counts_as_if_it_were_unrolled() -> None:
    given = [ref(f"x{place}") for place in range(7)]
    call = node(
        "n",
        "aten.lstm.input",
        input=given[0],
        hx=given[1:3],
        params=given[3:],
        has_biases=True,
        num_layers=1,
        bidirectional=False,
        batch_first=True,
    )
    doc = document(inputs(3, 3, 3, 2, 2, 1, 1), [call], [ref("n", 0)])
    shapes = ((2, 5, 8), (1, 2, 4), (1, 2, 4), (16, 8), (16, 4), (16,), (16,))
    # five steps, each like a node of its own, with gates for 2 x 4 states, which are more than its products
    assert costs(doc, *shapes) == [NODE + 5 * (NODE + 2048 * 2 * 4)]
    # with 512 features the products are more than the gates
    wide = ((2, 5, 512), (1, 2, 4), (1, 2, 4), (16, 512), (16, 4), (16,), (16,))
    assert costs(doc, *wide) == [NODE + 5 * (NODE + 2 * 2 * (512 * 16 + 4 * 16))]


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


def test_a_product_of_few_operations_counts_its_bytes() -> None:
    doc = document(inputs(2, 2), [node("n", "aten.mm.default", self=ref("x0"), mat2=ref("x1"))], [ref("n")])
    # 1 x 1000 times 1000 x 1000: 2,000,000 operations, but 4,008,000 bytes
    assert costs(doc, (1, 1000), (1000, 1000)) == [NODE + 16 * 4_008_000]


def test_nodes_on_sizes_cost_nothing() -> None:
    nodes = [
        node("rows", "size.of", self=ref("x0"), dim=0),
        node("twice", "size.mul", a=ref("rows"), b=2),
        node("y", "aten.zeros.default", size=[ref("twice")]),
    ]
    assert costs(document(inputs(1), nodes, [ref("y")]), (8,)) == [0, 0, NODE + 16 * 64]


def test_several_results_all_count() -> None:
    doc = document(inputs(1), [node("n", "aten.chunk.default", self=ref("x0"), chunks=4)], [ref("n", 0)])
    assert costs(doc, (1000,)) == [NODE + 16 * 8000]


@pytest.mark.parametrize(
    ("nodes", "units"),
    [(0, 1), (1, 1), (999, 1), (1000, 1), (1001, 2), (2000, 2), (2001, 3)],
)
def test_units_are_thousand_millions_rounded_up_and_at_least_one(nodes: int, units: int) -> None:
    """A node on an empty tensor costs exactly a million, so a thousand of them are one unit."""
    chain = [node(f"n{i}", "aten.neg.default", self=ref(f"n{i - 1}" if i else "x0")) for i in range(nodes)]
    graph = read(document(inputs(1), chain, [ref(f"n{nodes - 1}" if nodes else "x0")]))
    inference = infer(graph, [TensorSpec(DType.FLOAT32, (0,))], max_bytes=1)
    assert compute_units(graph, inference) == units
