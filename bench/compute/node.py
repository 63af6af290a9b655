"""Small tasks through the real compute process, and the same steps done by hand in this one, stage by stage."""

import hashlib
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import count, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Final

import torch

from bench.compute.objects import Objects
from bench.compute.s3 import CREDENTIALS, serving
from compute.safetensors_header import parse_header
from shared.ids import Requester
from shared.messages import Stage
from shared.uris import parse_prefix
from tests.integration.compute_process import REQUESTER, TOKEN, ComputeProcess, compute_process

PREFIX: Final = parse_prefix("s3://bench/in")
OWNER: Final = Requester(REQUESTER)
BEFORE: Final = 5
"""Tasks that are not counted: connections, plans and pages come with them."""
PATIENCE_S: Final = 120.0
"""For one answer: what does not come is a failure, not a wait for ever."""
_STEPS: Final = {Stage.FETCHING: "GET", Stage.RUNNING: "run", Stage.STORING: "PUT"}
_numbers = count(1)

Times = dict[str, float]
"""Milliseconds of `GET`, `run`, `PUT` and `all`, which is more where there is more than these three."""


@dataclass(frozen=True, slots=True)
class Work:
    """One task: how compute is asked for it, and what it comes to in torch."""

    model_id: str
    inputs: Sequence[str]
    """TensorUris, as the task has them."""
    fetched: Sequence[str]
    """Paths of the objects, of one tensor each, that are fetched for each task by hand."""
    run: Callable[[Sequence[torch.Tensor]], torch.Tensor]
    dtype: torch.dtype
    shapes: Sequence[tuple[int, ...]]


def medians(work: Work, objects: Objects, tasks: int) -> tuple[Times, Times]:
    """Of tasks through compute, and of the same by hand, in turn against the same server; one thread computes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ours, bare = [], []
    try:
        with serving(objects) as port, compute_on(port) as process:
            api = HTTPConnection("127.0.0.1", process.port, timeout=PATIENCE_S)
            by_hand = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
            for _ in range(BEFORE + tasks):
                ours.append(_through_compute(api, work))
                bare.append(_by_hand(by_hand, work))
            api.close()
            by_hand.close()
    finally:
        torch.set_num_threads(threads)
    return of_each(ours[BEFORE:]), of_each(bare[BEFORE:])


def of_each(times: Sequence[Mapping[str, float]]) -> Times:
    """Of each step its median."""
    return {name: statistics.median(each[name] for each in times) for name in times[0]}


@contextmanager
def compute_on(port: int, **more: object) -> Iterator[ComputeProcess]:
    """A compute process whose storage is the server at `port`."""
    os.environ.update(CREDENTIALS)
    settings = {
        "s3_endpoint_url": f"http://127.0.0.1:{port}",
        "allowed_prefixes": PREFIX,
        "output_prefix": "s3://bench/out",
        **more,
    }
    with TemporaryDirectory() as folder, compute_process(Path(folder), **settings) as process:
        yield process


def posted(api: HTTPConnection, work: Work, **headers: str) -> str:
    """The path of a new task."""
    number = next(_numbers)
    body = {
        "executionId": "bench",
        "taskId": str(number),
        "modelId": work.model_id,
        "inputUris": list(work.inputs),
        "outputCount": 1,
        "requester": OWNER,
        "attempt": 1,
    }
    _asked(api, "POST", "/api/task", json.dumps(body).encode(), headers)
    return f"/api/task/bench/{number}"


def ended(api: HTTPConnection, path: str) -> Times:
    """Waits until it is done: its stages, without `all`. Raises RuntimeError where it failed."""
    status = json.loads(_asked(api, "GET", f"{path}?wait=60"))
    if status["stage"] != Stage.DONE:
        raise RuntimeError(f"the task ended so: {status}")
    spans = pairwise((stage["stage"], stage["at"]) for stage in status["stages"])
    lasted = {stage: (until - since) * 1000 for (stage, since), (_, until) in spans}
    return {name: lasted[stage] for stage, name in _STEPS.items()}


def acknowledge(api: HTTPConnection, path: str) -> None:
    _asked(api, "DELETE", f"{path}?attempt=1&acknowledge=paid")


def _through_compute(api: HTTPConnection, work: Work) -> Times:
    begun = time.perf_counter()
    path = posted(api, work)
    stages = ended(api, path)
    whole = time.perf_counter() - begun
    acknowledge(api, path)
    return stages | {"all": whole * 1000}


def _asked(
    api: HTTPConnection, method: str, path: str, body: bytes = b"", more: Mapping[str, str] = MappingProxyType({})
) -> bytes:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", **more}
    api.request(method, path, body, headers)
    answer = api.getresponse()
    content = answer.read()
    if answer.status >= 300:
        raise RuntimeError(f"{method} {path}: {answer.status} {content!r}")
    return content


def _by_hand(server: HTTPConnection, work: Work) -> Times:
    begun = time.perf_counter()
    tensors = []
    for path, shape in zip(work.fetched, work.shapes, strict=True):
        server.request("GET", path)
        content = bytearray(server.getresponse().read())
        start = parse_header(bytes(content[:4096]), len(content)).data_start
        tensors.append(torch.frombuffer(content, dtype=work.dtype, offset=start).view(shape))
    fetched = time.perf_counter()
    with torch.inference_mode():
        result = work.run(tensors).contiguous()
    ran = time.perf_counter()
    stored = memoryview(result.numpy()).cast("B")
    server.request("PUT", f"/bench/out/{hashlib.sha256(stored).hexdigest()}", stored)
    server.getresponse().read()
    ended = time.perf_counter()
    steps = {"GET": fetched - begun, "run": ran - fetched, "PUT": ended - ran, "all": ended - begun}
    return {name: seconds * 1000 for name, seconds in steps.items()}
