"""Workers of a real compute process killed, stopped, crashed, hung and overfed, while another's tasks stream."""

import os
import random
from pathlib import Path

import pytest

from tests.hostile.hostile_worker import Deed
from tests.hostile.strikes import OTHER_REQUESTER, QuickTasks, Strikes, deed_task
from tests.integration.compute_process import ComputeProcess, compute_process, name_of, until

TIMES = 100 if os.environ.get("FULL") == "1" else 20
MAX_GROWTH_BYTES = 48 << 20
LIMITS = {"max_task_bytes": 256 << 20, "max_output_bytes": 64 << 20}
"""Small, so that eating as much takes no time."""

pytestmark = pytest.mark.timeout(300 + 30 * TIMES)


def figures(compute: ComputeProcess) -> dict[str, int]:
    """Of the API process: resident bytes, descriptors, mappings of shared memory; and the processes below it."""
    assert compute.process is not None
    proc = Path(f"/proc/{compute.process.pid}")
    return {
        "resident": int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
        "descriptors": len(list((proc / "fd").iterdir())),
        "shared": (proc / "maps").read_text().count("/memfd:"),
        "processes": len(compute.forked_pids()),
    }


def settled(compute: ComputeProcess) -> dict[str, int]:
    """Once a worker of each requester and a spare wait, so that the same processes are counted each time."""
    for members in ({}, {"requester": OTHER_REQUESTER}):
        task = deed_task(compute, Deed.NOTHING, **members)
        compute.post(task)
        assert compute.ended(task)["stage"] == "done"
        assert compute.delete(task, acknowledge="unpaid").status_code == 204
    until(lambda: "splitup-spare" in map(name_of, compute.forked_pids()), "a spare waits", 60)
    return figures(compute)


def explained(end: str) -> bool:
    """A quick task was done, or it was in a worker that was killed or stopped under it alone."""
    return end in ("done", "cancelled") or (end.startswith("ComputationFailed") and "SIGKILL" in end)


def test_under_load_no_strike_at_a_worker_leaves_anything_behind(tmp_path: Path) -> None:
    seed = int(os.environ.get("SEED", random.randrange(2**32)))
    print(f"\nSEED={seed}")
    with compute_process(tmp_path, module="tests.hostile.hostile_compute", **LIMITS) as compute:
        strikes = Strikes(compute, random.Random(seed))
        for kind in strikes.kinds:  # the first of each makes what is then kept
            strikes.strike(kind)
        settled(compute)
        before = settled(compute)
        quick = QuickTasks(compute)
        try:
            for number in range(TIMES):
                strikes.strike()
                quick.at_least(number)
        finally:
            quick.end()
        print(f"{dict(strikes.done)}; quick tasks: {dict(quick.ends)}")
        after = settled(compute)

        def as_before() -> bool:
            after.update(figures(compute))
            return all(after[counted] <= before[counted] for counted in ("descriptors", "shared", "processes"))

        try:
            until(as_before, "all is as it was", 30)
        finally:
            print(f"before {before}\nafter  {after}")
        assert after["resident"] - before["resident"] < MAX_GROWTH_BYTES
        assert [end for end in quick.ends if not explained(end)] == []
        assert compute.http.get("/api/task").json() == []
        assert compute.output_files() == []
        assert " 0 MiB promised" in compute.http.get("/ready").json()["checks"]["memory"]["value"]
