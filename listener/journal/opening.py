"""Opening the journal's file: its lock, its version, and the way from an older version to this one."""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from listener.journal.group_commit import primary_code
from shared.errors import JournalDamaged, JournalError, JournalLocked, JournalNewer

SCHEMA_VERSION: Final = 2
SCHEMA: Final = Path(__file__).with_name("schema.sql")
MIGRATIONS: Final = Path(__file__).with_name("migrations")
"""`1_to_2.sql` and so on, each run once, in one transaction."""
LOCK_TRIES: Final = 5
LOCK_AGAIN_S: Final = 0.02
"""A command that asks whether a listener runs holds the lock for an instant."""
BUSY_MS: Final = 1_000
COMMAND_BUSY_MS: Final = 10_000
"""A command waits longer for the listener's commits than the listener for a command's, which are few."""


def is_held(path: Path) -> bool:
    """Whether a listener holds this journal."""
    try:
        descriptor = os.open(_lock_of(path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def lock(path: Path) -> int:
    """Take the journal's lock until the descriptor is closed. Raises JournalLocked, or JournalError.

    It is flock's and not SQLite's, so that commands may open the journal beside the listener.
    """
    beside = _lock_of(path)
    try:
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalError(f"cannot open the journal's lock {beside}: {error}") from error
    for _ in range(LOCK_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        time.sleep(LOCK_AGAIN_S)
    os.close(descriptor)
    raise JournalLocked(
        f"another listener holds the journal (lock {beside}): stop it, or give this one a journal of its own"
    )


def _lock_of(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def open_journal(path: Path) -> sqlite3.Connection:
    """For the listener, which holds the lock: made where it is not there, brought to this version where it is older.

    WAL and synchronous=FULL: what was committed is on the disk. Raises JournalNewer, JournalDamaged or JournalError.
    """
    if path.exists():
        _opened(path, _check_whole, "ro").close()  # read-only, so that not a byte of a damaged file changes
    return _opened(path, _prepare, "rwc")


def open_beside(path: Path) -> sqlite3.Connection:
    """For a command, whether the listener runs or not. Raises JournalNewer or JournalError."""
    if not path.exists():
        raise JournalError(f"there is no journal {path}: is SPLITUP_JOURNAL right, and did the listener ever run?")
    return _opened(path, _check_same, "rw")


def _opened(
    path: Path, prepare: Callable[[sqlite3.Connection, Path], None], mode: Literal["ro", "rw", "rwc"]
) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False
        )
        try:
            connection.row_factory = sqlite3.Row
            prepare(connection, path)
        except BaseException:  # whatever it is goes on; the file is not left open
            connection.close()
            raise
    except sqlite3.Error as error:
        if primary_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise _damaged(path, str(error)) from error
        raise JournalError(f"the journal {path} cannot be opened: {error}. It is left as it is") from error
    return connection


def _check_whole(connection: sqlite3.Connection, path: Path) -> None:
    _version(connection, path)  # a newer one may break what this version takes for a rule
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise _damaged(path, found)


def _damaged(path: Path, found: str) -> JournalDamaged:
    return JournalDamaged(
        f"the journal {path} is damaged: {' '.join(found.split())}. It is left as it is: keep it, make a new one from "
        "the chain by `splitup-node rebuild-journal NEW-FILE`, and start the listener with SPLITUP_JOURNAL=NEW-FILE"
    )


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = _version(connection, path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    if version == 0:
        _run(connection, SCHEMA, SCHEMA_VERSION)
    for older in range(version or SCHEMA_VERSION, SCHEMA_VERSION):
        _run(connection, MIGRATIONS / f"{older}_to_{older + 1}.sql", older + 1)
    connection.execute("PRAGMA foreign_keys = ON")


def _check_same(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute(f"PRAGMA busy_timeout = {COMMAND_BUSY_MS}")
    version = _version(connection, path)
    if version < SCHEMA_VERSION:
        raise JournalError(
            f"the journal {path} has schema version {version}, this command knows {SCHEMA_VERSION}: "
            "start the listener of this version once, which brings it forward"
        )


def _version(connection: sqlite3.Connection, path: Path) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise JournalNewer(
            f"the journal {path} has schema version {version}, this version knows {SCHEMA_VERSION}: "
            "run the newer version again; the file is left as it is"
        )
    return int(version)


def _run(connection: sqlite3.Connection, script: Path, version: int) -> None:
    """All of it or, where anything fails, nothing."""
    text = script.read_text(encoding="utf-8")
    connection.executescript(f"BEGIN IMMEDIATE;\n{text}\nPRAGMA user_version = {version};\nCOMMIT;")
