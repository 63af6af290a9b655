import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from solders.signature import Signature
from solders.transaction import Transaction

from listener.chain.answers import Status
from listener.chain.lander import Lander
from listener.chain.tip import Tip
from listener.chain.when_to_ask import Pace
from listener.chain_clock import ChainClock
from listener.journal.changes import Complete, Insert, Observe, Renumber
from listener.journal.journal import Journal
from listener.journal.records import Task
from listener.journal.states import OutboxStatus, State, SubmissionKind
from listener.submission import AGAIN_S, Submission, Terms
from shared.errors import ChainError, RpcUnavailable
from shared.ids import Attempt, Slot, TaskKey
from tests.unit.chain_bytes import PROGRAM_ID, ExecutionBytes
from tests.unit.journal_rows import NOW, failed_row, signature
from tests.unit.listener_world import ACCOUNT, NODE, OURS, PROGRAM, FastClock, World, assigned, running, until
from tests.unit.signing_world import signer_of

TERMS = Terms(commitment="confirmed", landing_margin_s=15.0)
FIRST = str(Signature(bytes([1] * 64)))


class StillClock(FastClock):
    def monotonic(self) -> float:
        return 0.0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield World(journal)
    journal.close()


async def submit(world: World, task: Task, **changed: Any) -> float:
    terms = dataclasses.replace(TERMS, **changed)
    signer = signer_of(world)
    submission = Submission(
        world.agreement, PROGRAM, signer, world.observer, world.chain_clock, world.steps, terms
    )
    return await submission.submit(task)


async def signatures(world: World, task: Task) -> int:
    assert world.rpc.sent == []  # the lander sends, not the submission
    return len(await world.journal.signatures_of(task.id))


async def test_a_result_is_signed_for_the_attempt_that_the_account_shows_and_stored(world: World) -> None:
    task = await world.taken(State.COMPUTED)
    assert await submit(world, task) == 0.0
    (row,) = await world.journal.signatures_of(task.id)
    assert (row.kind, row.attempt, row.last_valid_block_height) == (SubmissionKind.COMPLETED, 1000, 250)
    transaction = Transaction.from_bytes(await world.journal.raw(row.id))
    assert str(transaction.signatures[0]) == row.signature
    assert transaction.message.account_keys[0] == NODE
    instruction = transaction.message.instructions[-1]
    assert transaction.message.account_keys[instruction.program_id_index] == PROGRAM_ID
    assert bytes(instruction.data).startswith(hashlib.sha256(b"global:task_completed").digest()[:8])
    assert (await world.task()).state is State.SUBMITTING


async def test_a_failure_is_signed_as_task_failed(world: World) -> None:
    row = failed_row(State.COMPUTED)
    await world.journal.apply(Insert(assigned(), State.COMPUTED, "InputMissing", row.result, State.FAILED))
    task = await world.task()
    await submit(world, task)
    (stored,) = await world.journal.signatures_of(task.id)
    data = bytes(Transaction.from_bytes(await world.journal.raw(stored.id)).message.instructions[-1].data)
    assert stored.kind is SubmissionKind.FAILED and b"no such operator" in data


@pytest.mark.parametrize(
    ("shown", "state"),
    [
        (None, State.CANCELLED),
        (OURS.but(state=2), State.CANCELLED),
        (OURS.but(state=3), State.CANCELLED),
        (OURS.but(assigned_node=PROGRAM_ID), State.CANCELLED),
        (OURS.but(attempt=1500, model_id="another"), State.CANCELLED),
    ],
    ids=["gone", "failed", "completed", "of another node", "assigned again with other content"],
)
async def test_nothing_is_signed_once_the_account_is_not_ours_to_end(
    world: World, shown: ExecutionBytes | None, state: State
) -> None:
    task = await world.taken(State.COMPUTED)
    world.shows(shown)
    await submit(world, task)
    assert await signatures(world, task) == 0
    assert (await world.journal.task(task.id)).state is state


async def test_nothing_is_signed_while_the_account_shows_other_content(world: World) -> None:
    task = await world.taken(State.COMPUTED)
    world.shows(OURS.but(model_id="another"))
    assert await submit(world, task) == AGAIN_S
    assert await signatures(world, task) == 0
    world.shows(OURS)
    assert await submit(world, task) == 0.0
    assert await signatures(world, task) == 1


async def test_the_same_content_under_a_higher_attempt_goes_to_compute_under_that_number_first(
    world: World,
) -> None:
    task = await world.taken(State.COMPUTED)
    world.shows(OURS.but(attempt=1500))
    await submit(world, task)
    assert await world.journal.signatures_of(task.id) == []
    renumbered = await world.task()
    assert (renumbered.state, renumbered.attempt) == (State.ACCEPTED, 1500)


async def test_nothing_is_signed_within_the_landing_margin(world: World) -> None:
    task = await world.taken(State.COMPUTED)
    world.rpc.time = NOW + 585.0
    await submit(world, task)
    assert await signatures(world, task) == 0
    assert (await world.task()).state is State.MISSED


async def test_within_a_notice_a_result_is_signed_while_it_can_land(world: World) -> None:
    task = await world.taken(State.COMPUTED)
    world.shows(OURS.but(state=1, refund_at=NOW + 30))
    world.rpc.time = NOW + 14.0
    world.chain_clock = ChainClock(world.rpc.get_clock, StillClock())
    await submit(world, task)
    assert await signatures(world, task) == 1


async def test_within_a_notice_nothing_is_signed_that_cannot_land_any_more(world: World) -> None:
    task = await world.taken(State.COMPUTED)
    world.shows(OURS.but(state=1, refund_at=NOW + 30))
    world.rpc.time = NOW + 16.0
    await submit(world, task)
    assert await signatures(world, task) == 0
    assert (await world.task()).state is State.CANCELLED


async def test_a_completed_pair_is_not_submitted_again(world: World) -> None:
    task = await world.taken(State.COMPUTED)
    await world.journal.apply(Complete(task.pair_hash))
    await submit(world, task)
    assert await signatures(world, task) == 0
    assert (await world.task()).reason == "CompletedBefore"


async def superseded(world: World) -> Task:
    """A result whose signature under attempt 1000 may have landed before the pair was assigned again."""
    task = await world.taken(State.COMPUTED)
    await world.journal.apply(signature(task, FIRST))
    await world.journal.apply(Renumber(task.id, State.SUBMITTING, State.COMPUTED, Attempt(1500), Slot(1501)))
    world.shows(OURS.but(attempt=1500))
    return await world.journal.task(task.id)


async def test_before_a_second_signature_of_a_pair_the_history_is_asked_whether_the_first_was_paid(
    world: World,
) -> None:
    task = await superseded(world)
    world.rpc.history[FIRST] = Status(Slot(1400), None, "finalized")
    assert await submit(world, task) == AGAIN_S
    world.rpc.history.clear()
    world.rpc.status_slot = world.rpc.slot - 1
    with pytest.raises(RpcUnavailable):
        await submit(world, task)
    assert await signatures(world, task) == 1
    world.rpc.status_slot = None
    await submit(world, task)
    assert await signatures(world, task) == 2


async def test_a_first_signature_that_becomes_final_while_its_journal_is_asked_is_the_only_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await superseded(world)
    (first,) = await world.journal.signatures_of(task.id)
    tasks_of = world.journal.tasks_of

    async def settled_meanwhile(key: TaskKey) -> list[Task]:
        monkeypatch.undo()
        final = Observe(first.id, OutboxStatus.SIGNED, OutboxStatus.FINALIZED, Slot(1400))
        await world.journal.apply(final, Complete(task.pair_hash))
        return await tasks_of(key)

    monkeypatch.setattr(world.journal, "tasks_of", settled_meanwhile)
    await submit(world, task)
    assert await signatures(world, task) == 1
    assert (await world.task()).reason == "CompletedBefore"


async def test_at_finalized_the_account_is_read_at_finalized_and_waited_for(world: World) -> None:
    task = await world.taken(State.COMPUTED)
    world.rpc.slot = task.verified_slot - 1
    with pytest.raises(ChainError, match="lags"):
        await submit(world, task, commitment="finalized")
    assert world.rpc.asked["get_account finalized"] == 1 and world.rpc.asked["get_account confirmed"] == 0
    assert await signatures(world, task) == 0


async def test_where_no_blockhash_is_given_nothing_is_stored(world: World) -> None:
    task = await world.taken(State.COMPUTED)
    world.rpc.faults["get_latest_blockhash"] = [RpcUnavailable("no answer")]
    with pytest.raises(RpcUnavailable):
        await submit(world, task)
    assert (await world.task()).state is State.COMPUTED


async def test_a_signature_stands_in_the_journal_before_it_is_first_sent(world: World) -> None:
    """The lander runs all the while and sends what it is given as soon as it can."""
    stored_when_sent: list[bool] = []
    send = world.rpc.send_transaction

    async def sends(raw: bytes, **options: object) -> Signature:
        rows = await world.journal.watched()
        stored_when_sent.append(raw in [await world.journal.raw(row.id) for row in rows])
        return Signature.from_bytes(bytes(await send(raw, **options)))

    world.rpc.send_transaction = sends
    task = await world.taken(State.COMPUTED)
    pace, tip = Pace(1.0, 0.002), Tip(world.clock)
    lander = Lander(world.endpoints, world.agreement, PROGRAM, world.steps, pace, tip, world.clock)
    world.steps.tell(lander.changed)
    async with running(lander.run()):
        await submit(world, task)
        await until(lambda: len(stored_when_sent) > 2)
    assert all(stored_when_sent)


async def test_nothing_is_sent_where_it_could_not_be_stored(world: World) -> None:
    task = await world.taken(State.COMPUTED)
    pace, tip = Pace(1.0, 0.002), Tip(world.clock)
    lander = Lander(world.endpoints, world.agreement, PROGRAM, world.steps, pace, tip, world.clock)
    world.steps.tell(lander.changed)

    async def full(*_: object, **_at: object) -> None:
        raise OSError("no space left on the device")

    async with running(lander.run()):
        world.journal.apply = full  # type: ignore[method-assign]
        with pytest.raises(OSError, match="no space"):
            await submit(world, task)
    assert await signatures(world, task) == 0
    assert (await world.journal.latest(ACCOUNT)) == task
