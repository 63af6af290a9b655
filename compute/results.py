"""What compute keeps on disk until it is acknowledged: results, and the objects that a pair's runs created.

One SQLite file, used by one thread. An object is written down before its PUT, and is kept from when its run ended
with a result; what is not kept while its run is over is to be deleted. An upload in parts is written down before its
first part, until it has ended; one that is there while no run of its pair is on is to be aborted.
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

from compute.outputs import requester_of_output
from shared.errors import ConfigurationError, StateUnavailable
from shared.ids import Attempt, Requester, TaskKey, parse_execution_id, parse_task_id
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
CREATE TABLE IF NOT EXISTS uploads (
    execution_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    uri TEXT NOT NULL,
    upload_id TEXT NOT NULL,        -- S3's, of an upload in parts that has not ended
    PRIMARY KEY (execution_id, task_id, uri, upload_id)
) STRICT;
"""

_ALL_RESULTS = "SELECT status, content, expires_at FROM results"
_EXPIRED_RESULTS = "SELECT status FROM results WHERE expires_at <= ?"
_KEEP_RESULT = "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?)"
_DROP_RESULT_FOR = """
DELETE FROM results
WHERE (execution_id, task_id) = (?, ?) AND ifnull(?, status ->> 'requester') = status ->> 'requester'
"""
_RENUMBER_RESULT = "UPDATE results SET status = ? WHERE (execution_id, task_id) = (?, ?)"
_DROP_RESULT = "DELETE FROM results WHERE (execution_id, task_id) = (?, ?)"
_BEGIN_OBJECT = """
INSERT INTO objects VALUES (?, ?, ?, ?, 0) ON CONFLICT DO UPDATE SET run = excluded.run WHERE kept = 0
"""
_OBJECTS_OF_PAIR = "SELECT uri FROM objects WHERE (execution_id, task_id) = (?, ?)"
_OBJECTS_TO_DELETE = "SELECT execution_id, task_id, uri FROM objects WHERE kept = 0"
_KEEP_OBJECTS_OF_RUN = "UPDATE objects SET kept = 1 WHERE (execution_id, task_id, run) = (?, ?, ?)"
_DROP_OBJECTS_OF_RUN = "UPDATE objects SET kept = 0 WHERE (execution_id, task_id, run) = (?, ?, ?)"
_DROP_OBJECT = "UPDATE objects SET kept = 0 WHERE (execution_id, task_id, uri) = (?, ?, ?)"
_FORGET_KEPT_OBJECTS = "DELETE FROM objects WHERE (execution_id, task_id, kept) = (?, ?, 1)"
_FORGET_KEPT_OBJECT = "DELETE FROM objects WHERE (execution_id, task_id, uri, kept) = (?, ?, ?, 1)"
_FORGET_OBJECT = "DELETE FROM objects WHERE (execution_id, task_id, uri, kept) = (?, ?, ?, 0)"
_FORGET_OBJECT_OF_RUN = "DELETE FROM objects WHERE (execution_id, task_id, uri, run, kept) = (?, ?, ?, ?, 0)"

_BEGIN_UPLOAD = "INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?)"
_END_UPLOAD = "DELETE FROM uploads WHERE (execution_id, task_id, uri, upload_id) = (?, ?, ?, ?)"
_UPLOADS = "SELECT execution_id, task_id, uri, upload_id FROM uploads"

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
    upload_id: str | None = None
    """Not the object is meant, but an upload in parts that would make it."""


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
            rows = self._db.execute(_ALL_RESULTS).fetchall()
            return [StoredResult(TaskStatus.model_validate_json(row[0]), row[1], row[2]) for row in rows]

        return await self._run(work)

    async def begin_objects(self, key: TaskKey, run: str, uris: Sequence[ObjectUri]) -> frozenset[ObjectUri]:
        """Write down what the run is about to create. Returns those that an earlier run of the pair wrote down.

        What an earlier run left behind becomes this run's.
        """

        def work() -> frozenset[ObjectUri]:
            with self._db:
                known = {row[0] for row in self._db.execute(_OBJECTS_OF_PAIR, _columns(key))}
                self._db.executemany(_BEGIN_OBJECT, [(*_columns(key), str(uri), run) for uri in uris])
            return frozenset(uri for uri in uris if str(uri) in known)

        return await self._run(work)

    async def not_created(self, key: TaskKey, run: str, uris: Sequence[ObjectUri]) -> None:
        """These were there already, or were never begun: they are not the run's to delete."""
        await self._write(*((_FORGET_OBJECT_OF_RUN, (*_columns(key), str(uri), run)) for uri in uris))

    async def finish(self, run: str, result: StoredResult) -> None:
        """The run has ended with this result: what it created is kept until the result is acknowledged."""
        pair = _columns(result.key)
        await self._write(
            (_KEEP_RESULT, (*pair, result.status.to_wire(), result.content, result.expires_at)),
            (_KEEP_OBJECTS_OF_RUN, (*pair, run)),
        )

    async def take_back(self, key: TaskKey, run: str) -> None:
        """The run has no result after all: its objects are to be deleted, like those of any run without one."""
        await self._write((_DROP_RESULT, _columns(key)), (_DROP_OBJECTS_OF_RUN, (*_columns(key), run)))

    async def renumber(self, key: TaskKey, status: TaskStatus) -> None:
        """The same result under another attempt."""
        await self._write((_RENUMBER_RESULT, (status.to_wire(), *_columns(key))))

    async def drop_result(self, key: TaskKey) -> None:
        """The result goes; the list of objects stays, for the attempts to come."""
        await self._write((_DROP_RESULT, _columns(key)))

    async def acknowledge(self, key: TaskKey, requester: Requester | None, *, paid: bool) -> None:
        """The requester's result goes. Paid: its objects stay and are forgotten. Unpaid: they are to be deleted.

        A pair may be another requester's before or after: one may have been paid where the other was not. None: all of
        the pair is meant.
        """

        def work() -> None:
            pair = _columns(key)
            with self._db:
                self._db.execute(_DROP_RESULT_FOR, (*pair, requester))
                uris = [row[0] for row in self._db.execute(_OBJECTS_OF_PAIR, pair)]
                meant = [uri for uri in uris if requester in (None, requester_of_output(parse_object_uri(uri)))]
                change = _FORGET_KEPT_OBJECT if paid else _DROP_OBJECT
                self._db.executemany(change, [(*pair, uri) for uri in meant])

        await self._run(work)

    def uploads_of(self, key: TaskKey) -> "PairUploads":
        return PairUploads(self, key)

    async def begin_upload(self, key: TaskKey, uri: ObjectUri, upload_id: str) -> None:
        await self._write((_BEGIN_UPLOAD, (*_columns(key), str(uri), upload_id)))

    async def end_upload(self, key: TaskKey, uri: ObjectUri, upload_id: str) -> None:
        await self._write((_END_UPLOAD, (*_columns(key), str(uri), upload_id)))

    async def to_delete(
        self, key: TaskKey | None = None, requester: Requester | None = None
    ) -> list[CreatedObject]:
        """Uploads that have not ended and objects that are not kept: of one pair and requester, or of all."""

        def work() -> list[CreatedObject]:
            rows = [*self._db.execute(_UPLOADS), *self._db.execute(_OBJECTS_TO_DELETE)]
            found = [CreatedObject(_key(row), parse_object_uri(row[2]), *row[3:]) for row in rows]
            return [
                created
                for created in found
                if key in (None, created.key) and requester in (None, requester_of_output(created.uri))
            ]

        return await self._run(work)

    async def deleted(self, created: CreatedObject) -> None:
        if created.upload_id is None:
            await self._write((_FORGET_OBJECT, (*_columns(created.key), str(created.uri))))
        else:
            await self.end_upload(created.key, created.uri, created.upload_id)

    async def expire(self, now: float) -> list[tuple[TaskKey, Attempt]]:
        """Drop the results whose day is over, with the list of their objects; the objects stay."""

        def work() -> list[tuple[TaskKey, Attempt]]:
            with self._db:
                rows = self._db.execute(_EXPIRED_RESULTS, (now,)).fetchall()
                statuses = [TaskStatus.model_validate_json(row[0]) for row in rows]
                keys = [TaskKey(status.execution_id, status.task_id) for status in statuses]
                for forget in (_DROP_RESULT, _FORGET_KEPT_OBJECTS):
                    self._db.executemany(forget, map(_columns, keys))
            return [(key, status.attempt) for key, status in zip(keys, statuses, strict=True)]

        return await self._run(work)

    async def check(self) -> None:
        """Write something. Raises StateUnavailable where nothing can be written."""
        await self._write((f"PRAGMA user_version = {VERSION}", ()))

    async def _write(self, *changes: tuple[str, Sequence[str | float]]) -> None:
        """All of them or none."""

        def work() -> None:
            with self._db:
                for statement, values in changes:
                    self._db.execute(statement, values)

        await self._run(work)

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as exc:
            raise StateUnavailable(f"SPLITUP_STATE_DIR cannot be used: {exc}; make room on its disk") from exc


@dataclass(frozen=True, slots=True)
class PairUploads:
    """The uploads in parts of one pair, as storage writes them down."""

    results: Results
    key: TaskKey

    async def begin_upload(self, uri: ObjectUri, upload_id: str) -> None:
        await self.results.begin_upload(self.key, uri, upload_id)

    async def end_upload(self, uri: ObjectUri, upload_id: str) -> None:
        await self.results.end_upload(self.key, uri, upload_id)


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
