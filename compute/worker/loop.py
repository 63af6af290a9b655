"""The worker's own side: takes requests from the socket, computes in threads, answers."""

import os
import socket
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import torch

from compute.graph.cost import compute_units
from compute.graph.shapes import infer
from compute.graph.steps import SPEC_DTYPES, TORCH_DTYPES, first_line
from compute.shared_memory import layout, map_shared
from compute.specs import TensorSpec
from compute.worker.device import free_bytes, probe, release_memory
from compute.worker.graphs import GraphCache
from compute.worker.kept import KeptCopies
from compute.worker.lock.kernel import name_this_process
from compute.worker.program import Program, Stopped, tells_of_no_memory
from compute.worker.wire import (
    MAX_ERROR_CHARACTERS,
    Job,
    Limits,
    Operation,
    Plan,
    Role,
    decode_job,
    encode_plan,
    receive_packet,
    send_packet,
)
from shared.errors import ComputationFailed, OutOfMemory, TaskError

OPERATIONS = {Role.WORKER: (Operation.RUN, Operation.PROBE, Operation.DROP), Role.PLANNER: (Operation.PLAN,)}

Answer = dict[str, Any]
Views = list[memoryview]


class WorkerLoop:
    """Serves one connection. Requests that were begun may run at the same time; answers come in any order."""

    def __init__(
        self,
        sock: socket.socket,
        stop_page: memoryview,
        device: torch.device,
        limits: Limits,
        operations: Collection[Operation],
        max_running: int,
    ) -> None:
        self._sock = sock
        self._stop_page = stop_page
        self._device = device
        self._limits = limits
        self._graphs = GraphCache(limits, lambda graph: graph)
        self._programs = GraphCache(limits, Program)
        self._kept = KeptCopies(
            lambda tensors: [tensor.to(device) for tensor in tensors], lambda: release_memory(device)
        )
        self._running = 0
        self._running_lock = threading.Lock()
        # Others than runs have a thread of their own: they are short and must not wait behind long runs.
        self._counts = {operation: max_running if operation is Operation.RUN else 1 for operation in operations}
        self._threads = {
            operation: ThreadPoolExecutor(count, operation) for operation, count in self._counts.items()
        }

    def start_threads(self, warm_up: Callable[[], None]) -> None:
        """Every thread that will ever take a request, each having done `warm_up`."""
        for operation, count in self._counts.items():
            # A thread that has ended its work is taken again before another is made: all must be there at once.
            together = threading.Barrier(count)

            def begin(together: threading.Barrier = together) -> None:
                together.wait()
                warm_up()

            for begun in [self._threads[operation].submit(begin) for _ in range(count)]:
                begun.result()

    def serve(self) -> None:
        """Until the other side is gone. Whatever still computes then is of no use to anyone."""
        has_begun = False
        while (packet := receive_packet(self._sock)) is not None:
            request, fds = packet
            operation = Operation(request["operation"])
            views = [
                map_shared(fd, size, writable=place == 1)
                for place, (fd, size) in enumerate(zip(fds, request["sizes"], strict=True))
            ]
            for fd in fds:
                os.close(fd)
            if operation is Operation.RUN:
                with self._running_lock:
                    self._running += 1
                if not has_begun:
                    has_begun = True
                    name_this_process("splitup-worker")
            self._threads[operation].submit(self._answer, operation, request, views)
            del views  # or an idle worker would hold its last task's memory until the next one

    def _answer(self, operation: Operation, request: Answer, views: Views) -> None:
        answer: Answer = {"number": request["number"]}
        try:
            self._done(operation, request, views)
            if operation is Operation.PROBE and (free := free_bytes(self._device)) is not None:
                answer["freeBytes"] = free
        except Stopped:
            pass  # whoever asked for it does not ask what came of it
        except TaskError as exc:
            answer["error"] = (exc.reason, str(exc)[:MAX_ERROR_CHARACTERS])
        except Exception as exc:  # noqa: BLE001 # the outermost loop of this thread: whatever it is, it is answered
            answer["error"] = self._outside_of_operators(exc)
        is_last = operation is Operation.RUN and self._was_last_running()
        if is_last or operation is Operation.DROP or answer.get("error", ("",))[0] == OutOfMemory.__name__:
            # Before it is answered: with the answer, others count on the memory.
            release_memory(self._device)
        # The other side is gone, and so will this process be in a moment.
        with suppress(OSError):
            send_packet(self._sock, answer)

    def _done(self, operation: Operation, request: Answer, views: Views) -> None:
        """What it leaves is in `views`, or on the device."""
        match operation:
            case Operation.PLAN:
                self._plan(views, self._stop_asked(request["stop"]))
            case Operation.RUN:
                self._run(views, self._stop_asked(request["stop"]), request["keep"])
            case Operation.PROBE:
                self._probe()
            case Operation.DROP:
                self._kept.drop(request["numbers"])

    def _outside_of_operators(self, exc: Exception) -> tuple[str, str]:
        """Reason and message; an operator names itself."""
        if tells_of_no_memory(exc):
            message = f"no memory for the tensors of this task on {self._device}: {first_line(exc)}"
            return OutOfMemory.__name__, message
        return ComputationFailed.__name__, f"{type(exc).__name__}: {exc}"[:MAX_ERROR_CHARACTERS]

    def _was_last_running(self) -> bool:
        with self._running_lock:
            self._running -= 1
            return self._running == 0

    def _stop_asked(self, slot: int) -> Callable[[], bool]:
        return lambda: self._stop_page[slot] != 0

    def _plan(self, views: Views, stop: Callable[[], bool]) -> None:
        job_view, room = views
        job = decode_job(bytes(job_view))
        graph = self._graphs.get(job.package)
        if stop():
            raise Stopped
        inference = infer(graph, job.input_specs, max_bytes=self._limits.max_task_bytes)
        plan = Plan(inference.outputs, compute_units(graph, inference), inference.peak_bytes)
        data = encode_plan(plan)
        room[: len(data)] = data

    def _run(self, views: Views, stop: Callable[[], bool], keep: list[int | None]) -> None:
        job_view, output_view, *input_views = views
        job = decode_job(bytes(job_view))
        program = self._programs.get(job.package)
        inputs = [
            tensor
            for view, specs, number in zip(input_views, job.inputs, keep, strict=True)
            for tensor in self._kept.of(number, tensors_in(view, specs))
        ]
        outputs = program.run(inputs, stop, self._device)
        _copy_out(outputs, job, output_view)

    def _probe(self) -> None:
        probe(self._device)


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
