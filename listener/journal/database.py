"""The journal's connection: one call at a time, on a thread of its own."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final, TypeVar

from listener.alarms import Alarm, sound
from listener.journal.group_commit import Undone, commit, named
from shared.errors import JournalUnavailable

AGAIN_S: Final = 1.0

_T = TypeVar("_T")


@dataclass(eq=False, slots=True)
class _Write:
    """A change that waits to be committed, and what it gives to whoever waits for that."""

    change: Callable[[sqlite3.Connection], Any]
    done: Future[Any] = field(default_factory=Future)


class Database:
    """One SQLite file, one connection. An `executor` that is passed in must run one call at a time."""

    def __init__(self, opened: Callable[[], sqlite3.Connection], executor: Executor | None = None) -> None:
        """Raises what `opened` raises."""
        self._executor = executor or ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._is_own_executor = executor is None
        self._waiting: list[_Write] = []
        self._waiting_lock = Lock()
        try:
            self._connection = self._executor.submit(opened).result()
        except BaseException:  # whatever it is goes on; the thread is not left behind
            self._shut_down()
            raise

    async def read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        return await self._patiently(lambda: self._executor.submit(self._read, query))

    async def write(self, change: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `change` in a transaction: committed to the disk when this returns, undone when it raises.

        It is committed or undone also where the caller is cancelled while waiting. While the disk is full, or another
        program holds SQLite's lock, it waits: whoever has something to write does nothing else meanwhile.
        """
        return await self._patiently(lambda: self._enter(change))

    async def try_write(self, change: Callable[[sqlite3.Connection], _T]) -> _T:
        """The same at once. Raises JournalUnavailable where it would have to wait."""
        return await asyncio.wrap_future(self._enter(change))

    async def _patiently(self, begin: Callable[[], Future[_T]]) -> _T:
        while True:
            try:
                return await asyncio.wrap_future(begin())
            except JournalUnavailable as error:
                sound(Alarm.JOURNAL_UNAVAILABLE, why=str(error))
                await asyncio.sleep(AGAIN_S)

    def _read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            return query(self._connection)
        except sqlite3.Error as error:
            raise named(error) from error

    def _enter(self, change: Callable[[sqlite3.Connection], _T]) -> Future[_T]:
        """Into the group that is committed next: it gathers while the one before is on its way to the disk."""
        write = _Write(change)
        with self._waiting_lock:
            self._waiting.append(write)
            is_first = len(self._waiting) == 1
        if is_first:
            self._executor.submit(self._commit_waiting)
        return write.done

    def _commit_waiting(self) -> None:
        with self._waiting_lock:
            entered, self._waiting = self._waiting, []
        group = [write for write in entered if write.done.set_running_or_notify_cancel()]
        outcomes = commit(self._connection, [write.change for write in group]) if group else []
        for write, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, Undone):
                write.done.set_exception(outcome.error)
            else:
                write.done.set_result(outcome)

    def close(self) -> None:
        self._executor.submit(self._connection.close).result()
        self._shut_down()

    def _shut_down(self) -> None:
        if self._is_own_executor:
            self._executor.shutdown()
