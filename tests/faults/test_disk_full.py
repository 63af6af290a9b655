"""A disk that is really full, under the journal and under compute: nothing acknowledged is lost, and it is told."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener.journal.changes import Insert
from listener.journal.journal import Journal
from listener.journal.states import State
from shared.errors import JournalUnavailable
from tests.faults.between import PATIENCE_S, between
from tests.faults.full_disk import SmallDisk, small_disk
from tests.integration.compute_process import ComputeProcess, compute_process, until
from tests.integration.compute_tasks import add_task, big_task, slow_task
from tests.unit.journal_rows import assignment

pytestmark = pytest.mark.timeout(300)

SEVERAL = 400
"""More rows than the write-ahead log has room for before it must grow."""
LONG_S = 8.0
"""What is not written by then waits for room."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "small", mib=16) as made:
        yield made


# ---- under the journal ----


async def test_what_the_journal_acknowledged_is_there_and_what_it_could_not_write_waits_for_room(
    disk: SmallDisk,
) -> None:
    path = disk.folder / "journal.sqlite"
    journal = Journal(path)
    disk.fill()
    acknowledged = 0
    for number in range(SEVERAL):
        writing = asyncio.create_task(journal.apply(Insert(assignment(number), State.ACCEPTED)))
        done, _ = await asyncio.wait({writing}, timeout=LONG_S)
        if not done:
            break
        acknowledged += 1
    else:
        pytest.fail("the journal wrote on a full disk")
    with pytest.raises(JournalUnavailable, match="full"):
        await journal.check()
    assert len(await journal.tasks_in({State.ACCEPTED})) == acknowledged, "what is there can still be read"
    disk.make_room()
    await asyncio.wait_for(writing, PATIENCE_S)
    await journal.check()
    journal.close()
    journal = Journal(path)
    assert len(await journal.tasks_in({State.ACCEPTED})) == acknowledged + 1
    journal.close()


async def test_while_the_journal_is_full_nothing_is_posted_and_afterwards_every_task_is_computed(
    disk: SmallDisk, tmp_path: Path
) -> None:
    with compute_process(tmp_path) as compute:
        async with between(compute, disk.folder) as way:
            disk.fill()
            bodies = [add_task(compute) for _ in range(SEVERAL)]
            taken = []
            for body in bodies:
                taking = asyncio.create_task(way.take(body))
                done, _ = await asyncio.wait({taking}, timeout=LONG_S)
                if not done:
                    break
                taken.append(taking.result())
            else:
                pytest.fail("the journal wrote on a full disk")
            await asyncio.sleep(1.0)
            known = {row["taskId"] for row in (await asyncio.to_thread(compute.http.get, "/api/task")).json()}
            assert known <= {task.task_id for task in taken}, "what is not written is not begun"
            disk.make_room()
            taken.append(await asyncio.wait_for(taking, PATIENCE_S))
            for task in taken:
                await way.reaches(task, State.COMPUTED)
                assert way.stages(task).count("running") == 1


# ---- under compute ----


def refused_for_want_of_room(compute: ComputeProcess) -> bool:
    return "make room on its disk" in compute.post(add_task(compute)).text


def state(compute: ComputeProcess) -> dict:
    return compute.http.get("/ready").json()["checks"]["state"]


def test_a_full_state_folder_closes_the_door_and_keeps_every_result(disk: SmallDisk, tmp_path: Path) -> None:
    with compute_process(tmp_path, state_dir=disk.folder / "state", probe_interval_s=0.5) as compute:
        done = add_task(compute)
        compute.post(done)
        before = compute.ended(done)
        disk.fill()
        until(lambda: refused_for_want_of_room(compute), "new work is refused")
        assert compute.post(add_task(compute)).status_code == 429
        assert not state(compute)["ok"]
        assert "SPLITUP_STATE_DIR" in state(compute)["value"]
        assert compute.http.get("/ready").status_code == 503
        assert compute.status(done).json() == before
        compute.kill()
        disk.make_room()
        compute.start()
        compute.ready()
        assert compute.status(done).json() == before
        again = add_task(compute)
        assert compute.post(again).status_code == 202
        assert compute.ended(again)["stage"] == "done"


def test_a_result_that_could_not_be_written_is_told_to_nobody_and_its_task_starts_anew(
    disk: SmallDisk, tmp_path: Path
) -> None:
    with compute_process(tmp_path, state_dir=disk.folder / "state", probe_interval_s=3600) as compute:
        tasks = []
        disk.fill()
        for _ in range(SEVERAL):  # until the write-ahead log is full
            tasks.append(add_task(compute))
            if compute.post(tasks[-1]).status_code != 202:
                tasks.pop()
                break
            until(
                lambda: compute.status(tasks[-1]).json().get("stage") in ("done", None), "it ends, or is unknown"
            )
        else:
            pytest.fail("compute kept results on a full disk")
        told = {
            task["taskId"]: compute.status(task).json()
            for task in tasks
            if compute.status(task).status_code == 200
        }
        assert len(told) < len(tasks), "the last one could not be kept"
        disk.make_room()
        compute.kill()
        compute.start()
        compute.ready()
        for task in tasks:
            if task["taskId"] in told:
                assert compute.status(task).json() == told[task["taskId"]]
            else:
                assert compute.post(task).status_code == 202
                assert compute.ended(task)["stage"] == "done"


def test_where_outputs_have_no_room_their_task_waits_for_it_and_nothing_new_is_taken(
    disk: SmallDisk, tmp_path: Path
) -> None:
    settings = {
        "output_prefix": f"file://{disk.folder}",
        "allowed_prefixes": f"file://{tmp_path}/tensors",
        "probe_interval_s": 0.5,
        "max_running": 1,
    }
    with compute_process(tmp_path, **settings) as compute:
        before = slow_task(compute, side=1024)
        assert compute.post(before).status_code == 202
        compute.reach(before, "running")
        task = slow_task(compute, side=1024, count=1)  # an output of 4 MiB
        assert compute.post(task).status_code == 202
        disk.fill()
        until(lambda: refused_for_want_of_room(compute), "new work is refused")
        assert "SPLITUP_OUTPUT_PREFIX" in state(compute)["value"]
        compute.delete(before)
        compute.reach(task, "storing")
        time.sleep(1)
        assert compute.status(task).json()["stage"] == "storing", "it waits"
        disk.make_room()
        assert compute.ended(task)["stage"] == "done"
        (path,) = disk.folder.rglob(f"{task['taskId']}/*.safetensors")
        assert path.stat().st_size > 4_000_000


def test_an_output_that_finds_no_room_within_its_patience_fails_and_leaves_nothing(
    disk: SmallDisk, tmp_path: Path
) -> None:
    settings = {
        "output_prefix": f"file://{disk.folder}",
        "allowed_prefixes": f"file://{tmp_path}/tensors",
        "storage_patience_s": 1,
    }
    with compute_process(tmp_path, **settings) as compute:
        task = big_task(compute, side=3_000)  # an output of 36 MB, where 16 are
        compute.post(task)
        status = compute.ended(task)
        assert status["reason"] == "StorageUnavailable"
        assert "No space left on device" in status["result"]["errorMessage"]
        assert not [path for path in disk.folder.rglob("*") if path.is_file()]
