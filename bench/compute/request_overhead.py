"""What a request costs besides its function: our POST with `Prefer: wait` beside LitServe's /predict.

Each by one client on one connection, medians. Ours is a sum of two vectors from storage; taken off are its own stages,
which fetch, run and store, and for which LitServe has no counterpart: what is left is HTTP, the token, the queue and
the result's way to the disk. LitServe gives back the number that it was sent.
"""

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection

from bench.compute.node import BEFORE, PATIENCE_S, Times, Work, acknowledge, compute_on, ended, of_each, posted
from bench.compute.objects import Objects
from bench.compute.s3 import serving
from bench.compute.small_tasks import sum_of_two
from bench.lines import Line, not_measured
from bench.machine import machine
from bench.peers import is_installed
from cli.localnet.ports import free_ports

REQUESTS, TINY_REQUESTS = 200, 3
START_S = 120.0
NAME = "request overhead"


async def measure(*, is_tiny: bool) -> list[Line]:
    objects, work = await sum_of_two()
    return await asyncio.to_thread(_lines, work, objects, TINY_REQUESTS if is_tiny else REQUESTS)


def _lines(work: Work, objects: Objects, requests: int) -> list[Line]:
    ours = _ours(work, objects, requests)
    unit = f"ms, {machine()}"
    overhead = ours["all"] - ours["GET"] - ours["run"] - ours["PUT"]
    lines = [Line(f"{NAME}, of ours with fetch, run and store", unit, ours["all"])]
    beside = f"{NAME} beside LitServe"
    if not is_installed("litserve"):
        return [Line(NAME, unit, overhead), *lines]
    try:
        return [Line(beside, unit, overhead, peer=_litserve_ms(requests)), *lines]
    except Exception as exc:  # noqa: BLE001 # another system may raise anything
        return [Line(NAME, unit, overhead), not_measured(beside, exc), *lines]


def _ours(work: Work, objects: Objects, requests: int) -> Times:
    times = []
    with serving(objects) as port, compute_on(port) as process:
        api = HTTPConnection("127.0.0.1", process.port, timeout=PATIENCE_S)
        for _ in range(BEFORE + requests):
            begun = time.perf_counter()
            path = posted(api, work, Prefer="wait=60")
            whole = time.perf_counter() - begun
            times.append(ended(api, path) | {"all": whole * 1000})
            acknowledge(api, path)
        api.close()
    return of_each(times[BEFORE:])


def _litserve_ms(requests: int) -> float:
    body, headers = json.dumps({"input": 1.0}), {"Content-Type": "application/json"}
    times = []
    with _litserve() as api:
        for _ in range(BEFORE + requests):
            begun = time.perf_counter()
            api.request("POST", "/predict", body, headers)
            answer = api.getresponse()
            content = answer.read()
            times.append(time.perf_counter() - begun)
            if answer.status != 200:
                raise RuntimeError(f"{answer.status}: {content!r}")
    return statistics.median(times[BEFORE:]) * 1000


@contextmanager
def _litserve() -> Iterator[HTTPConnection]:
    """To a server that is ready. It is many processes, which end with it as one group."""
    port = free_ports(1)
    command = [sys.executable, "-m", "bench.compute.litserve_server", str(port)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True) as process:
        api = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        try:
            _until_ready(api, process)
            yield api
        finally:
            api.close()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _until_ready(api: HTTPConnection, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            api.request("GET", "/health")
            answer = api.getresponse()
            answer.read()
            if answer.status == 200:
                return
        except OSError:
            api.close()
        time.sleep(0.1)
    raise RuntimeError(f"not ready within {START_S:.0f} s, or ended: {process.poll()}")
