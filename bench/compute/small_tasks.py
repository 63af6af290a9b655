"""What a small task costs beyond its GETs, its run and its PUT: POST to outputs stored, split by stage."""

import asyncio
import json

import torch

from bench.compute.node import OWNER, PREFIX, Times, Work, medians
from bench.compute.objects import Captured, Objects, path_of
from bench.lines import Goal, Line
from bench.machine import machine
from requester.publish import publish_package, publish_tensors
from shared.uris import parse_tensor_uri
from tests.integration.compute_process import FORMAT
from tests.integration.compute_tasks import ADD

TASKS, TINY_TASKS = 200, 3
ELEMENTS = 1024
LIMIT = "Stages that have a bare figure beside them say where it goes; the rest is HTTP, the queue and the disk."


async def sum_of_two() -> tuple[Objects, Work]:
    """What lies in storage for it, and the task."""
    captured = Captured()
    model_id = await publish_package(captured, PREFIX, OWNER, json.dumps(FORMAT | ADD).encode())
    tensors = [torch.rand(ELEMENTS), torch.rand(ELEMENTS)]
    uris = [await publish_tensors(captured, PREFIX, OWNER, [tensor], is_weights=False) for tensor in tensors]
    work = Work(
        model_id=model_id,
        inputs=uris,
        fetched=[path_of(parse_tensor_uri(uri).object) for uri in uris],
        run=lambda given: torch.add(*given),
        dtype=torch.float32,
        shapes=[(ELEMENTS,), (ELEMENTS,)],
    )
    return captured.objects, work


async def measure(*, is_tiny: bool) -> list[Line]:
    objects, work = await sum_of_two()
    ours, bare = await asyncio.to_thread(medians, work, objects, TINY_TASKS if is_tiny else TASKS)
    beyond = Line(
        "small task, POST to outputs stored, beyond bare GET + run + PUT",
        f"ms, {machine()}",
        ours["all"] - bare["all"],
        goal=Goal("ours", "<=", 5),
        limit=LIMIT,
    )
    return [beyond, *by_stage("small task", ours, bare)]


def by_stage(what: str, ours: Times, bare: Times) -> list[Line]:
    unit = f"ms, {machine()}"
    rest = ours["all"] - ours["GET"] - ours["run"] - ours["PUT"]
    return [
        Line(f"{what}: fetched and planned, beside GET", unit, ours["GET"], bare=bare["GET"]),
        Line(f"{what}: run", unit, ours["run"], bare=bare["run"]),
        Line(f"{what}: stored and written down, beside PUT", unit, ours["PUT"], bare=bare["PUT"]),
        Line(f"{what}: HTTP and the queue", unit, rest),
    ]
