"""Tasks that share a real process' memory: those that do not fit beside each other wait their turn."""

import re

from tests.integration.compute_process import ComputeProcess, compute_process, until
from tests.integration.compute_tasks import big_task, slow_task

MEMORY_BYTES = 12 << 20
"""A chain of products of matrices of 512 by 512 takes 8 MiB."""


def done(compute: ComputeProcess, task: dict[str, object]) -> dict[str, float]:
    """When it entered each stage."""
    until(lambda: compute.status(task, wait=60).json()["stage"] in ("done", "failed"), "it has ended", 300)
    status = compute.ended(task)
    assert status["stage"] == "done", status
    return {entry["stage"]: entry["at"] for entry in status["stages"]}


def test_tasks_that_do_not_fit_together_run_one_after_the_other_and_one_that_never_fits_is_refused(tmp_path):
    with compute_process(tmp_path, max_running=2, memory_bytes=MEMORY_BYTES) as compute:
        first, second, third = slow_task(compute, count=1_000), slow_task(compute, count=5), slow_task(compute)
        never = big_task(compute)
        compute.post(first)
        compute.reach(first, "running")
        compute.post(second)
        compute.post(never)
        refused = compute.ended(never)
        assert refused["reason"] == "OutOfMemory"
        needed, most = map(int, re.findall(r"\d{6,}", refused["result"]["errorMessage"]))
        assert needed > most == MEMORY_BYTES
        compute.post(third)
        assert compute.delete(third).status_code == 200
        assert done(compute, second)["running"] >= done(compute, first)["storing"]
        assert "room for 12 MiB" in compute.http.get("/ready").json()["checks"]["memory"]["value"]
