"""What a task costs the journal after a thousand finished ones, and after a million.

Both journals lie on the same disk and take the same tasks in turn, each by the changes and questions that a task's life
makes; the median of the ratios counts, since the disk is not always as quick.
"""

import asyncio
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from bench.lines import Goal, Line
from bench.machine import machine
from listener.journal.changes import Book, Complete, Count, Insert, Move, Observe, Owe
from listener.journal.journal import Journal
from listener.journal.records import EventRow
from listener.journal.states import UNSIGNED, LedgerKind, OutboxStatus, Outcome, Owed, State
from shared.ids import Day, Slot, UnixSeconds
from tests.unit.journal_rows import NOW, REQUESTER, assignment, result, signature

FEW, MANY = 1_000, 1_000_000
BATCHES, BATCH = 30, 20
FEE: Final = 5_000
FILLING_CACHE_KIB: Final = 1 << 20
MOST_RATIO: Final = 1.2


async def measure(*, is_tiny: bool) -> list[Line]:
    few, many, batches = (10, 100, 2) if is_tiny else (FEW, MANY, BATCHES)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        paths = [Path(folder) / f"{count}.sqlite" for count in (few, many)]
        for path, count in zip(paths, (few, many), strict=True):
            Journal(path).close()
            await asyncio.to_thread(_fill, path, count)
        small, large = (Journal(path) for path in paths)
        try:
            took = [(await _batch(small, n), await _batch(large, n)) for n in range(batches)]
        finally:
            small.close()
            large.close()
    ratio = statistics.median(after_many / after_few for after_few, after_many in took)
    bare = statistics.median(after_few for after_few, _ in took)
    return [
        Line(
            f"journal's cost per task with {many:,} finished ones, beside {few:,}",
            f"ms, {machine()}",
            bare * ratio,
            bare=bare,
            goal=Goal("ratio", "<=", MOST_RATIO),
            limit="What is written goes to deeper trees, and more pages go to the disk at a checkpoint.",
        )
    ]


def _fill(path: Path, count: int) -> None:
    """As so many paid tasks leave it: in the history, the ledger, and among what is never run again."""
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = {-FILLING_CACHE_KIB}"):
        db.execute(f"PRAGMA {pragma}")
    db.execute("BEGIN")
    numbers = f"WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count})"  # noqa: S608
    db.execute(
        f"""INSERT INTO history {numbers} SELECT hex(randomblob(22)), 100 + n, hex(randomblob(16)),
            'task-' || n || '-' || hex(randomblob(4)), :requester, :model, 1, 1000000, 'paid', NULL,
            hex(randomblob(44)), 5000, :now - n, :now - n FROM n""",  # noqa: S608 (a number of ours)
        {"requester": REQUESTER, "model": "f" * 64, "now": NOW},
    )
    db.execute(f"INSERT INTO completed {numbers} SELECT randomblob(32) FROM n")  # noqa: S608
    for kind, lamports in (("fee", -FEE), ("reward", 1_000_000)):
        db.execute(
            """INSERT INTO ledger (at, execution_id, task_id, attempt, requester, kind, lamports, signature)
               SELECT ended_at, execution_id, task_id, attempt, requester, ?, ?, signature FROM history""",
            (kind, lamports),
        )
    db.execute("COMMIT")
    db.execute("PRAGMA journal_mode = WAL")
    db.close()


async def _batch(journal: Journal, number: int) -> float:
    """Milliseconds per task."""
    begun_at = time.monotonic()
    for task in range(BATCH):
        await _life(journal, number * BATCH + task)
    return (time.monotonic() - begun_at) * 1000 / BATCH


async def _life(journal: Journal, number: int) -> None:
    """From the event to the final end: the changes that the listener writes, and what it asks between them."""
    at = UnixSeconds(NOW)
    taken = assignment(number)
    event = EventRow(f"event-{number}", 0, Slot(101), "TaskAssigned", taken.account)
    assert not await journal.has_event(event)
    assert await journal.latest(taken.account) is None
    assert not await journal.is_completed(taken.pair_hash)
    await journal.apply(event, Insert(taken, State.ACCEPTED), at=at)
    await journal.tasks_in(UNSIGNED)
    task = await journal.latest(taken.account)
    assert task is not None
    await journal.apply(Move(task.id, State.ACCEPTED, State.COMPUTING), at=at)
    done = Move(task.id, State.COMPUTING, State.COMPUTED, result=result(task), ends_as=State.PAID)
    await journal.apply(done, at=at)
    task = await journal.task(task.id)
    assert not await journal.is_completed(task.pair_hash)
    await journal.tasks_of(task.key)
    signed = signature(task, f"signature-{number}")
    await journal.apply(signed, at=at)
    (row,) = await journal.watched()
    await journal.raw(row.id)
    confirmed = Observe(row.id, OutboxStatus.SIGNED, OutboxStatus.CONFIRMED, Slot(110))
    await journal.apply(confirmed, Move(task.id, State.SUBMITTING, State.CONFIRMED), at=at)
    day = Day(at // 86_400)
    await journal.apply(
        Observe(row.id, OutboxStatus.CONFIRMED, OutboxStatus.FINALIZED, Slot(110)),
        Move(task.id, State.CONFIRMED, State.PAID, owed=Owed.PAID),
        Complete(task.pair_hash),
        Book(LedgerKind.FEE, -FEE, row.signature, task),
        Book(LedgerKind.REWARD, task.reward, row.signature, task),
        Count(task.requester, day, Outcome.PAID),
        at=at,
    )
    await journal.owing()
    await journal.apply(Owe(task.id, Owed.PAID, Owed.NOTHING), at=at)
