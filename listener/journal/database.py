"""The journal's connection: one call at a time, on a thread of its own."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Final, TypeVar

from listener.alarms import Alarm, sound
from shared.errors import JournalError, JournalUnavailable

AGAIN_S: Final = 1.0
_PRIMARY_CODE: Final = 0xFF
"""The upper bytes of SQLite's error codes are details."""
_PASSING: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})

_T = TypeVar("_T")


class Database:
    """One SQLite file, one connection. An `executor` that is passed in must run one call at a time."""

    def __init__(self, opened: Callable[[], sqlite3.Connection], executor: Executor | None = None) -> None:
        """Raises what `opened` raises."""
        self._executor = executor or ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._is_own_executor = executor is None
        try:
            self._connection = self._executor.submit(opened).result()
        except BaseException:  # whatever it is goes on; the thread is not left behind
            self._shut_down()
            raise

    async def read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        return await self._patiently(query, False)

    async def write(self, change: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `change` in one transaction: committed to the disk when this returns, undone when it raises.

        It is committed or undone also where the caller is cancelled while waiting. While the disk is full, or another
        program holds SQLite's lock, it waits: whoever has something to write does nothing else meanwhile.
        """
        return await self._patiently(change, True)

    async def try_write(self, change: Callable[[sqlite3.Connection], _T]) -> _T:
        """The same at once. Raises JournalUnavailable where it would have to wait."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._call, change, True)

    async def _patiently(self, run: Callable[[sqlite3.Connection], _T], transaction: bool) -> _T:
        while True:
            try:
                return await asyncio.get_running_loop().run_in_executor(
                    self._executor, self._call, run, transaction
                )
            except JournalUnavailable as error:
                sound(Alarm.JOURNAL_UNAVAILABLE, why=str(error))
                await asyncio.sleep(AGAIN_S)

    def _call(self, run: Callable[[sqlite3.Connection], _T], transaction: bool = False) -> _T:
        try:
            return _in_transaction(self._connection, run) if transaction else run(self._connection)
        except sqlite3.Error as error:
            passes = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE in _PASSING
            kind = JournalUnavailable if passes else JournalError
            raise kind(f"the journal cannot be used: {error}") from error

    def close(self) -> None:
        self._executor.submit(self._connection.close).result()
        self._shut_down()

    def _shut_down(self) -> None:
        if self._is_own_executor:
            self._executor.shutdown()


def _in_transaction(connection: sqlite3.Connection, change: Callable[[sqlite3.Connection], _T]) -> _T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = change(connection)
        connection.execute("COMMIT")
    except BaseException:  # whatever it is goes on; the next change must not find a transaction open
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result
