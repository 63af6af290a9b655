"""One commit, and so one wait for the disk, for all changes that wait at the same moment."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from shared.errors import JournalError, JournalUnavailable

Change = Callable[[sqlite3.Connection], object]

_PASSING: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})


@dataclass(frozen=True, slots=True)
class Undone:
    """Nothing of this change was written."""

    error: Exception


def commit(connection: sqlite3.Connection, changes: Sequence[Change]) -> list[object | Undone]:
    """What each change returned, once all that did not raise are on the disk.

    What a change raises undoes that change only. Where SQLite refuses one (a full disk, for what is too large), each
    is tried once more alone, so that it does not hold up the others: a change must be free of other effects.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as error:  # another program holds SQLite's lock: it would be waited for once for each
        return [Undone(named(error))] * len(changes)
    try:
        return _committed(connection, changes)
    except sqlite3.Error as error:
        if len(changes) == 1:
            return [Undone(named(error))]
        return [outcome for change in changes for outcome in commit(connection, [change])]


def _committed(connection: sqlite3.Connection, changes: Sequence[Change]) -> list[object | Undone]:
    try:
        outcomes = [_outcome(connection, change) for change in changes]
        connection.execute("COMMIT")
    except BaseException:  # whatever it is goes on; the next change must not find a transaction open
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return outcomes


def _outcome(connection: sqlite3.Connection, change: Change) -> object | Undone:
    connection.execute("SAVEPOINT change")
    outcome: object | Undone
    try:
        outcome = change(connection)
    except sqlite3.Error:
        raise  # it may have undone the whole transaction
    except Exception as error:  # noqa: BLE001 (whatever it is goes on, to whoever waits for this change)
        connection.execute("ROLLBACK TO change")
        outcome = Undone(error)
    connection.execute("RELEASE change")
    return outcome


def named(error: sqlite3.Error) -> JournalError:
    """JournalUnavailable for what passes: another program's lock, a full or failing disk."""
    told = JournalUnavailable if primary_code(error) in _PASSING else JournalError
    named_error = told(f"the journal cannot be used: {error}")
    named_error.__cause__ = error
    return named_error


def primary_code(error: sqlite3.Error) -> int:
    """Without the upper bytes of SQLite's error codes, which are details; 0 where it is not SQLite's."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
