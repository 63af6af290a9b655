"""A locked worker on the device: it starts, says what it is and what holds it, and computes."""

import json
import struct
from pathlib import Path

import pytest
import torch

from compute.worker.lock.sandbox import CORE
from shared.errors import ComputationFailed
from tests.hostile.hostile_worker import Deed
from tests.hostile.pool import do, hostile_pool, threads
from tests.hostile.test_lock_by_user import DENIED, LEFT_TO_THE_DRIVER
from tests.integration.compute_process import compute_process
from tests.integration.compute_tasks import add_task

pytestmark = pytest.mark.timeout(600)


def test_a_locked_worker_computes_on_the_device_and_ready_names_both(tmp_path: Path) -> None:
    with compute_process(tmp_path, device="cuda") as compute:
        body = add_task(compute)
        compute.post(body)
        assert compute.ended(body)["stage"] == "done"
        (stored,) = compute.output_files()
        assert stored.read_bytes()[-12:] == struct.pack("<3f", 11, 22, 33)
        checks = compute.http.get("/ready").json()["checks"]
        assert torch.cuda.get_device_name(0) in checks["worker"]["value"]
        assert all(part in checks["sandbox"]["value"].partition("; without")[0] for part in CORE)
        (worker,) = compute.worker_pids()
        for status in threads(worker):  # the driver's own among them
            assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
            assert int(status["CapEff"], 16) == 0


@pytest.mark.parametrize("deed", [Deed.ATTEMPTS_HERE, Deed.ATTEMPTS_IN_A_NEW_THREAD])
async def test_what_a_worker_on_the_device_attempts_is_denied_but_for_what_the_driver_needs(deed: Deed) -> None:
    async with hostile_pool("cuda") as pool:
        await do(pool, Deed.NOTHING)
        assert not pool.on_host
        with pytest.raises(ComputationFailed) as failed:
            await do(pool, deed)
        told = json.loads(str(failed.value))
        assert {name for name, answer in told.items() if answer not in DENIED} <= LEFT_TO_THE_DRIVER
        assert "succeeded" not in (told["list a folder"], told["ioctl"])
