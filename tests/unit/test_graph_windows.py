"""What slides a window, resizes or recurs is refused with torch's silence filled: each rule, by its message."""

import re

import pytest

from compute.graph.shapes import infer
from compute.specs import DType, TensorSpec
from shared.errors import GraphInvalid
from tests.unit.graphs import Document, read
from tests.unit.samples import sample

Change = dict[str, object]


def refused(doc: Document, message: str) -> None:
    graph = read(doc)
    specs = [TensorSpec(given.dtype, tuple(map(int, given.shape))) for given in graph.inputs]
    with pytest.raises(GraphInvalid, match=re.escape(message)):
        infer(graph, specs, max_bytes=1 << 40)


def changed(op: str, **arguments: object) -> Document:
    doc = sample(op)
    doc["nodes"][0]["args"].update(arguments)
    return doc


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride": [0, 1]}, "stride must lie from 1 to 65536"),
        ({"stride": [1]}, "stride must have 2 numbers, not 1"),
        ({"dilation": [1, 2**30]}, "dilation must lie from 1 to 65536"),
        ({"padding": [-1, 0]}, "padding must lie from 0 to 65536"),
        ({"padding": [4, 0]}, "padding 4 is beyond the window"),
        ({"dilation": [9, 1]}, "the window is longer than the padded input"),
        ({"output_padding": [1, 0]}, "output_padding is for transposed convolutions only"),
        ({"groups": 0}, "0 groups are not possible"),
        ({"groups": 1}, "the weight takes 2 channels, the input has 4"),
        ({"transposed": True}, "the weight takes 6 channels, the input has 4"),
    ],
)
def test_a_convolution_that_does_not_fit_is_refused(arguments: Change, message: str) -> None:
    refused(changed("aten.convolution.default", **arguments), message)


def test_a_convolution_of_whole_numbers_or_of_nothing_is_refused() -> None:
    refused(sample("aten.convolution.default", dtype=DType.INT64), "int64 is no dtype for it")
    doc = sample("aten.convolution.default")
    doc["inputs"][0]["shape"][2] = 0
    refused(doc, "a tensor has no elements")


def test_an_output_padding_must_be_below_stride_or_dilation() -> None:
    doc = changed("aten.convolution.default", transposed=True, output_padding=[2, 2], groups=1)
    doc["inputs"][1]["shape"] = [4, 6, 3, 3]
    refused(doc, "output_padding is not below the stride")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": [0]}, "kernel_size must lie from 1 to 65536"),
        ({"kernel_size": [1, 2, 3]}, "kernel_size must have 2 numbers, not 3"),
        ({"kernel_size": [9, 1], "padding": [0]}, "the window is longer than the padded input"),
        ({"padding": [3, 0]}, "padding 3 is more than half of the window 3"),
        ({"stride": [0]}, "stride must lie from 1 to 65536"),
    ],
)
@pytest.mark.parametrize("op", ["aten.max_pool2d.default", "aten.avg_pool2d.default"])
def test_a_pool_that_does_not_fit_is_refused(op: str, arguments: Change, message: str) -> None:
    refused(changed(op, **arguments), message)


def test_a_pool_divides_by_no_zero_and_has_a_window_that_the_cost_can_count() -> None:
    refused(changed("aten.avg_pool2d.default", divisor_override=0), "no such divisor")
    doc = changed("aten.avg_pool2d.default", kernel_size=[{"ref": "rows"}])
    rows = {"name": "rows", "op": "size.of", "args": {"self": {"ref": "t0"}, "dim": 0}}
    doc["nodes"].insert(0, rows)
    refused(doc, "the kernel_size must be whole numbers, not sizes")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale_factors": None}, "either output_size or scale_factors is wanted"),
        ({"output_size": [2, 2]}, "either output_size or scale_factors is wanted"),
        ({"scale_factors": [2.0]}, "two scale_factors are wanted"),
        ({"scale_factors": [2.0, "inf"]}, "inf is no scale factor"),
        ({"scale_factors": [2.0, -1.0]}, "-1.0 is no scale factor"),
        ({"scale_factors": [2.0, 0.01]}, "0.01 times 8 is no length"),
        ({"scale_factors": None, "output_size": [0, 2]}, "output_size must lie from 1 to"),
    ],
)
def test_a_resize_that_does_not_fit_is_refused(arguments: Change, message: str) -> None:
    refused(changed("aten.upsample_nearest2d.vec", **arguments), message)


def test_an_adaptive_pool_gives_at_least_one_element() -> None:
    refused(
        changed("aten.adaptive_avg_pool2d.default", output_size=[0, 1]), "output_size must lie from 1 to 65536"
    )


@pytest.mark.parametrize("groups", [0, -2, 3, 5])
def test_a_group_norm_wants_groups_of_one_size(groups: int) -> None:
    refused(changed("aten.group_norm.default", num_groups=groups), f"4 channels in {groups} groups")


@pytest.mark.parametrize(
    ("place", "shape", "message"),
    [
        (1, [2, 4, 4, 8], "query and key differ in their last length"),
        (2, [2, 4, 5, 16], "key and value differ in number"),
        (2, [2, 3, 4, 16], "key and value have different batches"),
        (3, [2, 1, 4, 5], "a mask of [2, 1, 4, 5] does not fit scores of [2, 4, 4, 4]"),
        (3, [1, 2, 1, 4, 4], "a mask of [1, 2, 1, 4, 4] does not fit scores of [2, 4, 4, 4]"),
        (0, [2, 4, 0, 16], "a tensor has no elements"),
    ],
)
def test_attention_that_does_not_fit_is_refused(place: int, shape: list[int], message: str) -> None:
    doc = sample("aten.scaled_dot_product_attention.default")
    doc["inputs"][place]["shape"] = shape
    refused(doc, message)


def test_keys_of_a_larger_batch_than_the_queries_would_cost_more_than_is_counted() -> None:
    doc = sample("aten.scaled_dot_product_attention.default")
    doc["inputs"][0]["shape"] = [1, 4, 4, 16]
    refused(doc, "query and key have different batches")


def test_a_batch_norm_wants_one_number_for_each_channel() -> None:
    doc = sample("aten.batch_norm.default")
    doc["inputs"][3]["shape"] = [5]
    refused(doc, "4 numbers each are wanted")
    doc = sample("aten.batch_norm.default")
    doc["inputs"][3]["dtype"] = "float64"
    refused(doc, "the dtypes do not fit each other")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_layers": 2}, "hx must have the shape [4, 3, 4]"),
        ({"bidirectional": False}, "hx must have the shape [1, 3, 4]"),
        ({"has_biases": False}, "params must be 4 tensors, for each layer and direction those of 4 gates"),
        ({"params": []}, "params must be 8 tensors"),
        ({"num_layers": 2**39}, "hx must have the shape"),
        ({"hx": [{"ref": "t1"}]}, "hx must be two tensors of 3 dimensions"),
    ],
)
def test_an_lstm_whose_states_or_weights_do_not_fit_is_refused(arguments: Change, message: str) -> None:
    doc = sample("aten.lstm.input")
    doc["inputs"][0]["shape"] = [3, 4, 8]
    doc["inputs"][1]["shape"] = doc["inputs"][2]["shape"] = [2, 3, 4]
    doc["nodes"][0]["args"].update(arguments)
    refused(doc, message)


def test_an_lstm_over_a_million_steps_is_described_at_once() -> None:
    doc = sample("aten.lstm.input")
    doc["inputs"][0]["shape"] = [4, 1_000_000, 8]
    graph = read(doc)
    specs = [TensorSpec(given.dtype, tuple(map(int, given.shape))) for given in graph.inputs]
    assert infer(graph, specs, max_bytes=1 << 40).outputs[0].shape == (4, 1_000_000, 8)
