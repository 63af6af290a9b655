"""The one entrance of all writes, and what they have in common."""

import sqlite3
from collections.abc import Mapping
from functools import singledispatch

from shared.errors import StateConflict
from shared.ids import UnixSeconds


@singledispatch
def write(change: object, db: sqlite3.Connection, at: UnixSeconds | None) -> None:
    """Write one change inside the open transaction. `at` is this moment by the chain's clock, None where not known.

    Raises StateConflict where a row is not as the change expects it.
    """
    raise TypeError(f"{change!r} is no change of the journal in {db} at {at}")


def guarded(db: sqlite3.Connection, sql: str, values: Mapping[str, object], change: object) -> None:
    """Raises StateConflict unless the statement changes exactly one row."""
    if db.execute(sql, values).rowcount != 1:
        raise StateConflict(f"the journal's row is not as this change expects it: {change!r}")


def unique(db: sqlite3.Connection, sql: str, values: Mapping[str, object], why: str) -> None:
    """Insert a row. Raises StateConflict, with `why`, where one like it stands there already."""
    try:
        db.execute(sql, values)
    except sqlite3.IntegrityError as error:
        raise StateConflict(f"{why}: {error}") from error
