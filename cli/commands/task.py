"""`splitup-node task ID`: all that the journal knows of one task."""

import argparse
import time
from collections.abc import AsyncIterator, Iterator, Sequence

from cli.commands.asking import opened
from cli.commands.naming import ID_HELP, found_pair
from cli.commands.plain import columns, lamports, moment, span
from cli.commands.running import run
from cli.commands.standing import WHY_IT_WAITS
from listener.journal.beside import JournalBeside
from listener.journal.books import Finished, LedgerRow
from listener.journal.records import EventRow, Outbox, Task
from listener.journal.states import ENDED, Owed
from shared.ids import TaskKey
from shared.messages import TaskResult


def main() -> int:
    parser = argparse.ArgumentParser(
        description="All that the journal knows of one task: its attempts, what was computed, signed and booked, what "
        "is owed, and the events that told of it."
    )
    parser.add_argument("id", help=ID_HELP)
    return run(task(parser.parse_args()))


async def task(args: argparse.Namespace) -> None:
    with opened() as journal:
        pair = await found_pair(journal, args.id)
        told = [part async for part in parts(journal, pair, time.time())]
    print("\n\n".join([str(pair), *told]))


async def parts(journal: JournalBeside, pair: TaskKey, now: float) -> AsyncIterator[str]:
    finished, held = await journal.finished_of(pair), await journal.tasks_of(pair)
    for ended in finished:
        yield columns(_finished(ended))
    for attempt in held:
        yield columns(_attempt(attempt, now))
        signatures = await journal.signatures_of(attempt.id)
        if signatures:
            yield _titled("signatures", map(_signature, signatures))
    if ledger := await journal.ledger_of(pair):
        yield _titled("ledger (lamports)", map(_booked, ledger), right=[3])
    for account in sorted({one.account for one in finished} | {one.account for one in held}):
        if events := await journal.events_of(account):
            yield _titled("events", map(_event, events))


def _attempt(task: Task, now: float) -> Iterator[tuple[object, ...]]:
    yield "attempt", f"{task.attempt}, at account {task.account}"
    yield "state", task.state + (f", {task.reason}" if task.reason else "")
    if task.waits_for is not None:
        yield "waits", WHY_IT_WAITS[task.waits_for]
    if task.ends_as is not None and task.state not in ENDED:
        yield "ends as", task.ends_as
    yield "requester", task.requester
    yield "model", f"{task.model_id}, {task.compute_units:,} compute units"
    for uri in task.input_uris:
        yield "input", uri
    yield "reward", f"{lamports(task.reward)} lamports"
    left = "" if task.state in ENDED else f", {span(task.end - now)} left"
    yield "deadline", f"{moment(task.deadline)}{left}"
    if task.refund_at:
        yield "notice", f"its requester cancelled it; until {moment(task.refund_at)} it may still be completed"
    yield "verified", f"as this says in slot {task.verified_slot}"
    yield "taken", moment(task.taken_at)
    yield "started", moment(task.started_at)
    yield "ended", moment(task.ended_at)
    if task.result is not None:
        yield from _result(task.result)
    if task.owed is not Owed.NOTHING:
        yield "owed", _OWED[task.owed]


_OWED = {
    Owed.STOP: "compute is still to be told to stop it",
    Owed.UNPAID: "once its end is final, compute is to drop the result and its objects",
    Owed.PAID: "compute is still to be told that it is paid",
}


def _result(result: TaskResult) -> Iterator[tuple[object, ...]]:
    if not result.success:
        yield "result", f"failure: {result.error_message}"
        return
    yield "result", f"success after {result.execution_time:,} ms"
    for uri in result.output_uris:
        yield "output", uri


def _finished(task: Finished) -> Iterator[tuple[object, ...]]:
    yield "attempt", f"{task.attempt}, at account {task.account}, in the history"
    yield "state", task.state + (f", {task.reason}" if task.reason else "")
    yield "requester", task.requester
    yield "model", f"{task.model_id}, {task.compute_units:,} compute units"
    yield "reward", f"{lamports(task.reward)} lamports"
    yield "signature", task.signature or "none"
    yield "fees", f"{lamports(task.fees)} lamports"
    yield "started", moment(task.started_at)
    yield "ended", moment(task.ended_at)


def _signature(row: Outbox) -> tuple[object, ...]:
    status = row.status + (" (superseded)" if row.superseded else "")
    slot = f"slot {row.slot}" if row.slot is not None else f"lands up to height {row.last_valid_block_height}"
    extra = f" + {lamports(row.lamports)} rent" if row.lamports else ""
    return f"  {row.kind}", row.signature, status, slot, f"fee {lamports(row.fee)}{extra}", row.error or ""


def _booked(row: LedgerRow) -> tuple[object, ...]:
    forgone = f"{lamports(row.forgone)} forgone" if row.forgone else ""
    when, what = f"  {moment(row.at)}", f"attempt {row.attempt}"
    return when, what, row.kind, lamports(row.lamports), forgone, row.signature or ""


def _event(row: EventRow) -> tuple[object, ...]:
    return f"  {row.name}", f"slot {row.slot}", row.signature, f"event {row.index}"


def _titled(title: str, rows: Iterator[tuple[object, ...]], right: Sequence[int] = ()) -> str:
    return f"{title}\n{columns(rows, right)}"
