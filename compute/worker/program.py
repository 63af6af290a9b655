"""A task graph as something that runs: real tensors in, real tensors out, on one device."""

from collections.abc import Callable, Sequence

import torch

from compute.graph.steps import TORCH_REFUSALS, Step, Value, Values, compile_steps, first_line, own_outputs
from compute.graph.task_graph import Node, TaskGraph
from compute.worker.indices import INDEXING, check_indices
from shared.errors import ComputationFailed, InputMismatch, OutOfMemory

_OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""Torch has a type of its own for what its allocator of a device's memory does not get, and none for a host without
memory or for what libraries and the driver do not get. Their words stand in the message."""


_FAILURES = (MemoryError, *TORCH_REFUSALS)


class Stopped(Exception):
    """The run was told to stop and gave no outputs."""


class Program:
    """A graph compiled once; `run` may be called by several threads at the same time."""

    def __init__(self, graph: TaskGraph) -> None:
        self._graph = graph
        self._steps = compile_steps(graph)

    @torch.inference_mode()
    def run(
        self, inputs: Sequence[torch.Tensor], stop: Callable[[], bool], device: torch.device
    ) -> list[torch.Tensor]:
        """The graph's outputs for `inputs`, which lie on `device` and fit the graph (bind_inputs, infer).

        Asks `stop` before each node. Outputs are contiguous and share no memory with the inputs or with each
        other. Raises Stopped, ComputationFailed and OutOfMemory; the last two name the node and its tensors.
        """
        if len(inputs) != len(self._graph.inputs):
            raise InputMismatch(f"the graph has {len(self._graph.inputs)} inputs, but {len(inputs)} were given")
        values: Values = {given.name: tensor for given, tensor in zip(self._graph.inputs, inputs, strict=True)}
        for step in self._steps:
            if stop():
                raise Stopped
            values[step.node.name] = _run_step(step, values, device)
            for name in step.last_uses:
                del values[name]
        try:
            return own_outputs(self._graph, values)
        except _FAILURES as exc:
            raise _task_error(exc, f"the outputs: {first_line(exc)}") from exc


def _run_step(step: Step, values: Values, device: torch.device) -> Value:
    try:
        if step.node.operator.name in INDEXING:
            check_indices(step.node.operator.name, step.resolved(values))
        return step.call(values, device)
    except ComputationFailed as exc:
        raise ComputationFailed(f"{step.node}: {exc}") from exc
    except _FAILURES as exc:
        raise _task_error(exc, _described(step.node, values, exc)) from exc


def tells_of_no_memory(exc: BaseException) -> bool:
    return isinstance(exc, MemoryError | torch.OutOfMemoryError) or any(
        word in str(exc) for word in _OUT_OF_MEMORY
    )


def _task_error(exc: Exception, message: str) -> ComputationFailed | OutOfMemory:
    return OutOfMemory(message) if tells_of_no_memory(exc) else ComputationFailed(message)


def _described(node: Node, values: Values, exc: BaseException) -> str:
    """The node, what it was given and what torch said; at most a few hundred characters."""
    given = [_shown(value) for ref in node.references() if (value := values.get(ref.name)) is not None]
    return f"{node} on {', '.join(given[:8])}: {first_line(exc)}"


def _shown(value: Value) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    return f"{len(value)} tensors" if isinstance(value, list) else str(value)
