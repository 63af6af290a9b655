"""The journal's connection: one call at a time, on a thread of its own."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
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
class _Call:
    """A question, or a change that waits to be committed, and what it gives to whoever waits for that."""

    run: Callable[[sqlite3.Connection], Any]
    done: Future[Any] = field(default_factory=Future)


class Database:
    """One SQLite file, one connection. An `executor` that is passed in must run one call at a time."""

    def __init__(self, opened: Callable[[], sqlite3.Connection], executor: Executor | None = None) -> None:
        """Raises what `opened` raises."""
        self._executor = executor or ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._is_own_executor = executor is None
        self._waiting: list[_Call] = []
        """Changes."""
        self._asked: list[_Call] = []
        """Questions that no change has come after: one turn of the thread answers them together."""
        self._waiting_lock = Lock()
        try:
            self._connection = self._executor.submit(opened).result()
        except BaseException:  # whatever it is goes on; the thread is not left behind
            self._shut_down()
            raise

    async def read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        return await self._patiently(lambda: self._ask(query))

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

    def _ask(self, query: Callable[[sqlite3.Connection], _T]) -> Future[_T]:
        call = _Call(query)
        with self._waiting_lock:
            asked = self._asked
            asked.append(call)
            is_first = len(asked) == 1
        if is_first:
            self._executor.submit(self._answer, asked)
        return call.done

    def _answer(self, asked: list[_Call]) -> None:
        with self._waiting_lock:
            if self._asked is asked:
                self._asked = []
        for call in _wanted(asked):
            try:
                call.done.set_result(call.run(self._connection))
            except sqlite3.Error as error:
                call.done.set_exception(named(error))
            except Exception as error:  # noqa: BLE001 (whatever it is goes on, to whoever asked)
                call.done.set_exception(error)

    def _enter(self, change: Callable[[sqlite3.Connection], _T]) -> Future[_T]:
        """Into the group that is committed next: it gathers while the one before is on its way to the disk."""
        call = _Call(change)
        with self._waiting_lock:
            self._waiting.append(call)
            is_first = len(self._waiting) == 1
            self._asked = []  # what is asked from now on is answered after this change
        if is_first:
            self._executor.submit(self._commit_waiting)
        return call.done

    def _commit_waiting(self) -> None:
        with self._waiting_lock:
            entered, self._waiting = self._waiting, []
        group = _wanted(entered)
        outcomes = commit(self._connection, [call.run for call in group]) if group else []
        for call, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, Undone):
                call.done.set_exception(outcome.error)
            else:
                call.done.set_result(outcome)

    def close(self) -> None:
        self._executor.submit(self._connection.close).result()
        self._shut_down()

    def _shut_down(self) -> None:
        if self._is_own_executor:
            self._executor.shutdown()


def _wanted(calls: Sequence[_Call]) -> list[_Call]:
    """Without those that were given up meanwhile."""
    return [call for call in calls if call.done.set_running_or_notify_cancel()]
