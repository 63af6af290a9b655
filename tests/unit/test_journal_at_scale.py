"""A task costs the same after hundreds of thousands of others: counted in SQLite's instructions, not in seconds."""

import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from listener.housekeeping import tidy
from listener.journal import opening
from listener.journal.changes import Book, Complete, Count, Insert, Measure, Move, Observe, Owe, Seen, Sign, Spend
from listener.journal.journal import Journal
from listener.journal.records import Cursor, EventRow
from listener.journal.states import UNSIGNED, LedgerKind, OutboxStatus, Outcome, Owed, State, SubmissionKind
from shared.ids import Lamports, Slot, UnixSeconds, day_of
from tests.unit.journal_rows import NOW, REQUESTER, assignment, result
from tests.unit.listener_world import FastClock

OTHERS = 100_000
"""So many finished tasks whose deadline is not past yet, and as many in the history."""
MODEL = "f" * 64
SMALL = {"cursor", "page_mark", "gaps", "conditions", "identity", "CONSTANT"}
PARTIAL = {"tasks_owing", "tasks_waiting", "requests_asked"}
"""Indexes that hold only what is not finished."""

FILL = f"""
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {OTHERS})
INSERT INTO tasks (account, attempt, execution_id, task_id, requester, content_hash, model_id, input_uris, output_count,
    compute_units, reward, deadline, verified_slot, state, ends_as)
SELECT 'other-' || i, 7, 'execution-' || (i / 10), 'task-' || i, '{REQUESTER}', x'aa', '{MODEL}', '[]', 1, 1, 1000,
    {NOW} + 100000 + i, 8, CASE i % 3 WHEN 0 THEN 'paid' WHEN 1 THEN 'failed' ELSE 'missed' END, 'paid' FROM n;
INSERT INTO outbox (task, kind, attempt, signature, last_valid_block_height, fee, lamports, status)
SELECT id, 'task_completed', 7, 'signature of ' || account, 1, 5000, 0, 'finalized' FROM tasks;
INSERT INTO history SELECT 'older ' || account, attempt, execution_id, task_id, requester, model_id, compute_units,
    reward, state, reason, NULL, 5000, NULL, {NOW} FROM tasks;
INSERT INTO events SELECT 'event of ' || account, 0, 8, 'TaskAssigned', account FROM tasks;
INSERT INTO completed SELECT randomblob(32) FROM tasks;
INSERT INTO passed_over SELECT 'stranger of ' || account, 7, 8, 'WrongNode' FROM tasks LIMIT 100000;
INSERT INTO ledger (at, execution_id, task_id, attempt, requester, kind, lamports, signature)
SELECT {NOW}, execution_id, task_id, attempt, requester, 'fee', -5000, account FROM tasks;
INSERT INTO requester_days SELECT 'requester of ' || account, {NOW} / 86400, 1, 0, 0, 0, 0 FROM tasks;
INSERT INTO refusals SELECT 'RewardTooLow', 'requester of ' || account, 1, {NOW} FROM tasks LIMIT 10000;
INSERT INTO estimates SELECT account, 1, 1.0, 1, {NOW} FROM tasks LIMIT 10000;
"""


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal with all of them."""
    path = tmp_path_factory.mktemp("full") / "journal.sqlite"
    Journal(path).close()
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA synchronous = OFF")
    db.executescript(f"BEGIN; {FILL} COMMIT;")
    db.close()
    return path


class Recording(sqlite3.Connection):
    """Keeps each statement with its values, since a plan depends on what is a placeholder."""

    said: list[tuple[str, Any]]

    def execute(self, sql: str, values: Any = (), /) -> sqlite3.Cursor:
        if hasattr(self, "said"):
            self.said.append((sql, values))
        return super().execute(sql, values)


@pytest.fixture(autouse=True)
def recording(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(opening.sqlite3, "connect", lambda *told, **how: connect(*told, factory=Recording, **how))


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


async def life(journal: Journal) -> None:
    """Everything that the journal is asked and told about one task that is paid, and what is asked every moment."""
    taken = assignment()
    event = EventRow("event", 0, Slot(100), "TaskAssigned", taken.account)
    assert not await journal.knows(taken.account, taken.attempt) and not await journal.has_event(event)
    assert not await journal.is_over(taken.account, taken.attempt) and not await journal.is_completed(
        taken.pair_hash
    )
    assert await journal.latest(taken.account) is None and not await journal.has_paid("a new requester")
    await journal.requester_day(REQUESTER, day_of(NOW))
    await journal.spent(day_of(NOW), "failures")
    await journal.estimate(MODEL, 1)
    await journal.cancellations_of(taken.account)
    await journal.apply(event, Insert(taken, State.ACCEPTED), at=UnixSeconds(NOW))
    task = await journal.latest(taken.account)
    assert task is not None
    assert len(await journal.tasks_in(UNSIGNED)) == len(await journal.in_flight()) == 1
    await journal.apply(Seen(task.id, Slot(200), UnixSeconds(0)))
    await journal.apply(Move(task.id, State.ACCEPTED, State.COMPUTING), at=UnixSeconds(NOW))
    done = Move(task.id, State.COMPUTING, State.COMPUTED, result=result(task), ends_as=State.PAID)
    await journal.apply(done, Measure(MODEL, 1, 1.0), at=UnixSeconds(NOW))
    assert len(await journal.tasks_of(task.key)) == 1
    await journal.apply(Sign(task.id, SubmissionKind.COMPLETED, task.attempt, "s", b"raw", 1, Lamports(5_000)))
    (row,) = await journal.watched()
    assert await journal.raw(row.id) == b"raw" and len(await journal.signatures_of(task.id)) == 1
    await journal.apply(
        Observe(row.id, OutboxStatus.SIGNED, OutboxStatus.FINALIZED, Slot(9)),
        Move(task.id, State.SUBMITTING, State.PAID, owed=Owed.PAID),
        Complete(task.pair_hash),
        Book(LedgerKind.FEE, -5_000, "s", task),
        Book(LedgerKind.REWARD, 1_000_000, "s", task),
        Count(REQUESTER, day_of(NOW), Outcome.PAID),
        Spend(day_of(NOW), "failures", 1, limit=10),
        at=UnixSeconds(NOW),
    )
    assert [owing.id for owing in await journal.owing()] == [task.id] and await journal.waiting() == []
    await journal.apply(Owe(task.id, Owed.PAID, Owed.NOTHING))
    await journal.apply(Cursor("cursor", Slot(300)))
    await journal.requests_asked()
    await journal.conditions()
    await journal.page_mark()
    await journal.finished(10)
    await journal.finished_of(task.key)
    await journal.ledger(10)
    await journal.refusals(10)


async def instructions(path: Path) -> int:
    """How many of its virtual machine's SQLite ran for one task's life."""
    ran = 0

    def count() -> int:
        nonlocal ran
        ran += 1
        return 0

    journal = Journal(path)
    journal._database._connection.set_progress_handler(count, 1)
    await life(journal)
    journal._database._connection.set_progress_handler(None, 1)
    journal.close()
    return ran


async def test_a_task_costs_the_same_after_200_000_others(empty: Path, full: Path) -> None:
    alone, among_others = await instructions(empty), await instructions(full)
    # Ten rows of each list that is shown newest first are there to be read, and an index to step into.
    assert among_others < alone * 1.5
    assert alone > 1_000


async def plans(path: Path) -> dict[str, list[str]]:
    """Each statement of one task's life, and of the housekeeping after it, with how SQLite would run it."""
    journal = Journal(path)
    db = journal._database._connection
    assert isinstance(db, Recording)
    db.said = []
    await life(journal)
    await tidy(journal, UnixSeconds(NOW + 100_000 + OTHERS // 100), 90, FastClock())
    said = list(db.said)
    found = {
        sql: [row["detail"] for row in db.execute("EXPLAIN QUERY PLAN " + sql, values)]
        for sql, values in said
        if re.match(r"\s*(SELECT|UPDATE|DELETE|INSERT)", sql)
    }
    journal.close()
    return found


def scanned(detail: str) -> str | None:
    """The table that is read from its first row on, without an index that leaves out what is finished."""
    scan = re.match(r"SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?", detail)
    return None if scan is None or scan[1] in SMALL or scan[2] in PARTIAL else scan[1]


async def test_no_question_about_a_task_reads_a_whole_table(empty: Path) -> None:
    found = await plans(empty)
    assert len(found) > 50
    whole = {sql: scanned(detail) for sql, details in found.items() for detail in details if scanned(detail)}
    assert [sql for sql in whole if "LIMIT" not in sql] == []


async def test_a_task_has_at_most_one_live_signature_by_the_schema_itself(empty: Path) -> None:
    """Whatever the code does: two rows of which either may land and counts cannot stand in the table."""
    journal = Journal(empty)
    await journal.apply(Insert(assignment(), State.ACCEPTED))
    insert = """INSERT INTO outbox (task, kind, attempt, signature, last_valid_block_height, fee, lamports, status,
        superseded) VALUES (1, 'task_completed', ?, ?, 1, 5000, 0, ?, ?)"""
    db = journal._database._connection
    db.execute(insert, (1, "first", OutboxStatus.SIGNED, 0))
    for status in (OutboxStatus.SIGNED, OutboxStatus.CONFIRMED, OutboxStatus.ERRED):
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            db.execute(insert, (2, "second", status, 0))
    for number, (status, superseded) in enumerate(
        [("signed", 1), ("expired", 0), ("finalized", 0), ("rejected", 0)]
    ):
        db.execute(insert, (3, f"no longer live {number}", status, superseded))
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        db.execute("UPDATE outbox SET superseded = 0 WHERE superseded = 1")
    journal.close()
