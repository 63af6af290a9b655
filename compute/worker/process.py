"""One worker process as the API process sees it: its greeting, requests, answers, its death."""

import asyncio
import itertools
import logging
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from compute.shared_memory import SharedBuffer
from compute.worker.answers import Answer, Greeting, Refusal, parse_answer, receive_answer
from compute.worker.forked import Forked, how_it_ended
from compute.worker.wire import Operation, send_packet
from shared.errors import SplitUpError
from shared.logs import fields

log = logging.getLogger(__name__)

STOP_S = 0.5
"""How long a request that was told to stop may take before the worker is killed."""
DROP_S = 60.0
"""The driver gives memory back after all that the worker has begun on the device."""


class WorkerGone(SplitUpError):
    """The worker ended before it answered. `culprit`: no other request can have been the cause."""

    def __init__(self, message: str, *, culprit: bool) -> None:
        super().__init__(message)
        self.culprit = culprit


class NotTaken(SplitUpError):
    """The worker takes no requests any more; this one was not begun."""


class WorkerFailed(SplitUpError):
    """A worker did not start; the message says what it said."""


class WorkerProcess:
    """Owns the process and its socket. Each request under way has a slot of the stop page, one byte each."""

    def __init__(self, forked: Forked, sock: socket.socket, stop_page: memoryview) -> None:
        self.pid = forked.pid
        self._forked = forked
        self._sock = sock
        self._stop_page = stop_page
        self._free_slots = list(range(len(stop_page)))
        self._numbers = itertools.count()
        self._pending: dict[int, asyncio.Future[Answer]] = {}
        self._jobs: set[int] = set()
        self._reservations = 0
        self._killed = False
        self._closed = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._greeting: asyncio.Future[Greeting | Refusal] = loop.create_future()
        loop.add_reader(sock.fileno(), self._read)

    async def greeting(self) -> Greeting:
        """What the worker computes on and what holds it, once it is ready. Raises WorkerFailed."""
        greeting = await asyncio.shield(self._greeting)
        if isinstance(greeting, Refusal):
            raise WorkerFailed(greeting.why)
        return greeting

    async def request(
        self,
        operation: Operation,
        given: Sequence[SharedBuffer] = (),
        filled: SharedBuffer | None = None,
        keep: Sequence[int | None] = (),
    ) -> Answer:
        """The worker's answer. Raises WorkerGone or NotTaken. It can read `given` and write `filled`; for a run `keep`
        says under which numbers it keeps device copies of the inputs.

        When cancelled, the request is told to stop; when it does not within STOP_S, the worker is killed. Either
        way the worker does not touch the buffers any more once this has returned or raised.
        """
        slot = self._free_slots.pop()
        self._stop_page[slot] = 0
        answer = self._send({"operation": operation, "stop": slot, "keep": keep}, given, filled)
        try:
            # Not awaited directly: a cancellation would be passed on to the future, and the answer be lost.
            await asyncio.wait({answer})
        except asyncio.CancelledError:
            self._stop_page[slot] = 1
            await self._stopped(answer)
            raise
        finally:
            self._free_slots.append(slot)
        try:
            return answer.result()
        except WorkerGone as gone:
            how = await self.gone()
            culprit = gone.culprit and not self._forked.orphaned
            raise WorkerGone(f"the worker process ended {how}", culprit=culprit) from gone

    def drop(self, numbers: Sequence[int]) -> asyncio.Future[Answer]:
        """Has it forget these device copies, whoever waits for that: the answer says that their memory is given back,
        WorkerGone and NotTaken that there is no worker. One that runs nothing and is silent for DROP_S is killed."""
        answer = self._send({"operation": Operation.DROP, "numbers": numbers}, (), None)
        self._watch(answer)
        return answer

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """It is not idle, though it is not asked for anything yet."""
        self._reservations += 1
        try:
            yield
        finally:
            self._reservations -= 1

    async def gone(self) -> str:
        """Returns once the process has ended, with how it ended."""
        await self._closed.wait()
        return how_it_ended(await self._forked.wait())

    @property
    def alive(self) -> bool:
        return not self._killed and not self._closed.is_set()

    @property
    def idle(self) -> bool:
        return not self._jobs and not self._reservations

    async def kill(self) -> None:
        self._kill()
        await self.gone()

    def _watch(self, answer: asyncio.Future[Answer]) -> None:
        silence = asyncio.get_running_loop().call_later(DROP_S, self._was_silent, answer)
        answer.add_done_callback(lambda _: silence.cancel())

    def _was_silent(self, answer: asyncio.Future[Answer]) -> None:
        # A run's own limit holds for what it has begun on the device.
        if self._jobs:
            self._watch(answer)
        else:
            self._kill()

    def _kill(self) -> None:
        self._killed = True
        self._forked.kill()

    def _send(
        self, members: Mapping[str, object], given: Sequence[SharedBuffer], filled: SharedBuffer | None
    ) -> asyncio.Future[Answer]:
        number = next(self._numbers)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        # The second one is the one to fill.
        lent = [(buffer, False) for buffer in given]
        if filled is not None:
            lent.insert(1, (filled, True))
        packet = {"number": number, **members, "sizes": [buffer.size for buffer, _ in lent]}
        try:
            send_packet(self._sock, packet, [buffer.lend(writable=writable) for buffer, writable in lent])
        except OSError as exc:
            # It ended a moment ago, or does not read what it is sent: then it is of no use either.
            self._kill()
            answer.set_exception(NotTaken(f"the worker takes no requests: {exc.strerror}"))
            return answer
        self._pending[number] = answer
        if members["operation"] in (Operation.RUN, Operation.PLAN):
            self._jobs.add(number)
        return answer

    async def _stopped(self, answer: asyncio.Future[Answer]) -> None:
        with suppress(asyncio.CancelledError):  # once more: it loses what is left of its time to stop
            await asyncio.wait({answer}, timeout=STOP_S)
        if not answer.done():
            await self.kill()
        answer.exception()  # seen: nobody will ask for it

    def _read(self) -> None:
        try:
            data = receive_answer(self._sock)
            if data is None:
                self._close(all_taken=True)
            else:
                self._take(parse_answer(data))
        except BlockingIOError:
            return
        except ConnectionResetError:  # it ended without having read all that it was sent
            self._close(all_taken=False)
        except (ValueError, KeyError, asyncio.InvalidStateError):
            log.error("the worker says what no worker of ours says; it is killed", extra=fields(pid=self.pid))
            self._kill()

    def _take(self, told: Answer | Greeting | Refusal) -> None:
        if not isinstance(told, Answer):
            self._greeting.set_result(told)
            return
        self._jobs.discard(told.number)
        self._pending.pop(told.number).set_result(told)

    def _close(self, *, all_taken: bool) -> None:
        asyncio.get_running_loop().remove_reader(self._sock.fileno())
        self._sock.close()
        for number, answer in self._pending.items():
            culprit = all_taken and not self._killed and self._jobs == {number}
            answer.set_exception(WorkerGone("the worker ended", culprit=culprit))
        self._pending.clear()
        self._jobs.clear()
        # Whoever looks at how it ended may keep this for long, and the memory that they shared with it.
        self._stop_page = memoryview(bytearray(len(self._stop_page)))
        # It may have closed its socket and run on: nobody would hear of it any more.
        self._forked.kill()
        if not self._greeting.done():
            self._greeting.set_result(
                Refusal("the worker ended before it was ready; its last words are in the log")
            )
        self._closed.set()
