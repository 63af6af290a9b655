"""A machine that is short of processes or descriptors: whoever asked is told, and everything goes on."""

import array
import asyncio
import errno
import gc
import json
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from compute.shared_memory import SharedBuffer
from compute.worker import fork_server, launcher
from compute.worker.forks import ForkServer
from compute.worker.options import WorkerOptions
from compute.worker.process import WorkerFailed
from compute.worker.wire import Limits, Role, receive_packet
from shared.errors import OutOfMemory

OPTIONS = WorkerOptions("cpu", 1, 1, Limits(1, 1, 1), 1)


def short_of(code: int) -> Any:
    def fails(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fails


def descriptors() -> int:
    gc.collect()  # those of earlier tests' buffers
    return len(list(Path("/proc/self/fd").iterdir()))


class Process:
    """Of a fork server that a test plays."""

    pid = 4
    returncode = 0

    async def wait(self) -> int:
        return 0


@asynccontextmanager
async def played() -> AsyncIterator[tuple[ForkServer, socket.socket]]:
    """A fork server, and the socket at which it hears what it is asked."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    server = ForkServer(Process(), ours, None)  # type: ignore[arg-type]
    with theirs:
        yield server, theirs
    await server.gone()


async def asked(server: ForkServer) -> asyncio.Task[object]:
    task: asyncio.Task[object] = asyncio.ensure_future(server.forked(Role.WORKER))
    await asyncio.sleep(0)
    return task


@pytest.mark.parametrize("told", [{"notForked": "Resource temporarily unavailable"}, {"pid": 7}])
async def test_a_fork_that_failed_or_whose_descriptor_was_lost_fails_only_who_asked(
    told: dict[str, object],
) -> None:
    async with played() as (server, theirs):
        task = await asked(server)
        theirs.recv(1000)
        theirs.send(json.dumps(told).encode())
        with pytest.raises(WorkerFailed, match=r"no process can be made|descriptor"):
            await task
        if "pid" in told:
            theirs.send(json.dumps({"ended": 7, "status": 1}).encode())
        again = await asked(server)
        assert theirs.recv(1000), "it is asked again"
    with pytest.raises(WorkerFailed, match="the fork server ended"):
        await again


@pytest.mark.parametrize("name", ["socketpair", "memfd_create"])
async def test_no_descriptor_for_another_process_is_a_worker_that_does_not_start(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with played() as (server, _):
        with monkeypatch.context() as patch:
            patch.setattr(socket if name == "socketpair" else os, name, short_of(errno.EMFILE))
            with pytest.raises(WorkerFailed, match="Too many open files"):
                await server.forked(Role.WORKER)


@pytest.mark.parametrize("name", ["socketpair", "pipe2"])
async def test_no_descriptor_for_a_fork_server_is_one_that_does_not_start(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(socket if name == "socketpair" else os, name, short_of(errno.EMFILE))
        with pytest.raises(WorkerFailed, match="Too many open files"):
            await launcher.launch(OPTIONS)
    assert descriptors() == before


def test_no_shared_memory_is_a_task_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "memfd_create", short_of(errno.ENOMEM))
    with pytest.raises(OutOfMemory, match="no shared memory"):
        SharedBuffer("tensors", 1)


@pytest.mark.parametrize("name", ["fork", "pidfd_open"])
def test_a_fork_server_that_cannot_fork_says_why_and_leaves_no_process(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = subprocess.Popen(["sleep", "600"])
    monkeypatch.setattr(os, "fork", lambda: child.pid)
    monkeypatch.setattr(os, name, short_of(errno.EAGAIN))
    fds = list(os.pipe())
    with ours, theirs:
        assert fork_server._forked(theirs, fds) is None
        assert receive_packet(ours) == ({"notForked": os.strerror(errno.EAGAIN)}, [])
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    if name == "fork":
        child.kill()
        child.wait()
    else:
        with pytest.raises(ChildProcessError):
            os.waitpid(child.pid, 0)
        child.returncode = -signal.SIGKILL


def test_a_request_whose_descriptors_were_lost_is_answered_and_not_forked_for() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        assert fork_server._forked(theirs, []) is None
        assert receive_packet(ours) == ({"notForked": os.strerror(errno.EMFILE)}, [])


async def test_children_of_a_fork_server_that_ended_are_orphans() -> None:
    sleeping = subprocess.Popen(["sleep", "600"])  # noqa: ASYNC220 # at once
    async with played() as (server, theirs):
        task = await asked(server)
        theirs.recv(1000)
        pidfd = os.pidfd_open(sleeping.pid)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [pidfd]))]
        theirs.sendmsg([json.dumps({"pid": sleeping.pid}).encode()], rights)
        os.close(pidfd)
        while not server._children:  # noqa: ASYNC110
            await asyncio.sleep(0)
        child = server._children[sleeping.pid]
    with pytest.raises(WorkerFailed):
        await task
    assert child.orphaned
    assert sleeping.wait() == -signal.SIGKILL
