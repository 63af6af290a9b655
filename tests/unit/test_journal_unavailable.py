"""A journal that cannot be written now: another program's lock, a full disk. Nothing is lost, and it is told."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from listener.journal.journal import Journal
from listener.journal.records import Cursor
from shared.errors import JournalUnavailable
from shared.ids import Slot


async def test_a_write_waits_for_another_programs_lock_while_the_check_says_so(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    other = sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writing = asyncio.create_task(journal.apply(Cursor("signature", Slot(7))))
    with pytest.raises(JournalUnavailable, match="locked"):
        await journal.check()
    assert not writing.done()
    other.execute("ROLLBACK")
    other.close()
    await asyncio.wait_for(writing, 10)
    await journal.check()
    assert await journal.cursor() == Cursor("signature", Slot(7))
    journal.close()


async def test_a_write_waits_for_room(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    pages = await journal._database.read(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
    await journal._database.read(lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchone())
    long = Cursor("s" * 50_000, Slot(7))
    writing = asyncio.create_task(journal.apply(long))
    await asyncio.sleep(0.5)
    assert not writing.done()
    await journal._database.read(lambda db: db.execute("PRAGMA max_page_count = 100000").fetchone())
    await asyncio.wait_for(writing, 10)
    assert await journal.cursor() == long
    journal.close()
