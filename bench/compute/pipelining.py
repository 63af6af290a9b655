"""A stream of tasks beside the same one after the other, where moving the tensors takes as long as computing.

GET and PUT go over a line that carries each way the inputs of one task in half of the time that one task computes, so
that GET and PUT together take what computing takes. One task runs at a time, on one thread: what is gained, is gained
by fetching the next one's inputs and storing the last one's outputs beside it. Were that for nothing and complete, N
tasks would take N times the compute, one GET and one PUT, and the stream would be 2N / (N + 1) times as fast.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from http.client import HTTPConnection

import torch

from bench.compute.node import (
    BEFORE,
    OWNER,
    PATIENCE_S,
    PREFIX,
    Times,
    Work,
    acknowledge,
    compute_on,
    ended,
    of_each,
    posted,
)
from bench.compute.objects import Captured, Objects
from bench.compute.s3 import serving
from bench.lines import Goal, Line
from bench.machine import machine
from requester.publish import publish_package, publish_tensors
from tests.integration.compute_process import FORMAT
from tests.integration.compute_tasks import chain_of_products

TASKS, TINY_TASKS = 30, 3
ROUNDS = 2
SIDE, TINY_SIDE = 1024, 64
"""Of the square matrix that is a task's input and, behind the products, its output."""
PRODUCTS = 5
LIMIT = (
    "The line beside it says how near to complete the overlap is; a task is its stages and some requests besides."
)


@dataclass(frozen=True, slots=True)
class Rounds:
    """Seconds that all tasks took, the best round of each, and the stages of those that went one after the other."""

    stream: float
    serial: float
    stages: Times


async def measure(*, is_tiny: bool) -> list[Line]:
    side, tasks = (TINY_SIDE, TINY_TASKS) if is_tiny else (SIDE, TASKS)
    matrix = torch.randn(side, side) / side**0.5  # products of it neither grow nor vanish
    captured = Captured()
    graph = json.dumps(FORMAT | chain_of_products(PRODUCTS)).encode()
    work = Work(
        model_id=await publish_package(captured, PREFIX, OWNER, graph),
        inputs=[await publish_tensors(captured, PREFIX, OWNER, [matrix], is_weights=False)],
        fetched=[],
        run=lambda given: _products(*given),
        dtype=matrix.dtype,
        shapes=[(side, side)],
    )
    bytes_per_s = 2 * matrix.nbytes / _computes_in_s(work, matrix)
    rounds = await asyncio.to_thread(_rounds, work, captured.objects, bytes_per_s, tasks, 1 if is_tiny else ROUNDS)
    return _lines(rounds, tasks)


def _lines(rounds: Rounds, tasks: int) -> list[Line]:
    stages = rounds.stages
    # As long as the slowest of the three, and what lies before the first and behind the last one of those.
    slowest = max(stages.values())
    complete = (sum(stages.values()) + (tasks - 1) * slowest) / 1000
    unit = f"tasks a second, {tasks} of them, {machine()}"
    parts = f"GET {stages['GET']:.0f} ms, run {stages['run']:.0f}, PUT {stages['PUT']:.0f}; {machine()}"
    ours = tasks / rounds.stream
    return [
        Line(
            "stream of tasks beside one after the other",
            unit,
            ours,
            peer=tasks / rounds.serial,
            goal=Goal("ratio", ">=", 1.8),
            limit=LIMIT,
        ),
        Line("stream of tasks beside complete overlap", f"tasks a second, {parts}", ours, bare=tasks / complete),
    ]


def _products(matrix: torch.Tensor) -> torch.Tensor:
    product = matrix
    for _ in range(PRODUCTS):
        product = torch.mm(product, matrix)
    return product


def _computes_in_s(work: Work, matrix: torch.Tensor) -> float:
    """Seconds on one thread: the best of some, since what else runs only takes away."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    best = float("inf")
    try:
        for _ in range(BEFORE):
            begun = time.perf_counter()
            work.run([matrix])
            best = min(best, time.perf_counter() - begun)
    finally:
        torch.set_num_threads(threads)
    return best


def _rounds(work: Work, objects: Objects, bytes_per_s: float, tasks: int, rounds: int) -> Rounds:
    """In turn, through one compute process."""
    stream, serial, stages = [], [], []
    with (
        serving(objects, bytes_per_s=bytes_per_s) as port,
        compute_on(port, max_running=1) as process,
    ):
        api = HTTPConnection("127.0.0.1", process.port, timeout=PATIENCE_S)
        _serial(api, work, BEFORE)
        for _ in range(rounds):
            seconds, each = _serial(api, work, tasks)
            serial.append(seconds)
            stages += each
            stream.append(_stream(api, work, tasks))
        api.close()
    return Rounds(min(stream), min(serial), of_each(stages))


def _serial(api: HTTPConnection, work: Work, tasks: int) -> tuple[float, list[Times]]:
    paths, stages = [], []
    begun = time.perf_counter()
    for _ in range(tasks):
        paths.append(posted(api, work))
        stages.append(ended(api, paths[-1]))
    seconds = time.perf_counter() - begun
    _acknowledge(api, paths)
    return seconds, stages


def _stream(api: HTTPConnection, work: Work, tasks: int) -> float:
    begun = time.perf_counter()
    paths = [posted(api, work) for _ in range(tasks)]
    for path in paths:
        ended(api, path)
    seconds = time.perf_counter() - begun
    _acknowledge(api, paths)
    return seconds


def _acknowledge(api: HTTPConnection, paths: list[str]) -> None:
    for path in paths:
        acknowledge(api, path)
