"""Workers that crash, hang and eat memory, one after the other: the service answers, and nothing is left behind."""

import asyncio
import gc
import os
from contextlib import suppress
from pathlib import Path

import pytest

from shared.errors import TaskError
from tests.hostile.hostile_worker import Deed
from tests.hostile.pool import do, forks, hostile_pool

TIMES = 100 if os.environ.get("FULL") == "1" else 20
HANGS_S = 0.2
MAX_GROWTH_BYTES = 48 << 20
COUNTED = ("descriptors", "shared", "processes")

pytestmark = pytest.mark.timeout(300 + 30 * TIMES)


def figures() -> dict[str, int]:
    """Of this process: resident bytes, descriptors, mappings of shared memory; and the processes below it."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    maps = Path("/proc/self/maps").read_text()
    return {
        "resident": pages * os.sysconf("SC_PAGE_SIZE"),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "shared": maps.count("/memfd:"),
        "processes": len(forks()),
    }


async def settled(pool) -> dict[str, int]:
    """Once a spare waits again beside a worker, so that the same processes are counted each time."""
    assert len(await do(pool, Deed.NOTHING)) == 1
    async with asyncio.timeout(60):
        while "splitup-spare" not in forks().values():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return figures()


async def test_crashed_hung_and_overfed_workers_leave_nothing_behind() -> None:
    async with hostile_pool() as pool:
        await settled(pool)
        for deed in (Deed.CRASH, Deed.EAT_MEMORY):  # the first of each makes what is then kept
            with pytest.raises(TaskError):
                await do(pool, deed)
        before = await settled(pool)
        for _ in range(TIMES):
            with pytest.raises(TaskError, match="SIGSEGV"):
                await do(pool, Deed.CRASH)
            with pytest.raises(TaskError):
                await do(pool, Deed.EAT_MEMORY)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(HANGS_S):
                    await do(pool, Deed.HANG)
        after = await settled(pool)
        with suppress(TimeoutError):
            async with asyncio.timeout(60):
                while any(after[counted] != before[counted] for counted in COUNTED):
                    await asyncio.sleep(0.1)  # the last worker may be ending still
                    after = figures()
        print(f"\n{TIMES} crashes, hangs and overfed workers: before {before}, after {after}")
        assert after["resident"] - before["resident"] < MAX_GROWTH_BYTES
        for counted in COUNTED:
            assert after[counted] == before[counted], counted
