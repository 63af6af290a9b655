"""What compute keeps on disk until it is acknowledged: results, and the objects that a pair's runs created.

One SQLite file, used by one thread. An object is written down before its PUT, and is kept from when its run ended
with a result; what is not kept while its run is over is to be deleted.
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from shared.errors import ConfigurationError, StateUnavailable
from shared.ids import Attempt, TaskKey, parse_execution_id, parse_task_id
from shared.messages import TaskStatus
from shared.uris import ObjectUri, parse_object_uri

VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS results (
    execution_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    status TEXT NOT NULL,           -- TaskStatus as JSON, with the result
    content TEXT NOT NULL,          -- what was asked for, to tell a repeated POST from another
    expires_at REAL NOT NULL,       -- Unix seconds by this machine
    PRIMARY KEY (execution_id, task_id)
) STRICT;
CREATE TABLE IF NOT EXISTS objects (
    execution_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    uri TEXT NOT NULL,
    run TEXT NOT NULL,              -- the run that created it, or was about to
    kept INTEGER NOT NULL,          -- 1 once that run ended with a result
    PRIMARY KEY (execution_id, task_id, uri)
) STRICT;
"""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredResult:
    status: TaskStatus
    content: str
    expires_at: float
    """Unix seconds by this machine."""

    @property
    def key(self) -> TaskKey:
        return TaskKey(self.status.execution_id, self.status.task_id)


@dataclass(frozen=True, slots=True)
class CreatedObject:
    key: TaskKey
    uri: ObjectUri
    run: str


class Results:
    """Every change is on disk when its call returns; else StateUnavailable is raised.

    A cancelled call may still take effect, but before any later one.
    """

    def __init__(self, state_dir: Path) -> None:
        """Raises ConfigurationError if the folder cannot be used, or another process uses it."""
        self._thread = ThreadPoolExecutor(1, "results")
        try:
            state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._db = self._thread.submit(_open, state_dir / "results.sqlite").result()
        except BlockingIOError as exc:
            raise ConfigurationError(
                f"another compute process uses {state_dir}: stop it, or set SPLITUP_STATE_DIR"
            ) from exc
        except (OSError, sqlite3.Error) as exc:
            raise ConfigurationError(f"SPLITUP_STATE_DIR {state_dir} cannot be used: {exc}") from exc

    async def close(self) -> None:
        await self._run(self._db.close)
        self._thread.shutdown()
        os.close(self._lock)

    async def all_results(self) -> list[StoredResult]:
        def work() -> list[StoredResult]:
            rows = self._db.execute("SELECT status, content, expires_at FROM results").fetchall()
            return [StoredResult(TaskStatus.model_validate_json(row[0]), row[1], row[2]) for row in rows]

        return await self._run(work)

    async def begin_objects(self, key: TaskKey, run: str, uris: Sequence[ObjectUri]) -> frozenset[ObjectUri]:
        """Write down what the run is about to create. Returns those that an earlier run of the pair wrote down.

        What an earlier run left begun becomes this run's.
        """

        def work() -> frozenset[ObjectUri]:
            with self._db:
                rows = self._db.execute(
                    "SELECT uri FROM objects WHERE execution_id = ? AND task_id = ?", _columns(key)
                ).fetchall()
                self._db.executemany(
                    "INSERT INTO objects VALUES (?, ?, ?, ?, 0) "
                    "ON CONFLICT DO UPDATE SET run = excluded.run WHERE kept = 0",
                    [(*_columns(key), str(uri), run) for uri in uris],
                )
            known = {row[0] for row in rows}
            return frozenset(uri for uri in uris if str(uri) in known)

        return await self._run(work)

    async def not_created(self, key: TaskKey, run: str, uris: Sequence[ObjectUri]) -> None:
        """These were there already, or were never begun: they are not the run's to delete."""

        def work() -> None:
            with self._db:
                self._db.executemany(
                    "DELETE FROM objects "
                    "WHERE execution_id = ? AND task_id = ? AND uri = ? AND run = ? AND kept = 0",
                    [(*_columns(key), str(uri), run) for uri in uris],
                )

        await self._run(work)

    async def finish(self, run: str, result: StoredResult) -> None:
        """The run has ended with this result: what it created is kept until the result is acknowledged."""

        def work() -> None:
            with self._db:
                self._db.execute(
                    "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?)",
                    (*_columns(result.key), result.status.to_wire(), result.content, result.expires_at),
                )
                self._db.execute(
                    "UPDATE objects SET kept = 1 WHERE execution_id = ? AND task_id = ? AND run = ?",
                    (*_columns(result.key), run),
                )

        await self._run(work)

    async def take_back(self, key: TaskKey, run: str) -> None:
        """The run has no result after all: its objects are to be deleted, like those of any run without one."""

        def work() -> None:
            with self._db:
                columns = _columns(key)
                self._db.execute("DELETE FROM results WHERE execution_id = ? AND task_id = ?", columns)
                self._db.execute(
                    "UPDATE objects SET kept = 0 WHERE execution_id = ? AND task_id = ? AND run = ?",
                    (*columns, run),
                )

        await self._run(work)

    async def renumber(self, key: TaskKey, status: TaskStatus) -> None:
        """The same result under another attempt."""

        def work() -> None:
            with self._db:
                self._db.execute(
                    "UPDATE results SET status = ? WHERE execution_id = ? AND task_id = ?",
                    (status.to_wire(), *_columns(key)),
                )

        await self._run(work)

    async def drop_result(self, key: TaskKey) -> None:
        """The result goes; the list of objects stays, for the attempts to come."""

        def work() -> None:
            with self._db:
                self._db.execute("DELETE FROM results WHERE execution_id = ? AND task_id = ?", _columns(key))

        await self._run(work)

    async def acknowledge(self, key: TaskKey, *, paid: bool) -> None:
        """The result goes. Paid: the objects stay and are forgotten. Unpaid: all the pair's are to be deleted."""
        change = (
            "DELETE FROM objects WHERE execution_id = ? AND task_id = ?"
            if paid
            else "UPDATE objects SET kept = 0 WHERE execution_id = ? AND task_id = ?"
        )

        def work() -> None:
            with self._db:
                self._db.execute("DELETE FROM results WHERE execution_id = ? AND task_id = ?", _columns(key))
                self._db.execute(change, _columns(key))

        await self._run(work)

    async def to_delete(self, key: TaskKey | None = None) -> list[CreatedObject]:
        """Objects that are begun and not kept, of one pair or of all."""

        def work() -> list[CreatedObject]:
            rows = self._db.execute(
                "SELECT execution_id, task_id, uri, run FROM objects WHERE kept = 0"
            ).fetchall()
            found = [CreatedObject(_key(row), parse_object_uri(row[2]), row[3]) for row in rows]
            return [created for created in found if key is None or created.key == key]

        return await self._run(work)

    async def deleted(self, created: CreatedObject) -> None:
        def work() -> None:
            with self._db:
                self._db.execute(
                    "DELETE FROM objects WHERE execution_id = ? AND task_id = ? AND uri = ? AND kept = 0",
                    (*_columns(created.key), str(created.uri)),
                )

        await self._run(work)

    async def expire(self, now: float) -> list[tuple[TaskKey, Attempt]]:
        """Drop the results whose day is over, with the list of their objects; the objects stay."""

        def work() -> list[tuple[TaskKey, Attempt]]:
            with self._db:
                rows = self._db.execute("SELECT status FROM results WHERE expires_at <= ?", (now,)).fetchall()
                statuses = [TaskStatus.model_validate_json(row[0]) for row in rows]
                keys = [TaskKey(status.execution_id, status.task_id) for status in statuses]
                for key in keys:
                    for table in ("results", "objects"):
                        self._db.execute(
                            f"DELETE FROM {table} WHERE execution_id = ? AND task_id = ?",  # noqa: S608 # ours
                            _columns(key),
                        )
            return [(key, status.attempt) for key, status in zip(keys, statuses, strict=True)]

        return await self._run(work)

    async def check(self) -> None:
        """Write something. Raises StateUnavailable where nothing can be written."""

        def work() -> None:
            with self._db:
                self._db.execute(f"PRAGMA user_version = {VERSION}")

        await self._run(work)

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as exc:
            raise StateUnavailable(f"SPLITUP_STATE_DIR cannot be used: {exc}; make room on its disk") from exc


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.executescript(SCHEMA)
    return db


def _columns(key: TaskKey) -> tuple[str, str]:
    return key.execution_id, key.task_id


def _key(row: Sequence[str]) -> TaskKey:
    return TaskKey(parse_execution_id(row[0]), parse_task_id(row[1]))
