"""What waits for the disk at the same moment is committed at once, and nothing of that is seen from outside."""

import asyncio
import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from listener.journal.at_once import AtOnce
from listener.journal.changes import Insert, Move
from listener.journal.journal import Journal
from listener.journal.records import Cursor
from listener.journal.states import State
from shared.errors import JournalError, StateConflict
from shared.ids import Slot
from tests.unit.journal_rows import assignment, inserted
from tests.unit.listener_world import until


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "journal.sqlite")
    yield opened
    opened.close()


class Held:
    """The journal's thread is busy within the block: what is written meanwhile waits."""

    def __init__(self, journal: Journal) -> None:
        self._database = journal._database
        self._begun = Event()
        self._go_on = Event()
        self.commits: list[str] = []

    async def __aenter__(self) -> "Held":
        self._database._connection.set_trace_callback(self._trace)
        self._holding = asyncio.ensure_future(self._database.read(self._hold))
        await until(self._begun.is_set)
        return self

    def _hold(self, _: sqlite3.Connection) -> None:
        self._begun.set()
        self._go_on.wait(10)

    def _trace(self, sql: str) -> None:
        if sql == "COMMIT":
            self.commits.append(sql)

    async def release(self) -> None:
        await asyncio.sleep(0)  # for those who are about to write
        self._go_on.set()

    async def __aexit__(self, *_: object) -> None:
        self._go_on.set()
        await self._holding
        await self._database.read(lambda db: db.set_trace_callback(None))


async def test_writes_that_wait_at_the_same_moment_are_committed_at_once(journal: Journal) -> None:
    async with Held(journal) as held:
        writing = asyncio.gather(*(journal.apply(Insert(assignment(n), State.ACCEPTED)) for n in range(50)))
        await held.release()
        await writing
        assert len(held.commits) == 1
    assert await journal.counts() == {State.ACCEPTED: 50}


async def test_a_conflict_undoes_only_its_own_changes(journal: Journal) -> None:
    async with Held(journal) as held:
        writing = asyncio.gather(
            journal.apply(Insert(assignment(1), State.ACCEPTED)),
            journal.apply(Insert(assignment(2), State.ACCEPTED), Insert(assignment(1), State.ACCEPTED)),
            journal.apply(Insert(assignment(3), State.ACCEPTED)),
            return_exceptions=True,
        )
        await held.release()
        first, second, third = await writing
    assert first is None and isinstance(second, StateConflict) and third is None
    assert {task.account for task in await journal.tasks_in({State.ACCEPTED})} == {"account-1", "account-3"}


async def test_a_change_sees_what_those_before_it_in_the_group_wrote(journal: Journal) -> None:
    task = await inserted(journal, assignment())
    async with Held(journal) as held:
        writing = asyncio.gather(
            journal.apply(Move(task.id, State.ACCEPTED, State.COMPUTING)),
            journal.apply(Move(task.id, State.ACCEPTED, State.MISSED)),
            journal.apply(Move(task.id, State.COMPUTING, State.CANCELLING)),
            return_exceptions=True,
        )
        await held.release()
        assert [type(outcome) for outcome in await writing] == [type(None), StateConflict, type(None)]
    assert (await journal.task(task.id)).state is State.CANCELLING


async def test_what_is_too_large_for_the_disk_does_not_hold_up_the_others(journal: Journal) -> None:
    pages = await journal._database.read(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
    await journal._database.read(lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchone())
    async with Held(journal) as held:
        too_large = asyncio.ensure_future(journal.apply(Cursor("s" * 50_000, Slot(7))))
        small = asyncio.ensure_future(journal.apply(Insert(assignment(), State.ACCEPTED)))
        await held.release()
        await asyncio.wait_for(small, 5)
    assert not too_large.done()
    await journal._database.read(lambda db: db.execute("PRAGMA max_page_count = 100000").fetchone())
    await asyncio.wait_for(too_large, 5)


async def test_a_write_that_is_cancelled_while_it_waits_is_not_written(journal: Journal) -> None:
    async with Held(journal) as held:
        dropped = asyncio.ensure_future(journal.apply(Insert(assignment(1), State.ACCEPTED)))
        kept = asyncio.ensure_future(journal.apply(Insert(assignment(2), State.ACCEPTED)))
        await asyncio.sleep(0)
        dropped.cancel()
        await held.release()
        await kept
    assert await journal.latest("account-1") is None
    assert await journal.latest("account-2") is not None


async def test_an_error_of_one_change_that_is_no_conflict_reaches_its_caller_only(journal: Journal) -> None:
    def broken(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO nowhere VALUES (1)")

    async with Held(journal) as held:
        fine = asyncio.ensure_future(journal.apply(Insert(assignment(), State.ACCEPTED)))
        wrong = asyncio.ensure_future(journal._database.write(broken))
        await held.release()
        with pytest.raises(Exception, match="no such table: nowhere"):
            await wrong
        await fine
    assert await journal.counts() == {State.ACCEPTED: 1}


async def test_questions_of_the_same_moment_take_one_turn_of_the_thread_and_fail_each_for_itself(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[object] = []
    submit = journal._database._executor.submit
    async with Held(journal) as held:
        monkeypatch.setattr(
            journal._database._executor, "submit", lambda *call: (turns.append(call), submit(*call))[1]
        )
        asking = asyncio.gather(
            journal.counts(),
            journal._rows("SELECT * FROM nowhere"),
            journal.latest("account-1"),
            return_exceptions=True,
        )
        await held.release()
        counts, wrong, latest = await asking
        assert len(turns) == 1
    assert counts == {} and latest is None
    assert isinstance(wrong, JournalError) and "no such table: nowhere" in str(wrong)


async def test_what_is_asked_after_a_change_sees_it_though_others_were_asked_before(journal: Journal) -> None:
    async with Held(journal) as held:
        before = asyncio.ensure_future(journal.counts())
        await asyncio.sleep(0)
        writing = asyncio.ensure_future(journal.apply(Insert(assignment(), State.ACCEPTED)))
        await asyncio.sleep(0)
        after = asyncio.ensure_future(journal.counts())
        await held.release()
        assert await before == {}
        assert await after == {State.ACCEPTED: 1}
        await writing


class Counting(AtOnce):
    def __init__(self) -> None:
        self.calls = 0

    def submit(self, call: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.calls += 1
        return super().submit(call, *args, **kwargs)


async def test_an_executor_may_be_passed_in_and_runs_every_call(tmp_path: Path) -> None:
    executor = Counting()
    journal = Journal(tmp_path / "journal.sqlite", executor)
    await inserted(journal, assignment())
    with pytest.raises(StateConflict):
        await inserted(journal, assignment())
    before = executor.calls
    assert await journal.counts() == {State.ACCEPTED: 1}
    assert executor.calls == before + 1
    journal.close()
