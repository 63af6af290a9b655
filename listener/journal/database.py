"""The journal's file: its lock, its schema and the one thread that writes it."""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from listener.alarms import Alarm, sound
from shared.errors import JournalError, JournalLocked, JournalNewer, JournalUnavailable

SCHEMA_VERSION: Final = 1
AGAIN_S: Final = 1.0
_PRIMARY_CODE: Final = 0xFF
"""The upper bytes of SQLite's error codes are details."""
_PASSING: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
SCHEMA: Final = Path(__file__).with_name("schema.sql")

_T = TypeVar("_T")


class Database:
    """One SQLite file (WAL, synchronous=FULL), one connection, used only on a thread of its own."""

    def __init__(self, path: Path) -> None:
        """Take the lock and open the file. Raises JournalLocked, JournalNewer or JournalError."""
        self._lock = _lock(path.with_name(path.name + ".lock"))
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        try:
            self._connection = self._thread.submit(_connect, path).result()
        except BaseException:  # whatever it is goes on; lock and thread are not left behind
            self._thread.shutdown()
            os.close(self._lock)
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
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._call, change, True)

    async def _patiently(self, run: Callable[[sqlite3.Connection], _T], transaction: bool) -> _T:
        while True:
            try:
                return await asyncio.get_running_loop().run_in_executor(self._thread, self._call, run, transaction)
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
        self._thread.submit(self._connection.close).result()
        self._thread.shutdown()
        os.close(self._lock)


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


def _lock(path: Path) -> int:
    """The lock is flock's and not SQLite's, so that commands may open the journal beside the listener."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalError(f"cannot open the journal's lock {path}: {error}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise JournalLocked(
            f"another listener holds the journal (lock {path}): stop it, or give this one a journal of its own"
        ) from error
    return descriptor


def _connect(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=True)
        try:
            _prepare(connection, path)
        except BaseException:  # whatever it is goes on; the file is not left open
            connection.close()
            raise
    except sqlite3.Error as error:
        raise JournalError(
            f"the journal {path} cannot be opened: {error}. It is left as it is: keep it, start with a new file"
        ) from error
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.row_factory = sqlite3.Row
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise JournalNewer(
            f"the journal {path} has schema version {version}, this listener knows {SCHEMA_VERSION}: "
            "run the newer version again; the file is left as it is"
        )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA busy_timeout = 1000")
    if version == 0:
        script = SCHEMA.read_text(encoding="utf-8")
        connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;")
