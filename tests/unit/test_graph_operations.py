"""The floating-point operations of products, windows and recurrences, computed by hand."""

import pytest

from tests.unit.graphs import document, node, ref
from tests.unit.node_costs import CONVOLUTION, NODE, costs, inputs


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


def test_a_product_of_few_operations_counts_its_bytes() -> None:
    doc = document(inputs(2, 2), [node("n", "aten.mm.default", self=ref("x0"), mat2=ref("x1"))], [ref("n")])
    # 1 x 1000 times 1000 x 1000: 2,000,000 operations, but 4,008,000 bytes
    assert costs(doc, (1, 1000), (1000, 1000)) == [NODE + 16 * 4_008_000]


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
