"""A journal of the version before is brought forward when the listener starts, and goes on."""

import re
import sqlite3
from pathlib import Path

import pytest

from listener.journal.beside import JournalBeside
from listener.journal.journal import Journal
from listener.journal.opening import MIGRATIONS, SCHEMA, SCHEMA_VERSION
from listener.journal.records import Cursor, EventRow
from listener.journal.states import OutboxStatus, Owed, State, SubmissionKind
from shared.errors import JournalError
from shared.ids import Attempt, Slot
from tests.unit.journal_rows import NOW, REQUESTER, signature

VERSION_1 = Path(__file__).with_name("journal_v1.sql")
"""The schema as version 1 had it; it never changes again."""
RESULT = (
    '{"taskId":"task-1","executionId":"execution","success":true,"outputUris":["file:///out/0.safetensors"],'
    '"executionTime":12,"errorMessage":null}'
)


@pytest.fixture
def version_1(tmp_path: Path) -> Path:
    """A journal of version 1 with rows in every table."""
    path = tmp_path / "journal.sqlite"
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript(VERSION_1.read_text(encoding="utf-8") + "PRAGMA user_version = 1;")
    db.execute("INSERT INTO identity VALUES ('genesis_hash', 'here')")
    db.execute("INSERT INTO cursor VALUES (1, 'cursor', 77)")
    db.execute("INSERT INTO events VALUES ('told', 0, 70, 'TaskAssigned', 'account-1')")
    db.execute("INSERT INTO completed VALUES (x'ff')")
    db.execute("INSERT INTO passed_over VALUES ('stranger', 3, 4, 'WrongNode')")
    for number, state, result, owed in (
        (1, "submitting", RESULT, "nothing"),
        (2, "accepted", None, "nothing"),
        (5, "missed", None, "stop"),
    ):
        db.execute(
            """INSERT INTO tasks VALUES (?, ?, 100, 'execution', ?, ?, x'aa', ?, '["file:///x"]', 1, 7, 1000, ?, 0, 101,
               ?, 'paid', NULL, ?, ?)""",
            (number, f"account-{number}", f"task-{number}", REQUESTER, "f" * 64, NOW + 600, state, result, owed),
        )
    for text, status in (("expired-1", "expired"), ("live-1", "signed")):
        db.execute(
            """INSERT INTO outbox (task, kind, attempt, signature, raw, last_valid_block_height, status)
               VALUES (1, 'task_completed', 100, ?, x'0102', 500, ?)""",
            (text, status),
        )
    db.close()
    return path


def shape(path: Path) -> dict[str, str]:
    """What SQLite keeps of the schema, without comments, quotes and spaces."""
    db = sqlite3.connect(path)
    rows = db.execute("SELECT type || ' ' || name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    db.close()
    return {name: re.sub(r"\s+|\"", "", re.sub(r"--[^\n]*", "", sql)) for name, sql in rows}


def test_it_has_the_same_tables_and_indexes_as_a_new_one(version_1: Path, tmp_path: Path) -> None:
    Journal(version_1).close()
    Journal(tmp_path / "new.sqlite").close()
    assert shape(version_1) == shape(tmp_path / "new.sqlite")


async def test_its_rows_are_all_there_and_the_work_goes_on(version_1: Path) -> None:
    journal = Journal(version_1)
    assert await journal.cursor() == Cursor("cursor", Slot(77))
    assert await journal.has_event(EventRow("told", 0, Slot(70), "TaskAssigned", "account-1"))
    assert await journal.is_completed(b"\xff") and await journal.knows("stranger", Attempt(3))
    await journal.belongs_to(genesis_hash="here")
    first, second = await journal.task(1), await journal.task(2)
    assert (first.state, first.compute_units, first.ends_as) == (State.SUBMITTING, 7, State.PAID)
    assert first.result is not None and first.result.output_uris == ["file:///out/0.safetensors"]
    assert (second.state, second.taken_at, second.waits_for) == (State.ACCEPTED, None, None)
    assert [(task.id, task.owed) for task in await journal.owing()] == [(5, Owed.STOP)]
    (live,) = await journal.watched()
    assert (live.signature, live.task, live.kind, live.fee) == ("live-1", 1, SubmissionKind.COMPLETED, 5_000)
    assert await journal.raw(live.id) == b"\x01\x02"
    with pytest.raises(Exception, match="not as this change expects"):
        await journal.apply(signature(first, "again"))
    journal.close()


async def test_bytes_that_cannot_land_any_more_are_dropped(version_1: Path) -> None:
    journal = Journal(version_1)
    rows = await journal._rows("SELECT status, raw IS NULL AS is_dropped FROM outbox ORDER BY id")
    assert [tuple(row) for row in rows] == [(OutboxStatus.EXPIRED, 1), (OutboxStatus.SIGNED, 0)]
    journal.close()


async def test_no_number_of_an_old_row_is_given_again(version_1: Path) -> None:
    journal = Journal(version_1)
    await journal._database.write(lambda db: db.execute("DELETE FROM tasks WHERE id = 5"))
    numbers = await journal._database.write(
        lambda db: db.execute(
            """INSERT INTO tasks (account, attempt, execution_id, task_id, requester, content_hash, model_id,
               input_uris, output_count, compute_units, reward, deadline, verified_slot, state)
               SELECT 'other', attempt, execution_id, task_id, requester, content_hash, model_id, input_uris,
               output_count, compute_units, reward, deadline, verified_slot, state FROM tasks WHERE id = 2
               RETURNING id"""
        ).fetchall()
    )
    assert [row["id"] for row in numbers] == [6]
    journal.close()


def test_a_migration_that_fails_leaves_the_file_at_its_version(
    version_1: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "1_to_2.sql").write_text(
        (MIGRATIONS / "1_to_2.sql").read_text() + "INSERT INTO nowhere VALUES (1);"
    )
    monkeypatch.setattr("listener.journal.opening.MIGRATIONS", tmp_path)
    before = shape(version_1)
    with pytest.raises(JournalError, match="nowhere"):
        Journal(version_1)
    assert shape(version_1) == before
    db = sqlite3.connect(version_1)
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
    assert db.execute("SELECT count(*) FROM tasks").fetchone() == (3,)
    db.close()


def test_a_command_does_not_bring_it_forward(version_1: Path) -> None:
    with pytest.raises(JournalError, match="start the listener of this version once"):
        JournalBeside(version_1)


def test_there_is_a_way_from_each_older_version(tmp_path: Path) -> None:
    assert {path.name for path in MIGRATIONS.iterdir()} == {
        f"{n}_to_{n + 1}.sql" for n in range(1, SCHEMA_VERSION)
    }
    assert SCHEMA.is_file()
