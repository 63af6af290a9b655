"""Changes of what is known of the chain: events, cursor and page mark, gaps, accounts passed over, completed pairs."""

import sqlite3

from listener.journal.changes import Complete, ForgetPageMark, PassOver
from listener.journal.records import Cursor, EventRow, Gap, PageMark
from listener.journal.writes.tasks import count_refusal
from listener.journal.writes.write import write
from shared.ids import UnixSeconds


@write.register
def _(change: EventRow, db: sqlite3.Connection, _at: UnixSeconds | None) -> None:
    db.execute(
        """INSERT INTO events (signature, event_index, slot, name, account) VALUES (?, ?, ?, ?, ?)
           ON CONFLICT DO UPDATE SET slot = excluded.slot""",
        (change.signature, change.index, change.slot, change.name, change.account),
    )


@write.register
def _(change: Cursor, db: sqlite3.Connection, _at: UnixSeconds | None) -> None:
    db.execute(
        """INSERT INTO cursor (only, signature, slot) VALUES (1, ?, ?)
           ON CONFLICT DO UPDATE SET signature = excluded.signature, slot = excluded.slot
           WHERE excluded.slot >= slot""",
        (change.signature, change.slot),
    )


@write.register
def _(change: PageMark, db: sqlite3.Connection, _at: UnixSeconds | None) -> None:
    db.execute(
        """INSERT INTO page_mark (only, signature, slot, newest_signature, newest_slot) VALUES (1, ?, ?, ?, ?)
           ON CONFLICT DO UPDATE SET signature = excluded.signature, slot = excluded.slot,
           newest_signature = excluded.newest_signature, newest_slot = excluded.newest_slot""",
        (change.read_to.signature, change.read_to.slot, change.newest.signature, change.newest.slot),
    )


@write.register
def _(_change: ForgetPageMark, db: sqlite3.Connection, _at: UnixSeconds | None) -> None:
    db.execute("DELETE FROM page_mark")


@write.register
def _(change: Gap, db: sqlite3.Connection, at: UnixSeconds | None) -> None:
    db.execute(
        "INSERT INTO gaps (from_slot, to_slot, at) VALUES (?, ?, ?)", (change.from_slot, change.to_slot, at)
    )


@write.register
def _(change: PassOver, db: sqlite3.Connection, at: UnixSeconds | None) -> None:
    db.execute(
        """INSERT INTO passed_over (account, attempt, slot, reason) VALUES (?, ?, ?, ?)
           ON CONFLICT DO UPDATE SET slot = excluded.slot, reason = excluded.reason""",
        (change.account, change.attempt, change.slot, change.reason),
    )
    if change.refused is not None:
        count_refusal(db, change.reason, change.refused, at)


@write.register
def _(change: Complete, db: sqlite3.Connection, _at: UnixSeconds | None) -> None:
    db.execute("INSERT INTO completed (pair_hash) VALUES (?) ON CONFLICT DO NOTHING", (change.pair_hash,))
