import re
from collections.abc import Callable

import pytest
import torch

from compute.worker.program import Program, Stopped
from shared.errors import ComputationFailed, InputMismatch, OutOfMemory
from tests.unit.graphs import Document, document, linear_document, node, read, ref, tensor

CPU = torch.device("cpu")


def run(doc: Document, *inputs: torch.Tensor, stop: Callable[[], bool] = lambda: False) -> list[torch.Tensor]:
    return Program(read(doc)).run(inputs, stop, CPU)


def test_a_graph_computes_what_torch_does() -> None:
    x, w = torch.randn(5, 3), torch.randn(4, 3)
    (given,) = run(linear_document(), x, w)
    assert torch.equal(given, torch.relu(torch.nn.functional.linear(x, w)))


def test_sizes_items_and_creation_work_on_real_lengths() -> None:
    nodes = [
        node("rows", "size.of", self=ref("x"), dim=0),
        node("half", "size.floordiv", a=ref("rows"), b=2),
        node("parts", "aten.split.Tensor", self=ref("x"), split_size=ref("half")),
        node("ramp", "aten.arange.default", end=ref("half"), dtype="float32"),
        node("y", "aten.add.Tensor", self=ref("parts", 1), other=ref("ramp"), alpha=2),
    ]
    (given,) = run(document([tensor("x", ["n"])], nodes, [ref("y")]), torch.arange(6.0))
    assert given.tolist() == [3.0, 6.0, 9.0]


def test_the_stop_flag_is_looked_at_before_every_node() -> None:
    chain = [node(f"n{i}", "aten.neg.default", self=ref(f"n{i - 1}" if i else "x")) for i in range(10)]
    doc = document([tensor("x", ["n"])], chain, [ref("n9")])
    asked = 0

    def stop_at_the_fourth() -> bool:
        nonlocal asked
        asked += 1
        return asked == 4

    with pytest.raises(Stopped):
        run(doc, torch.zeros(2), stop=stop_at_the_fourth)
    assert asked == 4


@pytest.mark.parametrize("index", [-1, 4, 2**40, -(2**62)])
@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("aten.embedding.default", {"weight": ref("x"), "indices": ref("i")}),
        ("aten.gather.default", {"self": ref("x"), "dim": 0, "index": ref("i")}),
        ("aten.index_select.default", {"self": ref("x"), "dim": 0, "index": ref("flat")}),
        ("aten.index.Tensor", {"self": ref("x"), "indices": [ref("flat")]}),
    ],
)
def test_an_index_out_of_range_fails_with_the_numbers(op: str, args: Document, index: int) -> None:
    nodes = [node("flat", "aten.reshape.default", self=ref("i"), shape=[-1]), node("n", op, **args)]
    doc = document([tensor("x", [4, 3]), tensor("i", [2, 3], "int64")], nodes, [ref("n")])
    indices = torch.zeros(2, 3, dtype=torch.int64)
    run(doc, torch.randn(4, 3), indices)
    indices[1, 2] = index
    if op == "aten.index.Tensor" and index == -1:
        return  # counts from the end, as torch has it
    low, high = sorted((0, index))
    message = f"node n ({op}): indices from {low} to {high} are outside of a dimension of length 4"
    with pytest.raises(ComputationFailed, match=re.escape(message)):
        run(doc, torch.randn(4, 3), indices)


def test_what_torch_refuses_while_computing_names_node_and_tensors() -> None:
    doc = document(
        [tensor("x", ["a", "b"])], [node("n", "aten.mm.default", self=ref("x"), mat2=ref("x"))], [ref("n")]
    )
    with pytest.raises(
        ComputationFailed, match=re.escape("node n (aten.mm.default) on float32[2, 3], float32[2, 3]")
    ):
        run(doc, torch.zeros(2, 3))


def test_a_host_without_memory_is_told_as_such() -> None:
    doc = document(
        [tensor("x", [])], [node("n", "aten.repeat.default", self=ref("x"), repeats=[2**50])], [ref("n")]
    )
    with pytest.raises(OutOfMemory, match=re.escape("node n (aten.repeat.default) on float32[]")):
        run(doc, torch.zeros(()))


def test_outputs_are_contiguous_and_share_memory_with_nothing() -> None:
    nodes = [
        node("turned", "aten.transpose.int", self=ref("x"), dim0=0, dim1=1),
        node("wide", "aten.expand.default", self=ref("y"), size=[3, 2]),
        node("double", "aten.add.Tensor", self=ref("x"), other=ref("x")),
        node("row", "aten.select.int", self=ref("double"), dim=0, index=0),
    ]
    names = ["x", "turned", "wide", "double", "row", "double"]
    doc = document([tensor("x", [2, 3]), tensor("y", [2])], nodes, [ref(name) for name in names])
    x, y = torch.randn(2, 3), torch.randn(2)
    outputs = run(doc, x, y)
    expected = [x, x.T, y.expand(3, 2), x + x, (x + x)[0], x + x]
    assert all(torch.equal(given, wanted) for given, wanted in zip(outputs, expected, strict=True))
    assert all(given.is_contiguous() for given in outputs)
    storages = {tensor.untyped_storage().data_ptr() for tensor in (*outputs, x, y)}
    assert len(storages) == len(outputs) + 2


def test_a_run_changes_none_of_its_inputs() -> None:
    x, w = torch.randn(5, 3), torch.randn(4, 3)
    before = x.clone(), w.clone()
    run(linear_document(), x, w)
    assert torch.equal(x, before[0])
    assert torch.equal(w, before[1])


def test_values_are_freed_at_their_last_use() -> None:
    """Ten values of 64 MiB, of which two live at once: the peak stays far below their sum."""
    elements = 1 << 24
    chain = [node(f"n{i}", "aten.neg.default", self=ref(f"n{i - 1}" if i else "x")) for i in range(10)]
    program = Program(read(document([tensor("x", ["n"])], chain, [ref("n9")])))
    with torch.profiler.profile(profile_memory=True) as profile:
        program.run([torch.zeros(elements)], lambda: False, CPU)
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    assert 4 * elements <= peak <= 4 * elements * 4


def test_another_number_of_inputs_is_refused() -> None:
    with pytest.raises(InputMismatch, match="the graph has 2 inputs, but 1 were given"):
        run(linear_document(), torch.zeros(5, 3))
