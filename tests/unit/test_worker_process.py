"""A worker's process as the service sees it, with a process that only counts how often it is killed."""

import asyncio
import json
import socket

import pytest

from compute.worker import process
from compute.worker.process import NotTaken, WorkerGone, WorkerProcess
from compute.worker.wire import Operation


class Forked:
    pid = 4

    def __init__(self) -> None:
        self.orphaned = False
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def kill(self) -> None:
        if not self.ended.done():
            self.ended.set_result(-9)

    async def wait(self) -> int:
        return await asyncio.shield(self.ended)


async def test_a_worker_that_hangs_up_is_ended_though_its_process_runs_on() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    worker = WorkerProcess(Forked(), ours, memoryview(bytearray(2)))  # type: ignore[arg-type]
    asked = asyncio.create_task(worker.request(Operation.RUN))
    await asyncio.sleep(0)
    theirs.recv(1000)
    theirs.close()
    with pytest.raises(WorkerGone, match="by SIGKILL") as gone:
        await asyncio.wait_for(asked, 5)
    assert gone.value.culprit
    assert worker.idle and not worker.alive


async def test_a_worker_that_ended_with_its_fork_server_is_nobodys_fault() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    forked = Forked()
    worker = WorkerProcess(forked, ours, memoryview(bytearray(2)))  # type: ignore[arg-type]
    asked = asyncio.create_task(worker.request(Operation.RUN))
    await asyncio.sleep(0)
    theirs.recv(1000)
    theirs.close()  # as the kernel does when it kills the worker with its parent
    forked.orphaned = True
    with pytest.raises(WorkerGone) as gone:
        await asyncio.wait_for(asked, 5)
    assert not gone.value.culprit


def worker_and_its_end() -> tuple[WorkerProcess, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return WorkerProcess(Forked(), ours, memoryview(bytearray(2))), theirs  # type: ignore[arg-type]


async def test_a_drop_is_answered_whether_or_not_somebody_waits_and_is_no_job() -> None:
    worker, theirs = worker_and_its_end()
    answer = worker.drop([3, 4])
    asked = json.loads(theirs.recv(1000))
    assert (asked["operation"], asked["numbers"], asked["sizes"]) == ("drop", [3, 4], [])
    assert worker.idle
    theirs.send(json.dumps({"number": asked["number"]}).encode())
    assert (await asyncio.wait_for(answer, 5)).error is None
    assert worker.alive
    theirs.close()
    await worker.gone()


async def test_a_worker_that_is_silent_about_a_drop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "DROP_S", 0)
    worker, theirs = worker_and_its_end()
    answer = worker.drop([3])
    while worker.alive:  # noqa: ASYNC110
        await asyncio.sleep(0)
    theirs.close()
    with pytest.raises(WorkerGone):
        await asyncio.wait_for(answer, 5)


async def test_a_worker_that_runs_something_may_be_silent_about_a_drop_until_it_has_run(monkeypatch) -> None:
    monkeypatch.setattr(process, "DROP_S", 0)
    worker, theirs = worker_and_its_end()
    running = asyncio.create_task(worker.request(Operation.RUN))
    await asyncio.sleep(0)
    run = json.loads(theirs.recv(1000))
    answer = worker.drop([3])
    for _ in range(100):
        await asyncio.sleep(0)
    assert worker.alive
    theirs.send(json.dumps({"number": run["number"]}).encode())
    await asyncio.wait_for(running, 5)
    while worker.alive:  # noqa: ASYNC110
        await asyncio.sleep(0)
    theirs.close()
    with pytest.raises(WorkerGone):
        await asyncio.wait_for(answer, 5)


async def test_a_worker_that_is_reserved_is_not_idle() -> None:
    worker, theirs = worker_and_its_end()
    with worker.reserved(), worker.reserved():
        assert not worker.idle
    assert worker.idle
    theirs.close()
    await worker.gone()


async def test_a_worker_that_has_ended_takes_no_drop() -> None:
    worker, theirs = worker_and_its_end()
    theirs.close()
    await worker.gone()
    with pytest.raises(NotTaken):
        await worker.drop([3])


async def test_a_run_says_which_inputs_are_to_be_kept() -> None:
    worker, theirs = worker_and_its_end()
    asked = asyncio.create_task(worker.request(Operation.RUN, keep=[None, 5]))
    await asyncio.sleep(0)
    packet = json.loads(theirs.recv(1000))
    assert packet["keep"] == [None, 5]
    assert not worker.idle
    theirs.send(json.dumps({"number": packet["number"]}).encode())
    await asyncio.wait_for(asked, 5)
    theirs.close()
    await worker.gone()


async def test_a_request_that_is_cancelled_twice_leaves_no_worker_that_goes_on_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "STOP_S", 3600.0)
    worker, theirs = worker_and_its_end()
    asked = asyncio.create_task(worker.request(Operation.PLAN))
    for _ in range(2):
        await asyncio.sleep(0)
        asked.cancel()
    async with asyncio.timeout(5):
        while worker.alive:  # noqa: ASYNC110
            await asyncio.sleep(0)
    theirs.close()  # as the kernel does
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asked, 5)
    assert worker.idle
