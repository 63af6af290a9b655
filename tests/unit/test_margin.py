from pathlib import Path

import pytest

from compute.margin import MOST, Margin
from shared.errors import ComputationFailed, OutOfMemory

MIB = 1 << 20
PLANNED = 100 * MIB


class Worker:
    """Of the figures in a /proc that the test writes."""

    def __init__(self, proc: Path) -> None:
        self.pid: int | None = 7
        self.proc = proc
        self.is_now(50, 60)
        self.killed_by_kernel(0)

    def is_now(self, now_mib: int, peak_mib: int) -> None:
        folder = self.proc / str(self.pid)
        folder.mkdir(exist_ok=True)
        text = f"Name:\tsplitup worker\nVmHWM:\t{peak_mib << 10} kB\nVmRSS:\t{now_mib << 10} kB\nThreads:\t3\n"
        (folder / "status").write_text(text)

    def killed_by_kernel(self, count: int) -> None:
        (self.proc / "vmstat").write_text(f"nr_free_pages 12\noom_kill {count}\n")


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    return Worker(tmp_path)


def ran(margin: Margin, worker: Worker, peak_mib: int, planned: int = PLANNED) -> None:
    with margin.measured(lambda: worker.pid, planned):
        worker.is_now(50, peak_mib)


def test_the_worst_of_the_measured_runs_is_the_margin_and_never_less_than_one(worker):
    margin = Margin(worker.proc)
    assert margin.factor == 1.0
    ran(margin, worker, 100)
    assert margin.factor == 1.0, "it took half of what was planned"
    ran(margin, worker, 200)
    assert margin.factor == 1.5
    ran(margin, worker, 201)
    assert margin.factor == pytest.approx(1.51)


def test_what_is_long_ago_is_forgotten_and_no_run_makes_the_node_look_full(worker):
    margin = Margin(worker.proc)
    ran(margin, worker, 10_000)
    assert margin.factor == MOST
    for number in range(32):
        ran(margin, worker, 10_001 + number)
    worker.is_now(50, 60)
    for number in range(32):
        ran(margin, worker, 61 + number)
    assert margin.factor == 1.0


def test_a_peak_that_may_be_anothers_or_is_not_new_teaches_nothing(worker):
    margin = Margin(worker.proc)
    ran(margin, worker, 60)
    ran(margin, worker, 500, planned=MIB)
    worker.is_now(50, 60)
    with margin.measured(lambda: worker.pid, PLANNED), margin.measured(lambda: worker.pid, PLANNED):
        worker.is_now(50, 500)
    with margin.measured(lambda: worker.pid, PLANNED):
        worker.pid = 8
        worker.is_now(50, 900)
    worker.pid = None
    with margin.measured(lambda: worker.pid, PLANNED):
        pass
    assert margin.factor == 1.0


def test_a_run_without_memory_says_what_was_planned_for_it(worker):
    margin = Margin(worker.proc)
    with (
        pytest.raises(OutOfMemory, match=f"no room; {PLANNED} bytes were planned"),
        margin.measured(lambda: worker.pid, PLANNED),
    ):
        raise OutOfMemory("no room")


def test_a_worker_that_the_kernel_ended_for_want_of_memory_is_told_as_that(worker):
    margin = Margin(worker.proc)
    with pytest.raises(ComputationFailed, match=r"^it ended$"), margin.measured(lambda: worker.pid, PLANNED):
        raise ComputationFailed("it ended")
    with (
        pytest.raises(OutOfMemory, match=f"it ended.*{PLANNED} bytes"),
        margin.measured(lambda: worker.pid, PLANNED),
    ):
        worker.killed_by_kernel(1)
        raise ComputationFailed("it ended")
