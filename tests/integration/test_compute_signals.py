"""How the process starts, and how it ends when it is told to."""

import os
import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.integration.compute_process import ComputeProcess, compute_process, living, until
from tests.integration.compute_tasks import add_task, big_task, slow_task, storing
from tests.tries import one_within

LESS_THAN_AN_IMPORT_S = 1.5
"""Of torch, after which a worker looks whether anybody is there."""
SOON_S = 10.0
"""Less than the task takes that runs meanwhile, than the time of grace, and than a poll."""
SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


def running(compute: ComputeProcess, **arguments: object) -> dict[str, object]:
    task = slow_task(compute, **arguments)
    compute.post(task)
    compute.reach(task, "running")
    return task


def is_stopping(compute: ComputeProcess) -> None:
    until(lambda: compute.post(add_task(compute)).status_code == 429, "new work is refused")


def begun_poll(
    compute: ComputeProcess, thread: ThreadPoolExecutor, task: dict[str, object]
) -> Future[httpx.Response]:
    """It has been sent, on a connection that was there before."""
    sent = threading.Event()

    def trace(event: str, _: object) -> None:
        if event == "http11.send_request_body.complete":
            sent.set()

    poll = thread.submit(compute.status, task, {"trace": trace}, wait=60)
    assert sent.wait(60)
    return poll


# ---- starting ----


def test_the_api_answers_within_a_second_of_its_start(tmp_path):
    # Less the time that the process stood in line for a core, which is the machine's and not its own.
    with compute_process(tmp_path) as compute:
        for times in one_within(1, tries=5):
            compute.kill()
            begun = time.monotonic()
            compute.start()
            times.append(time.monotonic() - begun - waited_for_a_core_s(compute.process.pid))
            assert compute.http.get("/ready").status_code == 503, "and does not wait for the worker"


def waited_for_a_core_s(pid: int) -> float:
    _, waited_ns, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(waited_ns) / 1e9


def test_a_worker_that_is_still_starting_goes_with_its_process(tmp_path):
    with compute_process(tmp_path) as compute:
        assert compute.stop() == 0
        for took in one_within(LESS_THAN_AN_IMPORT_S):
            compute.start()
            until(lambda: compute.forked_pids(), "a worker was started")
            workers = compute.forked_pids()
            begun = time.monotonic()
            compute.kill()
            until(lambda: not living(workers), "the worker is gone")  # noqa: B023 # asked at once
            took.append(time.monotonic() - begun)


def test_a_wrong_setting_is_named_and_nothing_starts(tmp_path):
    with compute_process(tmp_path) as compute:
        assert compute.stop() == 0
        (tmp_path / "token").chmod(0o644)
        with pytest.raises(AssertionError, match="chmod 600"):
            compute.start()
        (tmp_path / "token").chmod(0o600)
        with pytest.raises(AssertionError, match="SPLITUP_OUTPUT_PREFIX: the value is not"):
            compute.start(output_prefix="http://somewhere")
        with pytest.raises(AssertionError, match=r"SPLITUP_OUTPUT_PREFIX .* bytes too long"):
            compute.start(output_prefix=f"s3://bucket/{'p' * 200}")
        with pytest.raises(AssertionError, match="SPLITUP_DEVICE: String should match"):
            compute.start(device="tpu")


def test_a_port_or_a_state_folder_that_is_taken_is_told_with_what_to_set(tmp_path):
    with compute_process(tmp_path) as compute:
        second = ComputeProcess(tmp_path)
        with pytest.raises(AssertionError, match=r"another compute process uses .* SPLITUP_STATE_DIR"):
            second.start()
        with pytest.raises(AssertionError, match="set SPLITUP_HOST or SPLITUP_COMPUTE_PORT"):
            second.start(compute_port=compute.port, state_dir=tmp_path / "other")
        second.http.close()
        assert compute.http.get("/ready").status_code == 200


def test_a_device_that_is_not_there_is_told_by_ready(tmp_path):
    with compute_process(tmp_path) as compute:
        assert compute.stop() == 0
        compute.start(device="cuda:63")
        until(lambda: "cuda:63" in compute.http.get("/ready").text, "the check names the device")
        assert compute.http.get("/ready").status_code == 503
        assert compute.stop() == 0


# ---- ending ----


@SIGNALS
def test_a_signal_takes_nothing_new_finishes_what_runs_and_exits_0(tmp_path, number):
    with compute_process(tmp_path, grace_s=60, max_in_work=1) as compute:
        task, queued = running(compute, count=1_200), add_task(compute)
        compute.post(queued)
        assert compute.process is not None
        compute.process.send_signal(number)
        is_stopping(compute)
        answer = compute.post(add_task(compute))
        assert answer.json()["type"] == "stopping"
        assert answer.headers["retry-after"]
        until(lambda: compute.status(queued).status_code == 404, "what had not begun is left to the next start")
        assert compute.http.get("/ready").status_code == 503
        assert compute.ended(task)["stage"] == "done"
        assert compute.process.wait(60) == 0
        compute.start()
        assert compute.status(task).json()["stage"] == "done"
        assert compute.post(queued).status_code == 202


def test_sigterm_stops_what_takes_longer_than_the_grace_time_without_output(tmp_path):
    with compute_process(tmp_path, grace_s=0.5) as compute:
        done = add_task(compute)
        compute.post(done)
        before = compute.ended(done)
        kept = compute.output_files()
        task = running(compute)
        workers = compute.forked_pids()
        begun = time.monotonic()
        assert compute.stop() == 0
        assert time.monotonic() - begun < SOON_S
        assert compute.output_files() == kept
        assert not living(workers)
        compute.start()
        assert compute.status(done).json() == before
        assert compute.status(task).status_code == 404
        assert compute.post(task).status_code == 202


def test_sigterm_lets_what_is_being_stored_be_stored(tmp_path):
    with compute_process(tmp_path, grace_s=60) as compute:
        task = storing(compute, lambda: big_task(compute))
        assert compute.stop() == 0
        assert len(compute.output_files()) == 1
        compute.start()
        assert compute.status(task).json()["stage"] == "done"


def test_sigterm_before_the_worker_is_ready_ends_both(tmp_path):
    with compute_process(tmp_path) as compute:
        assert compute.stop() == 0
        compute.start()
        until(lambda: compute.forked_pids(), "a worker was started")
        workers = compute.forked_pids()
        begun = time.monotonic()
        assert compute.stop() == 0
        assert time.monotonic() - begun < SOON_S
        assert not living(workers)


def test_a_waiting_call_does_not_hold_up_the_end(tmp_path):
    with compute_process(tmp_path, grace_s=0) as compute:
        task = running(compute)
        with ThreadPoolExecutor(1) as thread:
            poll = begun_poll(compute, thread, task)
            begun = time.monotonic()
            assert compute.stop() == 0
            assert time.monotonic() - begun < SOON_S
            assert poll.result().status_code == 404


def test_the_worker_does_not_hear_what_a_terminal_sends_to_the_process(tmp_path):
    with compute_process(tmp_path) as compute:
        assert compute.process is not None
        for worker in compute.forked_pids():
            assert os.getsid(worker) != os.getsid(compute.process.pid)


def test_a_second_signal_ends_the_process_at_once_and_nothing_is_lost(tmp_path):
    with compute_process(tmp_path, grace_s=30) as compute:
        done = add_task(compute)
        compute.post(done)
        before = compute.ended(done)
        kept = compute.output_files()
        task = running(compute)
        workers = compute.forked_pids()
        assert compute.process is not None
        compute.process.send_signal(signal.SIGTERM)
        is_stopping(compute)
        compute.process.send_signal(signal.SIGINT)
        assert compute.process.wait(SOON_S) > 0
        until(lambda: not living(workers), "the worker is gone too")
        compute.start()
        assert compute.status(done).json() == before
        assert compute.output_files() == kept
        assert compute.post(task).status_code == 202
