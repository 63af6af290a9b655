import json
import re
from collections.abc import Callable

import pytest

from compute.graph.document import bind_inputs, graph_to_json, parse_graph
from compute.specs import DType, TensorSpec
from shared.errors import GraphInvalid, InputMismatch, OperatorNotAllowed, TooLarge
from tests.unit.graphs import LIMITS, Document, as_bytes, document, linear_document, node, read, ref, tensor

X = TensorSpec(DType.FLOAT32, (5, 3))
W = TensorSpec(DType.FLOAT32, (4, 3))


def test_a_graph_written_and_read_again_is_the_same_graph() -> None:
    graph = read(linear_document())
    written = graph_to_json(graph)
    assert parse_graph(written, **LIMITS) == graph
    assert graph_to_json(parse_graph(written, **LIMITS)) == written


def test_every_kind_of_argument_survives_the_round_trip() -> None:
    nodes = [
        node("rows", "size.of", self=ref("x"), dim=0),
        node("twice", "size.mul", a=ref("rows"), b=2),
        node("parts", "aten.split.Tensor", self=ref("x"), split_size=1, dim=1),
        node("joined", "aten.cat.default", tensors=[ref("parts", 0), ref("parts", 2)], dim=-1),
        node("masked", "aten.clamp.default", self=ref("joined"), min="-inf", max=1),
        node("wide", "aten._to_copy.default", self=ref("masked"), dtype="float64"),
        node("smooth", "aten.gelu.default", self=ref("wide"), approximate="tanh"),
        node("summed", "aten.sum.dim_IntList", self=ref("smooth"), dim=None, keepdim=True),
        node("flat", "aten.reshape.default", self=ref("joined"), shape=[ref("twice"), 1]),
        node("picked", "aten.index.Tensor", self=ref("x"), indices=[None, ref("i")]),
    ]
    inputs = [tensor("x", ["rows", 3]), tensor("i", [2], "int64")]
    doc = document(inputs, nodes, [ref("summed"), ref("flat"), ref("picked"), ref("parts", 1)])
    graph = read(doc)
    assert parse_graph(graph_to_json(graph), **LIMITS) == graph
    assert json.loads(graph_to_json(graph)) == doc


def test_a_package_above_its_limits_is_too_large() -> None:
    data = as_bytes(linear_document())
    with pytest.raises(TooLarge, match=f"has {len(data)} bytes; at most 100 are allowed"):
        parse_graph(data, max_bytes=100, max_nodes=10)
    with pytest.raises(TooLarge, match="nodes has 2 elements; at most 1 are allowed"):
        parse_graph(data, max_bytes=10_000, max_nodes=1)


def test_an_unknown_operator_is_named_with_its_node() -> None:
    doc = linear_document()
    doc["nodes"][1]["op"] = "aten.from_file.default"
    with pytest.raises(OperatorNotAllowed, match=r"operator 'aten.from_file.default' of node positive is not in"):
        read(doc)


@pytest.mark.parametrize(
    "name",
    [
        "aten.empty.memory_format",
        "aten.as_strided.default",
        "aten.rand.default",
        "aten.dropout.default",
        "aten.bernoulli.default",
        "aten.resize_.default",
        "aten.add_.Tensor",
        "aten.nonzero.default",
        "aten.masked_select.default",
        "aten.set_.source_Storage",
        "os.system",
        "aten.__class__.__init__",
        "size.__import__",
        "",
    ],
)
def test_what_is_uninitialised_random_mutating_or_shaped_by_data_is_refused(name: str) -> None:
    doc = linear_document()
    doc["nodes"][1]["op"] = name
    with pytest.raises(OperatorNotAllowed):
        read(doc)


def _set(*path: str | int, to: object) -> Callable[[Document], None]:
    def change(doc: Document) -> None:
        place: object = doc
        for step in path[:-1]:
            place = place[step]  # type: ignore[index]
        place[path[-1]] = to  # type: ignore[index]

    return change


REJECTED: list[tuple[Callable[[Document], None], str]] = [
    (_set("format", to="onnx"), "the package is 'onnx' 1; this node reads splitup-task-graph 1"),
    (_set("version", to=2), "this node reads splitup-task-graph 1"),
    (_set("version", to=True), "this node reads splitup-task-graph 1"),
    (_set("extra", to=1), "the package must be an object with format, inputs, nodes, outputs, version"),
    (_set("nodes", to={}), "nodes must be an array, not {}"),
    (_set("inputs", 0, to="x"), "input 0 must be an object with dtype, isWeights, name, shape"),
    (_set("inputs", 0, "dtype", to="complex64"), "input 0: 'complex64' is no dtype; there are float64, float32"),
    (_set("inputs", 0, "name", to="a b"), "input 0: 'a b' is no name"),
    (_set("inputs", 0, "name", to="w"), "two inputs have the name w"),
    (_set("inputs", 0, "shape", to=[-1, 3]), "input 0: -1 is no length"),
    (_set("inputs", 0, "shape", to=[True, 3]), "input 0: True is no length"),
    (_set("inputs", 0, "shape", to=[2**40, 3]), "input 0: 1099511627776 is no length"),
    (_set("inputs", 0, "isWeights", to=1), "input 0: isWeights must be true or false, not 1"),
    (_set("nodes", 0, to=[]), "node 0 must be an object with args, name, op"),
    (_set("nodes", 0, "name", to="x"), "node 0: the name x is taken by an input or an earlier node"),
    (_set("nodes", 0, "args", to=[]), "node product (aten.linear.default): args must be an object"),
    (_set("nodes", 0, "args", "out", to=1), "node product (aten.linear.default): there is no argument 'out'"),
    (_set("nodes", 0, "args", to={}), "node product (aten.linear.default): the argument input is missing"),
    (
        _set("nodes", 0, "args", "input", to=1.5),
        'node product (aten.linear.default), argument input: a tensor is wanted, {"ref": name}, not 1.5',
    ),
    (_set("nodes", 0, "args", "input", to=ref("positive")), "'positive' names no input and no earlier node"),
    (_set("nodes", 0, "args", "input", to=ref("x", 0)), "the reference x takes no item: it gives a tensor"),
    (_set("nodes", 0, "args", "input", to={"ref": "x", "item": -1}), "the item -1 of x is not a whole number"),
    (_set("nodes", 0, "args", "input", to={"ref": "x", "at": 1}), "a tensor is wanted"),
    (_set("nodes", 0, "args", "weight", to=None), "argument weight: a tensor is wanted"),
    (_set("outputs", to=[]), "the package has no outputs"),
    (_set("outputs", 0, to=ref("absent")), "outputs: the reference 'absent' names no input and no earlier node"),
]


@pytest.mark.parametrize(("change", "message"), REJECTED)
def test_a_malformed_graph_is_refused_with_the_place(change: Callable[[Document], None], message: str) -> None:
    doc = linear_document()
    change(doc)
    with pytest.raises(GraphInvalid, match=re.escape(message)):
        read(doc)


ARGUMENTS = [
    ("aten.sum.dim_IntList", {"dim": [2**63]}, "argument dim: a whole number of 64 bits is wanted"),
    ("aten.sum.dim_IntList", {"dim": [True]}, "a whole number of 64 bits is wanted, not True"),
    ("aten.sum.dim_IntList", {"dim": [[1]]}, "a whole number of 64 bits is wanted, not [1]"),
    ("aten.sum.dim_IntList", {"dim": 1}, "a list of at most 1024 elements is wanted, not 1"),
    ("aten.sum.dim_IntList", {"dim": [0] * 1025}, "a list of at most 1024 elements is wanted"),
    ("aten.sum.dim_IntList", {"dim": [0], "keepdim": 1}, "argument keepdim: true or false is wanted, not 1"),
    ("aten.sum.default", {"dtype": 7}, "argument dtype: 7 is no dtype"),
    ("aten.gelu.default", {"approximate": "__import__('os')"}, "one of none, tanh is wanted"),
    ("aten.clamp_min.default", {"min": "nan"}, "a number is wanted, not 'nan'"),
    ("aten.clamp_min.default", {"min": None}, "a number is wanted, not None"),
    ("aten.softmax.int", {"dim": ref("x")}, "a size is wanted, but x gives a tensor"),
]


@pytest.mark.parametrize(("operator", "arguments", "message"), ARGUMENTS)
def test_an_argument_of_the_wrong_kind_is_refused(operator: str, arguments: Document, message: str) -> None:
    doc = document([tensor("x", [2, 3])], [node("n", operator, self=ref("x"), **arguments)], [ref("n")])
    with pytest.raises(GraphInvalid, match=re.escape(message)):
        read(doc)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"format":' * 50_000, "nested too deeply"),
        (b'{"format": 1, "format": 2}', "the key 'format' stands twice"),
        (b'{"version": ' + b"9" * 401 + b"}", "the package must be an object"),
        (b'{"version": ' + b"9" * 100_000 + b"}", "not strict JSON"),
        (b'{"version": NaN}', "NaN is not a JSON number"),
        (b'{"version": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"version": 1e999}', "beyond a float's range"),
        (b"\xff\xfe", "not strict JSON"),
        (b"", "not strict JSON"),
        (b"null", "the package must be an object"),
    ],
)
def test_hostile_json_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(GraphInvalid, match=re.escape(message)):
        parse_graph(data, **LIMITS)


def test_a_number_of_401_digits_as_argument_is_refused() -> None:
    doc = document([tensor("x", [2])], [node("n", "aten.add.Scalar", self=ref("x"), other=10**400)], [ref("n")])
    with pytest.raises(GraphInvalid, match="a whole number of 64 bits is wanted"):
        read(doc)


def test_messages_stay_short_and_escaped_whatever_the_package_holds() -> None:
    doc = linear_document()
    doc["nodes"][0]["args"]["\x1b[2J" + "a" * 10_000] = 1
    with pytest.raises(GraphInvalid) as caught:
        read(doc)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_binding_gives_the_length_of_each_symbolic_dimension() -> None:
    assert bind_inputs(read(linear_document()), [X, W]) == {"rows": 5}


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([X], "the graph has 2 inputs, but 1 tensors were given"),
        ([X, W, W], "the graph has 2 inputs, but 3 tensors were given"),
        (
            [TensorSpec(DType.INT64, (5, 3)), W],
            "input 0 (x) is int64[5, 3], but the graph expects float32[rows, 3]",
        ),
        (
            [TensorSpec(DType.FLOAT32, (5,)), W],
            "input 0 (x) is float32[5], but the graph expects float32[rows, 3]",
        ),
        (
            [X, TensorSpec(DType.FLOAT32, (4, 2))],
            "input 1 (w) is float32[4, 2], but the graph expects float32[4, 3]",
        ),
    ],
)
def test_tensors_that_are_not_the_graphs_inputs_are_refused(specs: list[TensorSpec], message: str) -> None:
    with pytest.raises(InputMismatch, match=re.escape(message)):
        bind_inputs(read(linear_document()), specs)


def test_a_symbolic_dimension_has_one_length_throughout() -> None:
    doc = document([tensor("a", ["n"]), tensor("b", ["n"])], [], [ref("a")])
    four, five = (TensorSpec(DType.FLOAT32, (length,)) for length in (4, 5))
    assert bind_inputs(read(doc), [four, four]) == {"n": 4}
    with pytest.raises(InputMismatch, match=r"input 1 \(b\) is float32\[5\].* with n = 4"):
        bind_inputs(read(doc), [four, five])
