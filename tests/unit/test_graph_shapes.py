import re

import pytest
import torch

from compute.graph.shapes import infer
from compute.graph.steps import SPEC_DTYPES
from compute.specs import MAX_ELEMENTS, DType, TensorSpec
from compute.worker.program import Program
from shared.errors import GraphInvalid, InputMismatch, TooLarge
from tests.unit.graphs import Document, document, linear_document, node, read, ref, tensor

GIB = 1 << 30


def spec(*shape: int, dtype: DType = DType.FLOAT32) -> TensorSpec:
    return TensorSpec(dtype, shape)


CREATE = ("aten.zeros.default", "aten.full.default", "aten.arange.default")


def one_node(op: str, **args: object) -> Document:
    """x float32[4, 6], and one node `n` that takes it as `self` unless it creates its result."""
    given = args if op in CREATE else {"self": ref("x"), **args}
    return document([tensor("x", [4, 6])], [node("n", op, **given)], [ref("n")])


def test_every_value_has_its_dtype_and_shape() -> None:
    inference = infer(read(linear_document()), [spec(5, 3), spec(4, 3)], max_bytes=GIB)
    assert inference.values == {
        "x": (spec(5, 3),),
        "w": (spec(4, 3),),
        "product": (spec(5, 4),),
        "positive": (spec(5, 4),),
    }
    assert inference.outputs == (spec(5, 4),)


def test_memory_counts_inputs_throughout_and_values_until_their_last_use() -> None:
    nodes = [
        node("a", "aten.exp.default", self=ref("x")),
        node("b", "aten.exp.default", self=ref("a")),
        node("c", "aten.exp.default", self=ref("b")),
    ]
    inference = infer(read(document([tensor("x", ["n"])], nodes, [ref("c")])), [spec(100)], max_bytes=GIB)
    assert inference.peak_bytes == 3 * 400
    assert inference.sum_bytes == 4 * 400


def test_views_hold_no_memory_of_their_own() -> None:
    nodes = [
        node("wide", "aten.expand.default", self=ref("x"), size=[30, 100]),
        node("turned", "aten.transpose.int", self=ref("wide"), dim0=0, dim1=1),
    ]
    nodes.append(node("total", "aten.amax.default", self=ref("turned")))
    inference = infer(read(document([tensor("x", [100])], nodes, [ref("total")])), [spec(100)], max_bytes=GIB)
    assert inference.peak_bytes == 404


def test_an_output_that_is_a_view_or_an_input_is_counted_as_the_copy_that_it_becomes() -> None:
    wide = node("wide", "aten.expand.default", self=ref("x"), size=[30, 100])
    doc = document([tensor("x", [100])], [wide], [ref("wide"), ref("x")])
    assert infer(read(doc), [spec(100)], max_bytes=GIB).peak_bytes == 400 + 12_000 + 400
    with pytest.raises(TooLarge, match="at the outputs the task holds 12800 bytes"):
        infer(read(doc), [spec(100)], max_bytes=12_000)


def test_a_task_that_holds_more_than_allowed_at_once_is_too_large_and_names_the_node() -> None:
    doc = one_node("aten.repeat.default", repeats=[100, 1])
    with pytest.raises(
        TooLarge, match=r"at node n \(aten.repeat.default\) the task holds 9696 bytes; at most 5000"
    ):
        infer(read(doc), [spec(4, 6)], max_bytes=5_000)
    assert infer(read(doc), [spec(4, 6)], max_bytes=9_696).peak_bytes == 9_696


@pytest.mark.parametrize(
    "doc",
    [
        one_node("aten.zeros.default", size=[2**20, 2**20]),
        one_node("aten.zeros.default", size=[2**62, 2**62]),
        one_node("aten.full.default", size=[2**63 - 1] * 60, fill_value=1),
        one_node("aten.arange.default", end=2**41),
        one_node("aten.expand.default", size=[2**40, 4, 6]),
        one_node("aten.repeat.default", repeats=[2**39, 1]),
    ],
)
def test_a_result_of_2_to_the_40_elements_is_too_large(doc: Document) -> None:
    with pytest.raises(TooLarge, match="2\\^40 elements or more"):
        infer(read(doc), [spec(4, 6)], max_bytes=2**62)


def test_an_input_of_2_to_the_40_elements_is_too_large() -> None:
    doc = document([tensor("x", ["n"])], [], [ref("x")])
    with pytest.raises(TooLarge, match="input x"):
        infer(read(doc), [spec(MAX_ELEMENTS + 1)], max_bytes=2**62)


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("aten.pow.Tensor_Tensor", {"self": ref("x"), "exponent": ref("y")}),
        ("aten.pow.Tensor_Scalar", {"self": ref("x"), "exponent": True}),
        ("aten.pow.Scalar", {"self": False, "exponent": ref("x")}),
    ],
)
def test_a_power_of_two_bools_is_refused_and_of_one_has_the_dtype_that_was_inferred(
    op: str, args: Document
) -> None:
    def document_of(dtype: str) -> Document:
        inputs = [tensor("x", [4], dtype), tensor("y", [4], "bool")]
        return document(inputs, [node("n", op, **args)], [ref("n")])

    bools = [spec(4, dtype=DType.BOOL)] * 2
    with pytest.raises(GraphInvalid, match="two bools have no power"):
        infer(read(document_of("bool")), bools, max_bytes=GIB)
    graph = read(document_of("int64"))
    inferred = infer(graph, [spec(4, dtype=DType.INT64), spec(4, dtype=DType.BOOL)], max_bytes=GIB)
    inputs = [torch.ones(4, dtype=torch.int64), torch.ones(4, dtype=torch.bool)]
    (given,) = Program(graph).run(inputs, lambda: False, torch.device("cpu"))
    assert [SPEC_DTYPES[given.dtype]] == [each.dtype for each in inferred.outputs]


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("aten.unbind.int", {}),
        ("aten.split.Tensor", {"split_size": 1}),
        ("aten.chunk.default", {"chunks": 2**40}),
    ],
)
def test_a_node_that_would_give_millions_of_tensors_is_refused_before_it_is_tried(op: str, args: Document) -> None:
    doc = document([tensor("x", ["n"])], [node("n", op, self=ref("x"), **args)], [ref("n", 0)])
    with pytest.raises(TooLarge, match="tensors; at most 4096 are allowed"):
        infer(read(doc), [spec(2**39)], max_bytes=2**62)


def test_many_nodes_that_each_give_many_tensors_are_refused_together() -> None:
    nodes = [node(f"n{place}", "aten.unbind.int", self=ref("x")) for place in range(100)]
    with pytest.raises(TooLarge, match=r"node n25 .* the nodes so far give 104000 tensors; 100000 are allowed"):
        infer(read(document([tensor("x", ["n"])], nodes, [ref("n0", 0)])), [spec(4000)], max_bytes=GIB)


@pytest.mark.parametrize(
    ("doc", "message"),
    [
        (
            document(
                [tensor("x", ["n", 6])],
                [node("n", "aten.reshape.default", self=ref("x"), shape=[5, 5])],
                [ref("n")],
            ),
            "node n (aten.reshape.default): shape '[5, 5]' is invalid for input of size 24",
        ),
        (
            document(
                [tensor("x", [4, 6])], [node("n", "aten.mm.default", self=ref("x"), mat2=ref("x"))], [ref("n")]
            ),
            "node n (aten.mm.default): ",
        ),
        (one_node("aten.softmax.int", dim=7), "node n (aten.softmax.int): there is no dimension 7 among 2"),
        (one_node("aten.expand.default", size=[-2, 4, 6]), "node n (aten.expand.default)"),
        (one_node("aten.select.int", dim=0, index=4), "node n (aten.select.int): "),
    ],
)
def test_what_torch_refuses_is_an_invalid_graph_that_names_the_node(doc: Document, message: str) -> None:
    with pytest.raises(GraphInvalid, match=re.escape(message)):
        infer(read(doc), [spec(4, 6)], max_bytes=GIB)


def test_a_mask_as_index_is_refused_since_its_shape_depends_on_data() -> None:
    doc = document(
        [tensor("x", [4]), tensor("m", [4], "bool")],
        [node("n", "aten.index.Tensor", self=ref("x"), indices=[ref("m")])],
        [ref("n")],
    )
    with pytest.raises(GraphInvalid, match="an index is bool; int64 or int32 is wanted"):
        infer(read(doc), [spec(4), spec(4, dtype=DType.BOOL)], max_bytes=GIB)


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("aten.constant_pad_nd.default", {"pad": [2**62, 2**62]}),
        ("aten.tril.default", {"diagonal": -(2**63)}),
        ("aten.slice.Tensor", {"step": 2**62}),
    ],
)
def test_a_distance_that_may_wrap_around_is_refused(op: str, args: Document) -> None:
    with pytest.raises(TooLarge, match=r"node n .* is beyond 2\^40"):
        infer(read(one_node(op, **args)), [spec(4, 6)], max_bytes=GIB)


def test_the_end_of_a_slice_may_be_the_largest_number_that_there_is() -> None:
    inference = infer(read(one_node("aten.slice.Tensor", end=2**63 - 1)), [spec(4, 6)], max_bytes=GIB)
    assert inference.outputs == (spec(4, 6),)


@pytest.mark.parametrize("far", [-(2**63), 2**54, 1e300, "inf"])
def test_a_range_whose_elements_cannot_be_counted_exactly_is_refused(far: object) -> None:
    doc = document([], [node("n", "aten.arange.start_step", start=1, end=-1, step=far)], [ref("n")])
    with pytest.raises(TooLarge, match=r"node n .*: the step .* is beyond 2\^53"):
        infer(read(doc), [], max_bytes=GIB)


def test_an_item_that_a_node_does_not_give_is_refused_as_argument_and_as_output() -> None:
    parts = node("parts", "aten.chunk.default", self=ref("x"), chunks=2)
    doc = document([tensor("x", [4])], [parts], [ref("parts", 2)])
    with pytest.raises(GraphInvalid, match="an output is item 2 of parts, which gives 2 tensors"):
        infer(read(doc), [spec(4)], max_bytes=GIB)
    doc = document([tensor("x", [4])], [parts, node("n", "aten.neg.default", self=ref("parts", 2))], [ref("n")])
    with pytest.raises(GraphInvalid, match="node n"):
        infer(read(doc), [spec(4)], max_bytes=GIB)


@pytest.mark.parametrize(("op", "b"), [("size.floordiv", 0), ("size.mod", 0), ("size.mul", 2**63 - 1)])
def test_sizes_divide_by_no_zero_and_stay_within_64_bits(op: str, b: int) -> None:
    nodes = [
        node("rows", "size.of", self=ref("x"), dim=0),
        node("n", op, a=ref("rows"), b=b),
        node("y", "aten.zeros.default", size=[ref("n")]),
    ]
    with pytest.raises(GraphInvalid, match=f"node n \\({op}\\)"):
        infer(read(document([tensor("x", ["r"])], nodes, [ref("y")])), [spec(4)], max_bytes=GIB)


def test_inputs_that_do_not_fit_are_told_before_anything_is_inferred() -> None:
    with pytest.raises(InputMismatch):
        infer(read(linear_document()), [spec(5, 3)], max_bytes=GIB)
