"""Blocking transfers in threads, which end soon and leave the caller's memory alone once the task is cancelled."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from typing import TypeVar

CHUNK_BYTES = 1 << 20
"""Between two chunks a thread looks whether it should stop."""
_POLL_S = 0.001

T = TypeVar("T")


class Stopped(Exception):
    """Raised inside a transfer's thread after its task was cancelled; nobody waits for it any more."""


class Stop:
    """Shared by the task that waits and the thread that works."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = False
        self._touching = False
        self._interrupt: Callable[[], None] | None = None
        self.unstoppable = False
        """The thread's effect can no longer be prevented, only be waited for. Taken back where it had none."""

    def check(self) -> None:
        if self._set:
            raise Stopped

    def commit(self) -> None:
        """The thread's next step has its effect. Raises Stopped if it was stopped before; after it, it is not cut."""
        with self._lock:
            self.check()
            self.unstoppable = True

    @contextmanager
    def touching(self) -> Iterator[None]:
        """The caller's memory may be read or written inside this block only, at most about a chunk at once."""
        with self._lock:
            self.check()
            self._touching = True
        try:
            yield
        finally:
            self._touching = False

    @contextmanager
    def interruptible(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """`interrupt`, called in the event loop's thread, wakes the thread where it waits on the network."""
        with self._lock:
            if not self.unstoppable:  # else the answer is waited for, to its end
                self.check()
            self._interrupt = interrupt
        try:
            yield
        finally:
            with self._lock:
                self._interrupt = None

    async def now(self) -> None:
        """Stop the thread; returns once it is certain that it does not touch the caller's memory any more."""
        with self._lock:
            self._set = True
            # What can no longer be prevented is waited for instead: its answer must come through.
            if not self.unstoppable:
                self._wake()
        while self._touching:  # of a chunk's length, and the thread has no loop to tell
            with suppress(asyncio.CancelledError):  # once more, as by a group whose other read fails meanwhile
                await asyncio.sleep(_POLL_S)

    def give_up(self) -> None:
        """Cut also what could only be waited for: nobody waits any more."""
        with self._lock:
            self.unstoppable = False
            self._wake()

    def _wake(self) -> None:
        if self._interrupt is not None:
            # The connection may have gone by itself in the same moment.
            with suppress(OSError, ValueError, RuntimeError):
                self._interrupt()


async def in_thread(executor: Executor | None, work: Callable[[Stop], T], *, finish_s: float = 0.0) -> T:
    """Run `work` in a thread of the executor. When cancelled, it is told to stop.

    If by then its effect could not be prevented any more, its end is awaited for up to `finish_s` seconds, so
    that what the caller does next (such as a delete) comes after it.
    """
    stop = Stop()
    future = asyncio.get_running_loop().run_in_executor(executor, work, stop)
    try:
        # Not awaited directly: a cancellation would be passed on to the future, and the end be lost.
        await asyncio.wait({future})
    except asyncio.CancelledError:
        await stop.now()
        if stop.unstoppable and not future.done():
            await asyncio.wait({future}, timeout=finish_s)
            stop.give_up()
        future.cancel()
        if future.done() and not future.cancelled():
            future.exception()  # seen: nobody will ask for it
        raise
    return future.result()
