"""Stopping tasks in a real process, at each stage, and what is left afterwards."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.compute_process import compute_process, cpu_s, living, name_of, until
from tests.integration.compute_tasks import add_task, big_task, deaf_task, slow_task, storing
from tests.tries import one_within

ANSWERS_WITHIN_S = 10.0


@pytest.fixture(scope="module")
def compute(tmp_path_factory):
    with compute_process(tmp_path_factory.mktemp("compute"), max_running=1, max_in_work=2) as running:
        yield running


def stopped(compute, task, before=None, **parameters) -> float:
    """Cancelled, unknown afterwards, without output (`before`: what lay there before it). Seconds that it took."""
    before = compute.output_files() if before is None else before
    begun = time.monotonic()
    answer = compute.delete(task, **parameters)
    took_s = time.monotonic() - begun
    assert answer.status_code == 200, answer.text
    assert answer.json()["stage"] == "cancelled"
    assert compute.status(task).status_code == 404
    assert compute.output_files() == before
    return took_s


def computing(compute) -> int:
    """The one worker, once it is within an operator: reading the graph takes it less than this."""
    (worker,) = compute.busy_workers()
    begun_s = cpu_s(worker)
    until(lambda: cpu_s(worker) > begun_s + 1, "it computes")
    return worker


def test_a_running_task_stops_within_a_second_and_its_worker_lives_on(compute):
    for took in one_within(1):
        task = slow_task(compute)
        compute.post(task)
        compute.reach(task, "running")
        worker = computing(compute)
        took.append(stopped(compute, task))
        assert compute.worker_pids() == [worker]
    again = add_task(compute)
    compute.post(again)
    assert compute.ended(again)["stage"] == "done"


def test_queued_and_fetching_tasks_stop_within_a_second(compute):
    for took in one_within(1):
        running, fetching, queued = slow_task(compute), slow_task(compute), slow_task(compute)
        compute.post(running)
        compute.reach(running, "running")
        compute.post(fetching)
        compute.reach(fetching, "fetching")
        compute.post(queued)
        assert compute.status(queued).json()["stage"] == "queued"
        took.append(max(stopped(compute, task) for task in (queued, fetching, running)))


def test_an_operator_that_hears_nothing_is_ended_with_its_worker_and_the_next_task_runs(compute):
    for took in one_within(1):
        task = deaf_task(compute)
        compute.post(task)
        compute.reach(task, "running")
        worker = computing(compute)
        took.append(stopped(compute, task))
        assert not living([worker])
    again = add_task(compute)
    compute.post(again)
    assert compute.ended(again)["stage"] == "done"


def test_a_task_beside_one_that_hears_nothing_is_done_once_more(tmp_path):
    with compute_process(tmp_path, max_running=2) as compute:
        deaf, beside = deaf_task(compute), slow_task(compute, count=600)
        compute.post(deaf)
        compute.reach(deaf, "running")
        compute.post(beside)
        compute.reach(beside, "running")
        stopped(compute, deaf)
        assert compute.ended(beside)["stage"] == "done"


def test_a_task_that_is_being_stored_is_finished_unless_forced(compute):
    before = compute.output_files()
    task = storing(compute, lambda: big_task(compute))
    answer = compute.delete(task)
    assert (answer.status_code, answer.json()["type"], answer.json()["stage"]) == (409, "storing", "storing")
    assert compute.ended(task)["stage"] == "done"
    answer = compute.delete(task)
    assert (answer.status_code, answer.json()["type"]) == (409, "finished")
    assert answer.json()["result"]["success"] is True
    assert compute.delete(task, acknowledge="unpaid").status_code == 204
    assert compute.output_files() == before


def test_by_force_a_task_that_is_being_stored_leaves_nothing(compute):
    before = compute.output_files()
    for took in one_within(1):
        task = storing(compute, lambda: big_task(compute))
        took.append(stopped(compute, task, before, force=True))


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
    until(lambda: "running" in [compute.status(task).json()["stage"] for task in tasks], "one of them runs")
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

    def settled() -> int:
        """How many are open while a spare waits: the same processes are counted each time."""
        until(lambda: "splitup-spare" in map(name_of, compute.forked_pids()), "a spare waits")
        return len(list(descriptors.iterdir()))

    def cycle() -> None:
        task = slow_task(compute, side=256)
        compute.post(task)
        compute.reach(task, "running")
        compute.delete(task)

    for _ in range(3):
        cycle()
    before = settled()
    for _ in range(10):
        cycle()
    until(lambda: settled() <= before, f"no more than {before} descriptors are open")


# ---- deaths ----


def test_the_death_of_the_worker_under_one_task_fails_it_and_the_service_answers_all_through(compute):
    task = slow_task(compute)
    compute.post(task)
    compute.reach(task, "running")
    (worker,) = compute.busy_workers()
    os.kill(worker, signal.SIGKILL)
    with ThreadPoolExecutor(1) as thread:
        ended = thread.submit(compute.ended, task)
        while not ended.done():
            assert compute.http.get("/health", timeout=ANSWERS_WITHIN_S).status_code == 200
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
        (worker,) = compute.busy_workers()
        os.kill(worker, signal.SIGKILL)
        for task in tasks:
            assert compute.ended(task)["stage"] == "done"


def test_a_worker_that_is_killed_while_idle_is_replaced(compute):
    task = add_task(compute)
    compute.post(task)
    assert compute.ended(task)["stage"] == "done"
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
        workers = compute.forked_pids()
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
