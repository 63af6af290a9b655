"""A pool whose workers are in a stranger's hands, and what the kernel says of a process."""

import os
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from compute.worker import launcher
from compute.worker.pool import WorkerPool
from compute.worker.wire import Limits
from tests.hostile import hostile_worker
from tests.hostile.hostile_worker import Deed
from tests.integration.test_compute_worker import LIMITS, add_job, run, worker_pool


@asynccontextmanager
async def hostile_pool(device: str = "cpu", limits: Limits = LIMITS) -> AsyncIterator[WorkerPool]:
    real = launcher._command
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            launcher,
            "_command",
            lambda *given: [sys.executable, "-m", hostile_worker.__name__, *real(*given)[3:]],
        )
        async with worker_pool(device=device, limits=limits) as pool:
            yield pool


async def do(pool: WorkerPool, deed: Deed, tenant: str = "one") -> list[bytes]:
    """A task of this requester that does it."""
    return await run(pool, add_job(1), [struct.pack("<f", deed), struct.pack("<f", 1)], tenant)


def threads(pid: int) -> list[dict[str, str]]:
    """/proc/PID/task/*/status of each thread."""
    return [
        dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if ":\t" in line)
        for task in Path(f"/proc/{pid}/task").iterdir()
    ]


def forks(server_name: str = "splitup-forks") -> dict[int, str]:
    """Processes below a fork server of this process: number and name."""
    found: dict[int, tuple[int, str]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        found[int(folder.name)] = (int(rest.split()[1]), name)
    servers = [pid for pid, (parent, name) in found.items() if parent == os.getpid() and name == server_name]
    return {pid: name for pid, (parent, name) in found.items() if parent in servers}
