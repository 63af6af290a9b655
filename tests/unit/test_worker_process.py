"""A worker's process as the service sees it, with a process that only counts how often it is killed."""

import asyncio
import socket

import pytest

from compute.worker.process import WorkerGone, WorkerProcess
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
