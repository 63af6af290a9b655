import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener.journal.changes import (
    GONE,
    Complete,
    Insert,
    Move,
    Observe,
    Owe,
    PassOver,
    Renumber,
    Seen,
    Supersede,
)
from listener.journal.journal import Journal
from listener.journal.records import Cursor, EventRow
from listener.journal.states import OutboxStatus, Owed, State
from shared.errors import (
    ConfigurationError,
    JournalDamaged,
    JournalLocked,
    JournalNewer,
    StateConflict,
)
from shared.ids import Attempt, Slot, UnixSeconds
from tests.unit.journal_rows import assignment, computed, inserted, result, signature, submitting

ROOT = Path(__file__).parents[2]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "journal.sqlite")
    yield opened
    opened.close()


async def test_what_was_applied_is_there_after_it_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    first = Journal(path)
    task = await computed(first)
    await first.apply(Cursor("cursor", Slot(7)), EventRow("cursor", 0, Slot(7), "TaskAssigned", task.account))
    first.close()
    second = Journal(path)
    assert await second.task(task.id) == task
    assert task.result == result(task)
    assert await second.cursor() == Cursor("cursor", Slot(7))
    second.close()


async def test_every_commit_reaches_the_disk(journal: Journal) -> None:
    synchronous, mode = await journal._database.read(
        lambda db: (
            db.execute("PRAGMA synchronous").fetchone()[0],
            db.execute("PRAGMA journal_mode").fetchone()[0],
        )
    )
    assert (synchronous, mode) == (2, "wal")


async def test_event_task_and_cursor_are_written_together_or_not_at_all(journal: Journal) -> None:
    await inserted(journal, assignment(1))
    with pytest.raises(StateConflict):
        await journal.apply(
            EventRow("new", 0, Slot(9), "TaskAssigned", "account-2"),
            Cursor("new", Slot(9)),
            Insert(assignment(2), State.ACCEPTED),
            Insert(assignment(1), State.ACCEPTED),
        )
    assert await journal.cursor() is None
    assert await journal.latest("account-2") is None


async def test_a_change_that_expects_another_state_is_refused(journal: Journal) -> None:
    task = await inserted(journal, assignment())
    await journal.apply(Move(task.id, State.ACCEPTED, State.COMPUTING))
    with pytest.raises(StateConflict):
        await journal.apply(Move(task.id, State.ACCEPTED, State.COMPUTING))
    assert (await journal.task(task.id)).state is State.COMPUTING


async def test_a_transition_that_is_not_listed_is_refused(journal: Journal) -> None:
    task = await inserted(journal, assignment())
    with pytest.raises(StateConflict, match="no transition"):
        await journal.apply(Move(task.id, State.ACCEPTED, State.PAID))


async def test_a_task_has_at_most_one_signature_that_may_land(journal: Journal) -> None:
    task = await submitting(journal)
    await journal.apply(Move(task.id, State.SUBMITTING, State.COMPUTED))
    with pytest.raises(StateConflict, match="may still land"):
        await journal.apply(signature(task, "signature-again"))
    assert [row.signature for row in await journal.signatures_of(task.id)] == ["signature-1"]


async def test_an_expired_signature_makes_room_for_a_new_one(journal: Journal) -> None:
    task = await submitting(journal)
    (row,) = await journal.watched()
    await journal.apply(
        Observe(row.id, OutboxStatus.SIGNED, OutboxStatus.EXPIRED), Move(task.id, State.SUBMITTING, State.COMPUTED)
    )
    await journal.apply(signature(task, "signature-again"))
    assert [row.signature for row in await journal.watched()] == ["signature-again"]


async def test_a_superseded_signature_is_watched_but_not_live(journal: Journal) -> None:
    task = await submitting(journal)
    await journal.apply(Renumber(task.id, State.SUBMITTING, State.COMPUTED, Attempt(200), Slot(201)))
    again = await journal.task(task.id)
    assert (again.attempt, again.state, again.result) == (200, State.COMPUTED, task.result)
    await journal.apply(signature(again, "signature-again"))
    assert [(row.signature, row.superseded) for row in await journal.watched()] == [
        ("signature-1", True),
        ("signature-again", False),
    ]


async def test_the_bytes_that_were_signed_are_kept_as_they_are(journal: Journal) -> None:
    await submitting(journal)
    (row,) = await journal.watched()
    assert await journal.raw(row.id) == b"raw signature-1"


async def test_the_same_event_in_another_slot_moves_its_row(journal: Journal) -> None:
    for slot in (5, 6):
        await journal.apply(EventRow("signature", 0, Slot(slot), "TaskAssigned", "account-1"))
    rows = await journal._rows("SELECT slot FROM events")
    assert [row["slot"] for row in rows] == [6]


async def test_the_cursor_never_moves_back(journal: Journal) -> None:
    await journal.apply(Cursor("newer", Slot(9)))
    await journal.apply(Cursor("older", Slot(8)))
    assert await journal.cursor() == Cursor("newer", Slot(9))


async def test_an_older_reading_of_the_account_changes_nothing(journal: Journal) -> None:
    task = await inserted(journal, assignment())
    await journal.apply(Seen(task.id, Slot(50), UnixSeconds(1)))
    assert (await journal.task(task.id)).refund_at == 0
    await journal.apply(Seen(task.id, Slot(150), UnixSeconds(1)))
    assert (await journal.task(task.id)).refund_at == 1


async def test_what_is_owed_to_compute_stays_until_it_is_paid_off(journal: Journal) -> None:
    task = await inserted(journal, assignment())
    await journal.apply(Move(task.id, State.ACCEPTED, State.MISSED, "DeadlinePassed", owed=Owed.STOP))
    assert [owing.id for owing in await journal.owing()] == [task.id]
    await journal.apply(Owe(task.id, Owed.STOP, Owed.NOTHING))
    assert await journal.owing() == []


async def test_an_account_that_was_gone_is_looked_at_again_when_it_is_listed(journal: Journal) -> None:
    await journal.apply(PassOver("account", Attempt(3), Slot(4), GONE))
    assert not await journal.knows("account", Attempt(3))
    await journal.apply(PassOver("account", Attempt(3), Slot(5), "WrongNode"))
    assert await journal.knows("account", Attempt(3))


async def test_a_completed_pair_and_a_passed_over_account_are_remembered(journal: Journal) -> None:
    taken = assignment()
    await journal.apply(Complete(taken.pair_hash), PassOver("stranger", Attempt(3), Slot(4), "WrongNode"))
    assert await journal.is_completed(taken.pair_hash)
    assert not await journal.is_completed(assignment(2).pair_hash)
    assert await journal.knows("stranger", Attempt(3))
    assert not await journal.knows("stranger", Attempt(4))


async def test_supersede_leaves_what_has_ended(journal: Journal) -> None:
    task = await submitting(journal)
    (row,) = await journal.watched()
    await journal.apply(Observe(row.id, OutboxStatus.SIGNED, OutboxStatus.FINALIZED, Slot(9)), Supersede(task.id))
    assert [row.superseded for row in await journal.signatures_of(task.id)] == [False]


def test_a_second_listener_on_one_journal_is_refused(journal: Journal) -> None:
    with pytest.raises(JournalLocked, match=r"journal\.sqlite\.lock"):
        Journal(journal.path)


def test_commands_may_read_the_journal_beside_the_listener(journal: Journal) -> None:
    beside = sqlite3.connect(journal.path)
    assert beside.execute("SELECT count(*) FROM tasks").fetchone() == (0,)
    beside.close()


def test_a_journal_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    Journal(path).close()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    before = path.read_bytes()
    with pytest.raises(JournalNewer, match="99"):
        Journal(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"no database at all, but long enough to be looked at" * 20)
    with pytest.raises(JournalDamaged, match="left as it is"):
        Journal(path)
    assert path.read_bytes().startswith(b"no database")


def test_a_damaged_journal_is_refused_with_what_to_do_and_not_a_byte_of_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    crashed = subprocess.run([sys.executable, "-c", CRASHED_WITH_A_LOG, str(path)], cwd=ROOT, check=False)
    assert crashed.returncode == -9
    with path.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(b"\xff" * 3000)
    before = {name: path.with_name(name).read_bytes() for name in ("journal.sqlite", "journal.sqlite-wal")}
    assert before["journal.sqlite-wal"]
    with pytest.raises(JournalDamaged, match=r"(?s)damaged: .*rebuild-journal"):
        Journal(path)
    assert {name: path.with_name(name).read_bytes() for name in before} == before


def test_what_a_killed_listener_left_in_the_log_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    subprocess.run([sys.executable, "-c", CRASHED_WITH_A_LOG, str(path)], cwd=ROOT, check=False)
    journal = Journal(path)
    assert asyncio.run(journal.cursor()) == Cursor("in the log", Slot(9))
    journal.close()


CRASHED_WITH_A_LOG = """
import asyncio, os, signal, sys
from pathlib import Path
from listener.journal.journal import Journal
from listener.journal.records import Cursor

async def main() -> None:
    journal = Journal(Path(sys.argv[1]))
    await journal._database.read(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    await journal.apply(Cursor("in the log", 9))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_a_journal_belongs_to_one_cluster_and_one_node(journal: Journal) -> None:
    await journal.belongs_to(genesis_hash="here", node="me")
    await journal.belongs_to(genesis_hash="here", node="me")
    with pytest.raises(ConfigurationError, match="genesis hash here, not to there"):
        await journal.belongs_to(genesis_hash="there", node="me")


KILLED_MIDWAY = """
import asyncio, os, signal, sys
from pathlib import Path
from listener.journal import changes, writes
from listener.journal.journal import Journal
from listener.journal.records import Cursor
from listener.journal.states import State
from tests.unit.journal_rows import assignment, inserted

async def main() -> None:
    journal = Journal(Path(sys.argv[1]))
    await inserted(journal, assignment(1))
    writes.write.register(Die)(lambda change, db, at: os.kill(os.getpid(), signal.SIGKILL))
    await journal.apply(Cursor("second", 9), changes.Insert(assignment(2), State.ACCEPTED), Die())

class Die: ...

asyncio.run(main())
"""


async def test_a_listener_killed_within_a_commit_leaves_the_journal_as_before_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED_MIDWAY, str(path), cwd=ROOT)
    assert await killed.wait() == -9
    journal = Journal(path)
    assert await journal.latest("account-1") is not None
    assert await journal.latest("account-2") is None
    assert await journal.cursor() is None
    journal.close()
