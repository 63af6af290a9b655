"""Commands open the journal beside the listener, or while there is none."""

import sqlite3
from pathlib import Path

import pytest

from listener.journal.beside import JournalBeside
from listener.journal.journal import Journal
from listener.journal.states import RequestName, RequestState, State
from shared.errors import JournalError, JournalNewer
from tests.unit.journal_rows import assignment, inserted


async def test_a_command_reads_and_asks_while_the_listener_writes(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    with JournalBeside(path) as beside:
        await inserted(journal, assignment(1))
        assert [task.state for task in await beside.tasks_in({State.ACCEPTED})] == [State.ACCEPTED]
        number = await beside.ask(RequestName.SKIP, "execution/task-1", 1_700_000_000)
        await inserted(journal, assignment(2))
        assert await beside.counts() == {State.ACCEPTED: 2}
    (asked,) = await journal.requests_asked()
    assert (asked.id, asked.name, asked.argument) == (number, RequestName.SKIP, "execution/task-1")
    assert (asked.asked_at, asked.state, asked.answer) == (1_700_000_000, RequestState.ASKED, None)
    journal.close()


async def test_a_command_reads_and_asks_while_no_listener_runs(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    await inserted(journal, assignment(1))
    journal.close()
    with JournalBeside(path) as beside:
        assert await beside.counts() == {State.ACCEPTED: 1}
        await beside.ask(RequestName.DRAIN, "", 7)
    later = Journal(path)
    assert [asked.name for asked in await later.requests_asked()] == [RequestName.DRAIN]
    later.close()


def test_a_command_makes_no_journal(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="did the listener ever run"):
        JournalBeside(tmp_path / "journal.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_a_command_refuses_a_newer_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    Journal(path).close()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(JournalNewer, match="99"):
        JournalBeside(path)
