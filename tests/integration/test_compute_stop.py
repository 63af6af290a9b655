"""Stopping tasks in a real process, at each stage, and what is left afterwards."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.compute_process import compute_process, until
from tests.integration.compute_tasks import add_task, big_task, deaf_task, slow_task


@pytest.fixture(scope="module")
def compute(tmp_path_factory):
    with compute_process(tmp_path_factory.mktemp("compute"), max_running=1, max_in_work=2) as running:
        yield running


def living(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def stopped(compute, task, **parameters) -> None:
    """Cancelled within a second, unknown afterwards, without output."""
    before = compute.output_files()
    begun = time.monotonic()
    answer = compute.delete(task, **parameters)
    assert time.monotonic() - begun < 1
    assert answer.status_code == 200, answer.text
    assert answer.json()["stage"] == "cancelled"
    assert compute.status(task).status_code == 404
    assert compute.output_files() == before


def test_a_running_task_stops_within_a_second_and_its_worker_lives_on(compute):
    task = slow_task(compute)
    compute.post(task)
    compute.reach(task, "running")
    workers = compute.worker_pids()
    stopped(compute, task)
    assert compute.worker_pids() == workers
    again = add_task(compute)
    compute.post(again)
    assert compute.ended(again)["stage"] == "done"


def test_queued_and_fetching_tasks_stop_within_a_second(compute):
    running, fetching, queued = slow_task(compute), slow_task(compute), slow_task(compute)
    compute.post(running)
    compute.reach(running, "running")
    compute.post(fetching)
    compute.reach(fetching, "fetching")
    compute.post(queued)
    assert compute.status(queued).json()["stage"] == "queued"
    for task in (queued, fetching, running):
        stopped(compute, task)


def test_an_operator_that_hears_nothing_is_ended_with_its_worker_and_the_next_task_runs(compute):
    task = deaf_task(compute)
    compute.post(task)
    compute.reach(task, "running")
    workers = compute.worker_pids()
    time.sleep(0.3)
    stopped(compute, task)
    until(lambda: compute.worker_pids() and compute.worker_pids() != workers, "a new worker is there")
    again = add_task(compute)
    compute.post(again)
    assert compute.ended(again)["stage"] == "done"


def test_a_task_beside_one_that_hears_nothing_is_done_once_more(tmp_path):
    with compute_process(tmp_path, max_running=2) as compute:
        deaf, beside = deaf_task(compute), slow_task(compute, count=400)
        compute.post(beside)
        compute.reach(beside, "running")
        compute.post(deaf)
        compute.reach(deaf, "running")
        time.sleep(0.3)
        stopped(compute, deaf)
        assert compute.ended(beside)["stage"] == "done"


def test_a_task_that_is_being_stored_is_finished_unless_forced(compute):
    task, before = big_task(compute), compute.output_files()
    compute.post(task)
    compute.reach(task, "storing")
    answer = compute.delete(task)
    assert (answer.status_code, answer.json()["type"], answer.json()["stage"]) == (409, "storing", "storing")
    assert compute.ended(task)["stage"] == "done"
    answer = compute.delete(task)
    assert (answer.status_code, answer.json()["type"]) == (409, "finished")
    assert answer.json()["result"]["success"] is True
    assert compute.delete(task, acknowledge="unpaid").status_code == 204
    assert compute.output_files() == before


def test_by_force_a_task_that_is_being_stored_leaves_nothing(compute):
    task = big_task(compute)
    compute.post(task)
    compute.reach(task, "storing")
    stopped(compute, task, force=True)


@pytest.mark.parametrize(("word", "left"), [("paid", 1), ("unpaid", 0)])
def test_an_acknowledged_result_is_dropped_and_its_outputs_only_if_unpaid(compute, word, left):
    before = len(compute.output_files())
    task = add_task(compute)
    compute.post(task)
    compute.ended(task)
    assert compute.delete(task, acknowledge=word).status_code == 204
    assert compute.status(task).status_code == 404
    assert compute.delete(task, acknowledge=word).status_code == 204
    assert len(compute.output_files()) == before + left


def test_all_tasks_of_an_execution_stop_with_one_call(compute):
    tasks = [slow_task(compute, executionId="together") for _ in range(3)]
    for task in tasks:
        compute.post(task)
    compute.reach(tasks[0], "running")
    answer = compute.http.delete("/api/task/together")
    assert answer.status_code == 200
    assert {row["taskId"]: row["stage"] for row in answer.json()} == {
        task["taskId"]: "cancelled" for task in tasks
    }
    for task in tasks:
        assert compute.status(task).status_code == 404


def test_many_cancellations_leave_no_descriptor_and_no_memory_behind(compute):
    assert compute.process is not None
    descriptors = Path(f"/proc/{compute.process.pid}/fd")

    def cycle() -> None:
        task = slow_task(compute, side=256)
        compute.post(task)
        compute.reach(task, "running")
        compute.delete(task)

    for _ in range(3):
        cycle()
    before = len(list(descriptors.iterdir()))
    for _ in range(10):
        cycle()
    assert len(list(descriptors.iterdir())) <= before


# ---- deaths ----


def test_the_death_of_the_worker_under_one_task_fails_it_and_the_service_answers_all_through(compute):
    task = slow_task(compute)
    compute.post(task)
    compute.reach(task, "running")
    (worker,) = compute.worker_pids()
    os.kill(worker, signal.SIGKILL)
    with ThreadPoolExecutor(1) as thread:
        ended = thread.submit(compute.ended, task)
        while not ended.done():
            begun = time.monotonic()
            assert compute.http.get("/health").status_code == 200
            assert time.monotonic() - begun < 1
    status = ended.result()
    assert (status["stage"], status["reason"]) == ("failed", "ComputationFailed")
    assert "worker" in status["result"]["errorMessage"]
    assert "SIGKILL" in status["result"]["errorMessage"]
    again = add_task(compute)
    compute.post(again)
    assert compute.ended(again)["stage"] == "done"


def test_tasks_whose_worker_died_under_several_run_once_more_each_alone(tmp_path):
    with compute_process(tmp_path, max_running=2) as compute:
        tasks = [slow_task(compute, count=300) for _ in range(2)]
        for task in tasks:
            compute.post(task)
        for task in tasks:
            compute.reach(task, "running")
        (worker,) = compute.worker_pids()
        os.kill(worker, signal.SIGKILL)
        for task in tasks:
            assert compute.ended(task)["stage"] == "done"


def test_a_worker_that_is_killed_while_idle_is_replaced(compute):
    (worker,) = compute.worker_pids()
    os.kill(worker, signal.SIGKILL)
    task = add_task(compute)
    compute.post(task)
    assert compute.ended(task)["stage"] == "done"


def test_after_a_kill_of_the_process_results_are_kept_and_leftovers_deleted(tmp_path):
    with compute_process(tmp_path) as compute:
        done, storing = add_task(compute), big_task(compute)
        compute.post(done)
        before = compute.ended(done)
        kept = compute.output_files()
        compute.post(storing)
        until(lambda: len(compute.output_files()) > len(kept), "bytes of the output are on disk")
        workers = compute.worker_pids()
        compute.kill()
        until(lambda: not living(workers), "the worker is gone too")
        assert len(compute.output_files()) > len(kept)
        compute.start()
        assert compute.status(done).json() == before
        assert compute.status(storing).status_code == 404
        until(lambda: compute.output_files() == kept, "the leftovers are deleted")
        assert compute.post(done).status_code == 200
        assert compute.post(storing).status_code == 202
        assert compute.ended(storing)["stage"] == "done"


def test_sigterm_takes_nothing_new_finishes_what_runs_and_exits_0(tmp_path):
    with compute_process(tmp_path, grace_s=30) as compute:
        task = slow_task(compute, count=300)
        compute.post(task)
        compute.reach(task, "running")
        assert compute.process is not None
        compute.process.send_signal(signal.SIGTERM)
        until(lambda: compute.post(add_task(compute)).status_code == 429, "new work is refused")
        answer = compute.post(add_task(compute))
        assert answer.json()["type"] == "stopping"
        assert answer.headers["retry-after"]
        assert compute.ended(task)["stage"] == "done"
        assert compute.process.wait(20) == 0
        compute.start()
        assert compute.status(task).json()["stage"] == "done"


def test_sigterm_stops_what_takes_longer_than_the_grace_time_without_output(tmp_path):
    with compute_process(tmp_path, grace_s=0.5) as compute:
        task = slow_task(compute)
        compute.post(task)
        compute.reach(task, "running")
        workers = compute.worker_pids()
        assert compute.stop() == 0
        assert compute.output_files() == []
        assert not living(workers)
        compute.start()
        assert compute.status(task).status_code == 404


def test_a_second_signal_ends_the_process_at_once(tmp_path):
    with compute_process(tmp_path, grace_s=30) as compute:
        task = slow_task(compute)
        compute.post(task)
        compute.reach(task, "running")
        workers = compute.worker_pids()
        assert compute.process is not None
        compute.process.send_signal(signal.SIGTERM)
        until(lambda: compute.post(add_task(compute)).status_code == 429, "it is stopping")
        compute.process.send_signal(signal.SIGINT)
        assert compute.process.wait(2) != 0
        until(lambda: not living(workers), "the worker is gone too")


def test_a_wrong_setting_is_named_and_nothing_starts(tmp_path):
    with compute_process(tmp_path) as compute:
        assert compute.stop() == 0
        (tmp_path / "token").chmod(0o644)
        with pytest.raises(AssertionError, match="chmod 600"):
            compute.start()
        (tmp_path / "token").chmod(0o600)
        with pytest.raises(AssertionError, match="output_prefix"):
            compute.start(output_prefix="http://somewhere")


def test_a_device_that_is_not_there_is_told_by_ready(tmp_path):
    with compute_process(tmp_path) as compute:
        assert compute.stop() == 0
        compute.start(device="cuda:63")
        until(lambda: "cuda:63" in compute.http.get("/ready").text, "the check names the device")
        assert compute.http.get("/ready").status_code == 503
        assert compute.stop() == 0
