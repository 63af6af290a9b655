"""dtype and shape of every value of a task graph, from torch itself on meta tensors: nothing is allocated."""

from collections import Counter
from collections.abc import Sequence

import torch

from compute.graph.document import bind_inputs
from compute.graph.inference import Inference
from compute.graph.recurrent import infer_lstm
from compute.graph.refusals import refuse_before_call
from compute.graph.steps import (
    SPEC_DTYPES,
    TORCH_DTYPES,
    TORCH_REFUSALS,
    Step,
    Value,
    Values,
    compile_steps,
    first_line,
    own_outputs,
    tensors_of,
)
from compute.graph.task_graph import Node, Ref, TaskGraph
from compute.graph.workspace import transposing_bytes, workspace_bytes
from compute.specs import MAX_DIMENSIONS, MAX_ELEMENTS, TensorSpec
from shared.errors import GraphInvalid, TooLarge

META = torch.device("meta")
MAX_TENSORS = 100_000
"""Most tensors that all nodes together may give: describing them takes time and memory as well."""


def infer(graph: TaskGraph, inputs: Sequence[TensorSpec], *, max_bytes: int) -> Inference:
    """What a run of `graph` on tensors like `inputs` would give and hold, computed with this process's threads.

    Raises InputMismatch (the inputs are not the graph's), TooLarge (a tensor has 2^40 elements or more, a node
    gives too many, or inputs and values take more than `max_bytes` at once) and GraphInvalid (torch refuses a
    node on these shapes). The last two name the node.
    """
    bind_inputs(graph, inputs)
    memory = _Memory(max_bytes)
    values: Values = {}
    known: dict[str, tuple[TensorSpec, ...]] = {}
    for given, spec in zip(graph.inputs, inputs, strict=True):
        _check_size(spec, f"input {given.name}")
        values[given.name] = torch.empty(spec.shape, dtype=TORCH_DTYPES[spec.dtype], device=META)
        known[given.name] = (spec,)
        memory.hold(values[given.name], f"input {given.name}")
    described = 0
    threads = torch.get_num_threads()
    with torch.inference_mode():
        for step in compile_steps(graph):
            values[step.node.name] = value = _meta_result(step, values)
            known[step.node.name] = _specs(step.node, value)
            described += len(known[step.node.name])
            if described > MAX_TENSORS:
                raise TooLarge(
                    f"{step.node}: the nodes so far give {described} tensors; {MAX_TENSORS} are allowed"
                )
            memory.hold(value, str(step.node))
            memory.use(workspace_bytes(step.node, known, threads), str(step.node))
            for name in step.last_uses:
                memory.release(values.pop(name))
        outputs = tuple(_output(ref, known) for ref in graph.outputs)
        memory.hold(own_outputs(graph, values), "the outputs")
        memory.use(transposing_bytes(outputs), "the outputs")
    sum_bytes = sum(spec.nbytes for specs in known.values() for spec in specs)
    return Inference(known, outputs, memory.peak_bytes, sum_bytes)


class _Memory:
    """Bytes held, by storage: views of one tensor hold it once."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._users: Counter[int] = Counter()
        self._held_bytes = 0
        self.peak_bytes = 0

    def hold(self, value: Value, what: str) -> None:
        for storage in _storages(value):
            if not self._users[storage._cdata]:
                self._held_bytes += storage.nbytes()
            self._users[storage._cdata] += 1
        self.use(0, what)

    def use(self, workspace: int, what: str) -> None:
        """Bytes that are needed for a moment beside what is held."""
        self.peak_bytes = max(self.peak_bytes, self._held_bytes + workspace)
        if self.peak_bytes > self._max_bytes:
            raise TooLarge(
                f"at {what} the task holds {self.peak_bytes} bytes; at most {self._max_bytes} are allowed"
            )

    def release(self, value: Value) -> None:
        for storage in _storages(value):
            self._users[storage._cdata] -= 1
            if not self._users[storage._cdata]:
                self._held_bytes -= storage.nbytes()


def _storages(value: Value) -> list[torch.UntypedStorage]:
    return [tensor.untyped_storage() for tensor in tensors_of(value)]


def _meta_result(step: Step, values: Values) -> Value:
    """What torch gives for this node on meta tensors. Raises GraphInvalid or TooLarge, naming the node."""
    try:
        refuse_before_call(step, values)
        if step.node.operator.name == "aten.lstm.input":
            return infer_lstm(step.resolved(values))
        return step.call(values, META)
    except GraphInvalid as exc:
        raise GraphInvalid(f"{step.node}: {str(exc).removeprefix(f'{step.node}: ')}") from exc
    except MemoryError as exc:
        raise TooLarge(f"{step.node}: its result is too large to be described") from exc
    except TORCH_REFUSALS as exc:
        raise GraphInvalid(f"{step.node}: {first_line(exc)}") from exc


def _specs(node: Node, value: Value) -> tuple[TensorSpec, ...]:
    specs = []
    for tensor in tensors_of(value):
        if tensor.dtype not in SPEC_DTYPES:
            raise GraphInvalid(f"{node} gives {str(tensor.dtype).removeprefix('torch.')}, which no task may use")
        spec = TensorSpec(SPEC_DTYPES[tensor.dtype], tuple(tensor.shape))
        _check_size(spec, str(node))
        specs.append(spec)
    return tuple(specs)


def _check_size(spec: TensorSpec, what: str) -> None:
    if any(length < 0 for length in spec.shape):
        raise GraphInvalid(f"{what} is {spec}: a length is negative")
    if spec.elements > MAX_ELEMENTS:
        raise TooLarge(f"{what} is {spec}: 2^40 elements or more")
    if len(spec.shape) > MAX_DIMENSIONS:
        raise TooLarge(f"{what} has {len(spec.shape)} dimensions; at most {MAX_DIMENSIONS} are allowed")


def _output(ref: Ref, known: dict[str, tuple[TensorSpec, ...]]) -> TensorSpec:
    specs = known[ref.name]
    if (ref.item or 0) >= len(specs):
        raise GraphInvalid(f"an output is item {ref.item} of {ref.name}, which gives {len(specs)} tensors")
    return specs[ref.item or 0]
