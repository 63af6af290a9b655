"""The fork server as the API process sees it: workers come from it, and it tells how they ended."""

import asyncio
import socket
from asyncio.subprocess import Process
from collections import deque
from typing import Any

from compute.shared_memory import SharedBuffer
from compute.worker.forked import Forked, how_it_ended
from compute.worker.process import WorkerFailed, WorkerProcess
from compute.worker.wire import STOP_SLOTS, Role, receive_packet, send_packet
from compute.worker.words import Words
from shared.errors import OutOfMemory

GREETING_S = 120.0
"""A CUDA driver takes tens of seconds to start."""


class ForkServer:
    """Owns the process and all that it forked."""

    def __init__(self, process: Process, control: socket.socket, words: Words) -> None:
        self.pid = process.pid
        self._process = process
        self._control = control
        self._words = words
        self._asked: deque[asyncio.Future[Forked]] = deque()
        self._children: dict[int, Forked] = {}
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = loop.create_future()
        self._gone = asyncio.Event()
        loop.add_reader(control.fileno(), self._read)

    async def ready(self) -> None:
        """Once torch is imported. Raises WorkerFailed."""
        await asyncio.shield(self._ready)

    async def forked(self, role: Role) -> WorkerProcess:
        """A process that is warm. Raises WorkerFailed."""
        try:
            stop_page = SharedBuffer("stop", STOP_SLOTS)
        except OutOfMemory as exc:
            raise WorkerFailed(str(exc)) from exc
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as exc:
            stop_page.close()
            raise WorkerFailed(f"no socket for another process: {exc.strerror}") from exc
        ours.setblocking(False)
        try:
            child = await self._ask(role, [theirs.fileno(), stop_page.lend(writable=False)])
        except BaseException:  # also when cancelled: the socket is nobody's then
            ours.close()
            raise
        finally:
            theirs.close()
            page_view = stop_page.view
            stop_page.close()
        worker = WorkerProcess(child, ours, page_view)
        try:
            async with asyncio.timeout(GREETING_S):
                await worker.greeting()
        except TimeoutError as exc:
            await worker.kill()
            raise WorkerFailed(f"the {role} was not ready within {GREETING_S:.0f} s") from exc
        except BaseException:  # also when cancelled: no process is left behind
            await worker.kill()
            raise
        return worker

    async def gone(self) -> str:
        """Returns once the process has ended, and all that it forked with it; with how it ended."""
        await self._gone.wait()
        return how_it_ended(await self._process.wait())

    async def kill(self) -> None:
        """Its children first, so that each one's end is seen."""
        children = list(self._children.values())
        for child in children:
            child.kill()
        for child in children:
            await child.wait()
        if self._process.returncode is None:
            self._process.kill()
        await self.gone()
        self._words.close()

    async def _ask(self, role: Role, fds: list[int]) -> Forked:
        answer: asyncio.Future[Forked] = asyncio.get_running_loop().create_future()
        try:
            send_packet(self._control, {"role": role}, fds)
        except OSError as exc:
            raise WorkerFailed(f"the fork server takes no requests: {exc.strerror}") from exc
        self._asked.append(answer)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            answer.add_done_callback(_unwanted)
            raise

    def _read(self) -> None:
        try:
            packet = receive_packet(self._control)
        except BlockingIOError:
            return
        except ConnectionResetError:
            packet = None
        if packet is None:
            self._close()
            return
        told, fds = packet
        if "ready" in told:
            self._ready.set_result(None)
        elif "failed" in told:
            self._ready.set_exception(WorkerFailed(told["failed"]))
        elif "ended" in told:
            if (child := self._children.pop(told["ended"], None)) is not None:
                child.ended(told["status"])
        elif "notForked" in told:
            self._asked.popleft().set_exception(WorkerFailed(f"no process can be made: {told['notForked']}"))
        elif not fds:
            # No room for a descriptor here. Without one it is nobody's, and ends with the socket that it was given.
            self._asked.popleft().set_exception(WorkerFailed("no room for another process's descriptor"))
        else:
            child = Forked(told["pid"], fds[0])
            self._children[child.pid] = child
            self._asked.popleft().set_result(child)

    def _close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._control.fileno())
        self._control.close()
        # The kernel kills them with their parent.
        for child in self._children.values():
            child.orphan()
        self._children.clear()
        ended = WorkerFailed("the fork server ended; its last words are in the log")
        waiting: list[asyncio.Future[Any]] = [self._ready, *self._asked]
        for answer in waiting:
            if not answer.done():
                answer.set_exception(ended)
                answer.exception()  # seen, should nobody wait for it
        self._asked.clear()
        self._gone.set()


def _unwanted(answer: asyncio.Future[Forked]) -> None:
    """Of a request that was given up: its process came too late."""
    if not answer.cancelled() and answer.exception() is None:
        answer.result().kill()
