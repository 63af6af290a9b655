"""The lock, probed from inside: every thread of a real worker tries what a stranger's code would."""

import asyncio
import json
import os
from pathlib import Path

import pytest
import torch

from shared.errors import ComputationFailed
from tests.hostile.attempts import attempts
from tests.hostile.hostile_worker import DEVICE_NODES, Deed
from tests.hostile.pool import do, forks, hostile_pool, threads
from tests.needs import absent

pytestmark = pytest.mark.timeout(600)

DENIED = {"EPERM", "EACCES", "ENOSYS"}
LOCKED = {"splitup-planner", "splitup-spare", "splitup-worker"}
"""Names of processes that are; who has just been made has another."""
THREADS = (Deed.ATTEMPTS_HERE, Deed.ATTEMPTS_IN_THE_FIRST_THREAD, Deed.ATTEMPTS_IN_A_NEW_THREAD)


async def test_nothing_that_a_worker_attempts_succeeds_from_any_thread_and_the_kernel_says_why() -> None:
    async with hostile_pool() as pool:
        await do(pool, Deed.NOTHING)
        assert pool.sandbox is not None
        assert pool.sandbox.core_gaps == {}
        for deed in THREADS:
            with pytest.raises(ComputationFailed) as failed:
                await do(pool, deed)
            told = json.loads(str(failed.value))
            assert told.keys() == attempts(0).keys()
            assert {name: answer for name, answer in told.items() if answer not in DENIED} == {}, deed.name
        # Of every thread, also those of OpenMP; of the worker, the one that waits, and both planners.
        async with asyncio.timeout(60):
            while set((roles := forks()).values()) != LOCKED:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        for pid in roles:
            for status in threads(pid):
                assert status["Seccomp"] == "2"
                assert status["NoNewPrivs"] == "1"
                assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapInh"], 16) == 0
                if os.getuid() == 0:
                    assert int(status["Uid"].split()[0]) not in (0, os.getuid())
                    assert status["Groups"].strip() == ""


async def test_device_nodes_that_torch_has_no_use_for_leave_the_lock_as_strong_as_on_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if torch.cuda.is_available():
        absent("there is a GPU, and torch uses it")
    monkeypatch.setenv(DEVICE_NODES, "1")
    async with hostile_pool("auto") as pool:
        with pytest.raises(ComputationFailed) as failed:
            await do(pool, Deed.ATTEMPTS_HERE)
        assert pool.on_host
        assert set(json.loads(str(failed.value)).values()) <= DENIED
        assert Path(f"/proc/{pool.pid}/oom_score_adj").read_text() == "1000\n"


async def test_a_worker_that_writes_to_what_it_was_given_to_read_ends_and_another_serves_the_next_task() -> None:
    async with hostile_pool() as pool:
        with pytest.raises(ComputationFailed, match="SIGSEGV"):
            await do(pool, Deed.WRITE_TO_AN_INPUT)
        assert len(await do(pool, Deed.NOTHING)) == 1
