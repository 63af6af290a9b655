"""The memory that a call takes beside its inputs stays below its bound, however its inputs lie in memory."""

import copy
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from compute.graph.inference import Inference
from compute.graph.operator import Operator, Workspace
from compute.graph.shapes import infer
from compute.graph.steps import LAID_OUT_ANEW, SPEC_DTYPES, Values, compile_steps, tensors_of
from compute.graph.workspace import BY_LIBRARIES, workspace_bytes
from compute.specs import DType, TensorSpec
from compute.worker.program import Program
from shared.errors import ComputationFailed, GraphInvalid
from tests.needs import absent
from tests.unit.graphs import Document, document, node, read, ref, tensor
from tests.unit.samples import TORCH_OPERATORS, drawn_inputs, sample

CPU = torch.device("cpu")
ATTENTION = "aten.scaled_dot_product_attention.default"
SIDE = 64
"""A matrix has as many elements as torch wants for its tile; a copy of any stands out."""
MANY = 100
NUMBERS = 64
"""Bytes of the numbers that torch keeps in tensors of no dimensions, and of the strides of a repetition."""
LIBRARYS = (Workspace.PRODUCT, Workspace.ATTENTION, Workspace.CONVOLUTION, Workspace.RECURRENT)


@dataclass(frozen=True, slots=True)
class Case:
    """One call, and what is known of it. Its node is the last of the graph."""

    name: str
    document: Document
    inputs: list[torch.Tensor]
    inference: Inference

    @property
    def inferred_bytes(self) -> int:
        """Beside the inputs."""
        given = sum(tensor.nbytes for tensor in self.inputs)
        return self.inference.peak_bytes - given - self._unseen()

    def bound_bytes(self, given: int) -> int:
        """For the call alone, where what it gives takes `given` bytes."""
        last = read(self.document).nodes[-1]
        return given + workspace_bytes(last, self.inference.values, torch.get_num_threads()) - self._unseen()

    def _unseen(self) -> int:
        """What libraries take past the allocator, where nothing is measured, must not excuse anything else."""
        return BY_LIBRARIES if read(self.document).nodes[-1].operator.workspace in LIBRARYS else 0


def permuted(name: str, shape: list[int]) -> tuple[list[int], Document]:
    turned = [*range(len(shape))][::-1]
    return shape[::-1], node(name, "aten.permute.default", self=ref(f"whole.{name}"), dims=turned)


def strided(name: str, shape: list[int]) -> tuple[list[int], Document]:
    select = node(name, "aten.select.int", self=ref(f"whole.{name}"), dim=len(shape), index=0)
    return [*shape, 2], select


def expanded(name: str, shape: list[int]) -> tuple[list[int], Document]:
    return [1, *shape[1:]], node(name, "aten.expand.default", self=ref(f"whole.{name}"), size=shape)


def channels_last(name: str, shape: list[int]) -> tuple[list[int], Document]:
    """As a batch's first dimension followed by the last ones, the second at the end."""
    if len(shape) < 4:
        return shape, node(name, "aten.slice.Tensor", self=ref(f"whole.{name}"))
    turned = [0, len(shape) - 1, *range(1, len(shape) - 1)]
    return [shape[0], *shape[2:], shape[1]], node(
        name, "aten.permute.default", self=ref(f"whole.{name}"), dims=turned
    )


def swapped(name: str, shape: list[int]) -> tuple[list[int], Document]:
    """As heads of attention lie that were taken out of one row each."""
    if len(shape) < 4:
        return shape, node(name, "aten.slice.Tensor", self=ref(f"whole.{name}"))
    turn = node(name, "aten.transpose.int", self=ref(f"whole.{name}"), dim0=1, dim1=2)
    return [shape[0], shape[2], shape[1], *shape[3:]], turn


def on_views(doc: Document, view: Callable[[str, list[int]], tuple[list[int], Document]]) -> Document:
    """The same call, each input of it a view of an input of the graph."""
    changed = copy.deepcopy(doc)
    views = []
    for given in changed["inputs"]:
        name = given["name"]
        given["name"] = f"whole.{name}"
        given["shape"], made = view(name, given["shape"])
        views.append(made)
    changed["nodes"] = [*views, *changed["nodes"]]
    return changed


def cases(operator: Operator) -> Iterator[Case]:
    """All that torch takes: every dtype, every way of lying in memory."""
    for dtype in DType:
        plain = sample(operator.name, SIDE, dtype)
        for view in (None, permuted, strided, expanded) if plain["inputs"] else (None,):
            doc = on_views(plain, view) if view else plain
            inputs = drawn_inputs(doc)
            specs = [TensorSpec(SPEC_DTYPES[tensor.dtype], tuple(tensor.shape)) for tensor in inputs]
            try:
                inference = infer(read(doc), specs, max_bytes=1 << 30)
                Program(read(doc)).run(inputs, lambda: False, CPU)
            except (GraphInvalid, ComputationFailed):
                continue
            yield Case(f"{dtype} {view.__name__ if view else 'as it is'}", doc, inputs, inference)


def peaks(runs: Sequence[Callable[[], object]]) -> list[int]:
    """The most that torch's allocator held while each ran, beside what there was before it."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        for place, run in enumerate(runs):
            with torch.profiler.record_function(f"run {place}"):
                given = run()
            del given
    events = sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    memory = [event for event in events if event.name() == "[memory]"]
    found = []
    for place in range(len(runs)):
        (begun,) = (event for event in events if event.name() == f"run {place}")
        held = peak = 0
        for event in memory:
            if begun.start_ns() <= event.start_ns() <= begun.start_ns() + begun.duration_ns():
                held += event.nbytes()
                peak = max(peak, held)
        found.append(peak)
    return found


@torch.inference_mode()
def last_call(case: Case) -> tuple[Callable[[], object], int]:
    """The call of the last node, its arguments made, and how many bytes of memory of their own its results have."""
    steps = compile_steps(read(case.document))
    names = [given["name"] for given in case.document["inputs"]]
    values: Values = dict(zip(names, case.inputs, strict=True))
    for step in steps[:-1]:
        values[step.node.name] = step.call(values, CPU)
    theirs = {tensor.untyped_storage()._cdata for value in values.values() for tensor in tensors_of(value)}
    results = [tensor.untyped_storage() for tensor in tensors_of(steps[-1].call(values, CPU))]
    own = {storage._cdata: storage.nbytes() for storage in results if storage._cdata not in theirs}
    return torch.inference_mode()(lambda: steps[-1].call(values, CPU)), sum(own.values())


@pytest.mark.timeout(120)
@pytest.mark.parametrize("operator", TORCH_OPERATORS, ids=lambda operator: operator.name)
def test_a_call_takes_no_more_than_its_bound_and_a_run_no_more_than_was_inferred(operator: Operator) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of odd dtypes, which is its answer to them
        tried = list(cases(operator))
        calls = [last_call(case) for case in tried]
        called = peaks([call for call, _ in calls])
        ran = peaks(
            [lambda case=case: Program(read(case.document)).run(case.inputs, lambda: False, CPU) for case in tried]
        )
    assert tried
    for case, (_, given), call_peak, run_peak in zip(tried, calls, called, ran, strict=True):
        more = call_peak - case.bound_bytes(given)
        assert more <= NUMBERS, f"{case.name}: the call took {more} bytes more than its bound"
        more = run_peak - case.inferred_bytes
        assert more <= NUMBERS, f"{case.name}: the run took {more} bytes more than inferred"


@pytest.mark.parametrize("view", [channels_last, swapped])
@pytest.mark.parametrize("op", sorted(LAID_OUT_ANEW))
def test_results_that_kernels_lay_out_as_they_like_are_counted_as_the_copies_that_they_become(
    op: str, view: Callable[[str, list[int]], tuple[list[int], Document]]
) -> None:
    """Many of them, so that one call's workspace does not hide it."""
    doc = on_views(sample(op, 32), view)
    called = doc["nodes"].pop()
    doc["nodes"] += [called | {"name": f"y{place}"} for place in range(MANY)]
    item = 0 if op == "aten.lstm.input" else None
    doc["outputs"] = [ref(f"y{place}", item) for place in range(MANY)]
    inputs = drawn_inputs(doc)
    specs = [TensorSpec(SPEC_DTYPES[given.dtype], tuple(given.shape)) for given in inputs]
    case = Case("", doc, inputs, infer(read(doc), specs, max_bytes=1 << 30))
    (ran,) = peaks([lambda: Program(read(doc)).run(inputs, lambda: False, CPU)])
    assert ran <= case.inferred_bytes + NUMBERS


@pytest.fixture
def many_threads() -> Iterator[None]:
    """More than there are CPUs, and so many that their tiles are more than all scores."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(32, 2 * (os.cpu_count() or 1)))
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("many_threads")
@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.BFLOAT16])
def test_attention_by_more_threads_than_cpus_takes_no_more_than_its_bound(dtype: DType) -> None:
    attention = node("y", ATTENTION, query=ref("q"), key=ref("k"), value=ref("k"))
    given = [tensor("q", [1, 1, 768, 64], dtype), tensor("k", [1, 1, 512, 64], dtype)]
    doc = document(given, [attention], [ref("y")])
    inputs = drawn_inputs(doc)
    specs = [TensorSpec(dtype, tuple(drawn.shape)) for drawn in inputs]
    case = Case("", doc, inputs, infer(read(doc), specs, max_bytes=1 << 30))
    call, result_bytes = last_call(case)
    called, ran = peaks([call, lambda: Program(read(doc)).run(inputs, lambda: False, CPU)])
    assert called <= case.bound_bytes(result_bytes) + NUMBERS
    assert ran <= case.inferred_bytes + NUMBERS


@pytest.mark.parametrize(("signal", "weight"), [([2, 1, 1024, 1024], [2, 1, 1, 1]), ([1, 1, 1 << 20], [1, 1, 1])])
def test_a_convolution_of_few_channels_takes_no_more_of_the_machine_than_its_bound(
    signal: list[int], weight: list[int]
) -> None:
    flat = [1] * (len(signal) - 2)
    windows = {"stride": flat, "padding": [0] * len(flat), "dilation": flat, "output_padding": [0] * len(flat)}
    given = {"input": ref("x"), "weight": ref("w"), "bias": None}
    call = node("y", "aten.convolution.default", **given, **windows, transposed=False, groups=1)
    doc = document([tensor("x", signal), tensor("w", weight)], [call], [ref("y")])
    inputs = drawn_inputs(doc)
    inference = infer(
        read(doc), [TensorSpec(DType.FLOAT32, tuple(each.shape)) for each in inputs], max_bytes=1 << 30
    )
    inferred = inference.peak_bytes - sum(each.nbytes for each in inputs)
    assert resident_bytes(lambda: Program(read(doc)).run(inputs, lambda: False, CPU)) <= inferred


def test_an_lstm_of_many_small_steps_takes_no_more_of_the_machine_than_its_bound() -> None:
    hx, params = [ref("h"), ref("h")], [ref("w"), ref("w")]
    given = {"input": ref("x"), "hx": hx, "params": params, "has_biases": False, "num_layers": 1}
    call = node("y", "aten.lstm.input", **given, bidirectional=False, batch_first=False)
    half = DType.FLOAT16
    shapes = {"x": [50_000, 1, 1], "h": [1, 1, 1], "w": [4, 1]}
    doc = document([tensor(name, shape, half) for name, shape in shapes.items()], [call], [ref("y", 0)])
    inputs = drawn_inputs(doc)
    specs = [TensorSpec(half, tuple(each.shape)) for each in inputs]
    inferred = infer(read(doc), specs, max_bytes=1 << 30).peak_bytes - sum(each.nbytes for each in inputs)
    assert resident_bytes(lambda: Program(read(doc)).run(inputs, lambda: False, CPU)) <= inferred


def resident_bytes(run: Callable[[], object]) -> int:
    """The most that this process held while it ran, beside what it held before: libraries have memory past torch's."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    except OSError as exc:
        absent(f"the kernel does not let a peak begin anew: {exc.strerror}")
    before = _status("VmRSS")
    run()
    return _status("VmHWM") - before


def _status(member: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{member}:"))
