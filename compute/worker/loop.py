"""The worker's own side: takes requests from the socket, computes in threads, answers."""

import hashlib
import os
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import torch

from compute.graph.cost import compute_units
from compute.graph.document import parse_graph
from compute.graph.shapes import infer
from compute.graph.steps import SPEC_DTYPES, TORCH_DTYPES
from compute.graph.task_graph import TaskGraph
from compute.shared_memory import layout, map_shared
from compute.specs import DType, TensorSpec
from compute.worker.device import probe, release_memory
from compute.worker.program import Program, Stopped
from compute.worker.wire import (
    MAX_ERROR_CHARACTERS,
    Job,
    Limits,
    Operation,
    Plan,
    decode_job,
    encode_plan,
    receive_packet,
    send_packet,
)
from shared.errors import ComputationFailed, OutOfMemory, TaskError

MAX_GRAPHS = 64
"""Compiled graphs kept, the least recently used go first."""

_WARM_UP_PACKAGE = b"""{
    "format": "splitup-task-graph", "version": 1,
    "inputs": [{"name": "x", "dtype": "float32", "shape": ["n"]}],
    "nodes": [{"name": "y", "op": "aten.add.Tensor", "args": {"self": {"ref": "x"}, "other": {"ref": "x"}}}],
    "outputs": [{"ref": "y"}]
}"""

Answer = dict[str, Any]


class WorkerLoop:
    """Serves one connection. Requests that were begun may run at the same time; answers come in any order."""

    def __init__(
        self, sock: socket.socket, stop_page: memoryview, device: torch.device, limits: Limits, max_running: int
    ) -> None:
        self._sock = sock
        self._stop_page = stop_page
        self._device = device
        self._limits = limits
        self._graphs = GraphCache(limits)
        # Plans and probes have threads of their own: they are short and must not wait behind long runs.
        self._threads = {
            operation: ThreadPoolExecutor(max_running if operation is Operation.RUN else 1, operation)
            for operation in Operation
        }

    def serve(self) -> None:
        """Until the other side is gone. Whatever still computes then is of no use to anyone."""
        while (packet := receive_packet(self._sock)) is not None:
            request, fds = packet
            operation = Operation(request["operation"])
            views = [map_shared(fd, size) for fd, size in zip(fds, request["sizes"], strict=True)]
            for fd in fds:
                os.close(fd)
            self._threads[operation].submit(self._answer, operation, request, views)

    def _answer(self, operation: Operation, request: Answer, views: list[memoryview]) -> None:
        work = {Operation.PLAN: self._plan, Operation.RUN: self._run, Operation.PROBE: self._probe}[operation]
        answer: Answer = {"number": request["number"]}
        try:
            work(views, self._stop_asked(request["stop"]))
        except Stopped:
            answer["stopped"] = True
        except TaskError as exc:
            answer["error"] = (exc.reason, str(exc)[:MAX_ERROR_CHARACTERS])
        except (torch.OutOfMemoryError, MemoryError):  # outside of any operator, which names itself
            answer["error"] = (OutOfMemory.__name__, f"no memory for the tensors of this task on {self._device}")
        except Exception as exc:  # noqa: BLE001 # the outermost loop of this thread: whatever it is, it is answered
            answer["error"] = (ComputationFailed.__name__, f"{type(exc).__name__}: {exc}"[:MAX_ERROR_CHARACTERS])
        if answer.get("error", ("",))[0] == OutOfMemory.__name__:
            release_memory(self._device)
        # The other side is gone, and so will this process be in a moment.
        with suppress(OSError):
            send_packet(self._sock, answer)

    def _stop_asked(self, slot: int) -> Callable[[], bool]:
        return lambda: self._stop_page[slot] != 0

    def _plan(self, views: list[memoryview], stop: Callable[[], bool]) -> None:
        job_view, room = views
        job = decode_job(bytes(job_view))
        graph, _ = self._graphs.get(job.package)
        if stop():
            raise Stopped
        inference = infer(graph, job.input_specs, max_bytes=self._limits.max_task_bytes)
        plan = Plan(inference.outputs, compute_units(graph, inference), inference.peak_bytes)
        data = encode_plan(plan)
        room[: len(data)] = data

    def _run(self, views: list[memoryview], stop: Callable[[], bool]) -> None:
        job_view, output_view, *input_views = views
        job = decode_job(bytes(job_view))
        _, program = self._graphs.get(job.package)
        inputs = [
            tensor.to(self._device)
            for view, specs in zip(input_views, job.inputs, strict=True)
            for tensor in tensors_in(view, specs)
        ]
        outputs = program.run(inputs, stop, self._device)
        _copy_out(outputs, job, output_view)

    def _probe(self, views: list[memoryview], stop: Callable[[], bool]) -> None:  # noqa: ARG002 # of one shape
        probe(self._device)


def warm_up(device: torch.device, limits: Limits) -> None:
    """Torch's first inference and run take most of a second: better before the first task than within it."""
    spec = TensorSpec(DType.FLOAT32, (2,))
    graph, program = GraphCache(limits).get(_WARM_UP_PACKAGE)
    infer(graph, [spec], max_bytes=limits.max_task_bytes)
    program.run([torch.zeros(2, device=device)], lambda: False, device)


class GraphCache:
    """Graphs by the hash of their package, each parsed and compiled once."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, tuple[TaskGraph, Program]] = OrderedDict()

    def get(self, package: bytes) -> tuple[TaskGraph, Program]:
        key = hashlib.sha256(package).digest()
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        graph = parse_graph(
            package, max_bytes=self._limits.max_graph_bytes, max_nodes=self._limits.max_graph_nodes
        )
        compiled = graph, Program(graph)
        with self._lock:
            self._known[key] = compiled
            while len(self._known) > MAX_GRAPHS:
                self._known.popitem(last=False)
        return compiled


def tensors_in(view: memoryview, specs: tuple[TensorSpec, ...]) -> list[torch.Tensor]:
    """The tensors of a shared buffer, without a copy, on the CPU."""
    tensors = []
    for begin, spec in zip(layout(specs)[0], specs, strict=True):
        dtype = TORCH_DTYPES[spec.dtype]
        if spec.elements:
            flat = torch.frombuffer(view, dtype=dtype, count=spec.elements, offset=begin)
            tensors.append(flat.view(spec.shape))
        else:
            tensors.append(torch.empty(spec.shape, dtype=dtype))
    return tensors


def _copy_out(outputs: list[torch.Tensor], job: Job, view: memoryview) -> None:
    """Into the memory that was laid out from the plan; what turned out otherwise is refused."""
    given = tuple(TensorSpec(SPEC_DTYPES[tensor.dtype], tuple(tensor.shape)) for tensor in outputs)
    if given != job.outputs:
        raise ComputationFailed(
            f"the outputs are {', '.join(map(str, given))}, but the plan says {', '.join(map(str, job.outputs))}"
        )
    for tensor, room in zip(outputs, tensors_in(view, job.outputs), strict=True):
        room.copy_(tensor)
