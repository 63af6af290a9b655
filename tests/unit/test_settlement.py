import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import listener.settlement as settlement_module
from listener.chain.accounts import ExecutionState
from listener.compute_client import Finished, Stopped, Storing
from listener.decisions import NOTHING, Sighting
from listener.journal.changes import Book, Complete, Move, Observe, Owe, Supersede
from listener.journal.journal import Journal
from listener.journal.records import Outbox, Task
from listener.journal.states import LedgerKind, OutboxStatus, Owed, State, SubmissionKind
from listener.landing import loss
from listener.reconcile import reconcile
from listener.settlement import (
    FAILED_ELSEWHERE,
    FAILED_LATE,
    PAID_ELSEWHERE,
    PAID_LATE,
    Settlement,
    on_final_account,
    on_unpaid,
)
from shared.errors import ComputeConflict, ComputeUnavailable
from shared.ids import OPERATOR, Attempt, ExecutionId, Lamports, Requester, Slot, TaskId
from shared.messages import Stage, TaskResult, TaskStatus, TaskSummary
from tests.unit.journal_rows import NOW, assignment, result, signature, task_row
from tests.unit.listener_world import OURS, World, running, until


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield World(journal)
    journal.close()


def seen(state: ExecutionState, attempt: int = 100, **changed: object) -> Sighting:
    return Sighting(assignment(attempt=attempt, **changed), state)


ENDED = task_row(State.CANCELLED, reason="EndedElsewhere")
END = float(NOW + 600)


def test_an_account_that_is_gone_or_assigned_again_ended_this_attempt_unpaid() -> None:
    assert on_final_account(ENDED, None, NOW, ()) is NOTHING
    assert on_final_account(ENDED, seen(ExecutionState.ASSIGNED, 200), NOW, ()) is NOTHING


def test_a_lower_attempt_at_finalized_means_that_a_fork_took_this_one_back() -> None:
    assert on_final_account(ENDED, seen(ExecutionState.COMPLETED, 99), NOW, ()) is NOTHING


def test_another_signature_of_this_key_may_have_completed_or_failed_it() -> None:
    paid = on_final_account(ENDED, seen(ExecutionState.COMPLETED), NOW, ())
    assert paid is not None and paid.changes == (
        Move(1, State.CANCELLED, State.PAID, PAID_ELSEWHERE, owed=Owed.PAID),
        Complete(ENDED.pair_hash),
    )
    failed = on_final_account(ENDED, seen(ExecutionState.FAILED), NOW, ())
    assert failed is not None and failed.changes == (
        Move(1, State.CANCELLED, State.FAILED, FAILED_ELSEWHERE, owed=Owed.UNPAID),
    )


def expired(number: int, kind: SubmissionKind = SubmissionKind.COMPLETED, attempt: int = 100) -> Outbox:
    last_valid, fee = 1_000, Lamports(5_000 + number)
    values = (number, 1, kind, Attempt(attempt), f"signature-{number}", last_valid, fee, Lamports(0))
    return Outbox(*values, OutboxStatus.EXPIRED, False, None, None)


def test_a_signature_of_its_own_that_was_called_expired_is_booked_where_the_account_shows_what_it_did() -> None:
    signed = (expired(7), expired(8), expired(9, SubmissionKind.FAILED), expired(10, attempt=99))
    paid = on_final_account(ENDED, seen(ExecutionState.COMPLETED), NOW, signed)
    assert paid is not None and paid.changes == (
        Move(1, State.CANCELLED, State.PAID, PAID_LATE, owed=Owed.PAID),
        Complete(ENDED.pair_hash),
        Observe(8, OutboxStatus.EXPIRED, OutboxStatus.FINALIZED, ENDED.verified_slot),
        Book(LedgerKind.FEE, Lamports(-5_008), "signature-8", ENDED),
        Book(LedgerKind.REWARD, ENDED.reward, "signature-8", ENDED),
    )
    failed = on_final_account(ENDED, seen(ExecutionState.FAILED), NOW, signed)
    assert failed is not None and failed.changes == (
        Move(1, State.CANCELLED, State.FAILED, FAILED_LATE, owed=Owed.UNPAID),
        Observe(9, OutboxStatus.EXPIRED, OutboxStatus.FINALIZED, ENDED.verified_slot),
        Book(LedgerKind.FEE, Lamports(-5_009), "signature-9", ENDED),
    )


@pytest.mark.parametrize("state", [ExecutionState.ASSIGNED, ExecutionState.CANCELLED])
def test_while_it_could_still_be_completed_its_end_is_not_final(state: ExecutionState) -> None:
    assert on_final_account(ENDED, seen(state), END, ()) is None
    assert on_final_account(ENDED, seen(state), END + 1, ()) is NOTHING
    assert on_final_account(ENDED, seen(state, refund_at=NOW + 30), NOW + 30.0, ()) is None
    assert on_final_account(ENDED, seen(state, refund_at=NOW + 30), NOW + 31.0, ()) is NOTHING


def test_what_was_computed_and_ended_unpaid_is_booked_as_a_loss_once_that_is_final() -> None:
    computed = task_row(State.MISSED, result=result(assignment()))
    assert on_unpaid(computed).changes == (Owe(1, Owed.UNPAID, Owed.NOTHING), loss(computed))


@pytest.mark.parametrize("told", [None, result(assignment(), success=False)])
def test_what_was_not_computed_is_no_loss(told: TaskResult | None) -> None:
    assert on_unpaid(task_row(State.CANCELLED, result=told)).changes == (Owe(1, Owed.UNPAID, Owed.NOTHING),)


def settlement(world: World, held: TaskStatus | None = None) -> Settlement:
    """`held`: what compute has of the pair."""
    world.compute.answers["status"] = [held] * 9
    made = Settlement(world.steps, world.compute, world.look, world._now, world.clock)
    world.steps.tell(made.changed)
    return made


async def ended(world: World, state: State, owed: Owed) -> Task:
    task = await world.taken()
    if state is State.PAID:
        done = result(task)
        await world.journal.apply(
            Move(task.id, State.ACCEPTED, State.COMPUTED, result=done, ends_as=State.PAID),
            signature(task),
            Move(task.id, State.SUBMITTING, State.PAID, owed=owed),
        )
    else:
        await world.journal.apply(Move(task.id, State.ACCEPTED, state, "CancelledByRequester", owed=owed))
    return await world.task()


async def owes_nothing(world: World) -> None:
    async def settled() -> bool:
        return await world.journal.owing() == []

    await until(settled)


async def test_a_paid_result_is_dropped_at_compute(world: World) -> None:
    task = await ended(world, State.PAID, Owed.PAID)
    world.compute.answers["acknowledge"] = [None]
    async with running(settlement(world).run()):
        await owes_nothing(world)
    assert world.compute.calls("acknowledge") == [[task.key, 1000, task.requester, True]]


async def test_objects_of_a_pair_that_was_paid_before_stay_when_a_later_attempt_of_it_ends_unpaid(
    world: World,
) -> None:
    task = await ended(world, State.CANCELLED, Owed.UNPAID)
    await world.journal.apply(Complete(task.pair_hash))
    world.shows(None)
    world.compute.answers["acknowledge"] = [None]
    async with running(settlement(world).run()):
        await owes_nothing(world)
    assert world.compute.calls("acknowledge") == [[task.key, 1000, task.requester, True]]


async def test_what_is_not_final_yet_is_not_asked_for_again_at_each_other_change(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement_module, "AGAIN_S", 1e6)
    await ended(world, State.CANCELLED, Owed.UNPAID)
    world.shows(OURS)
    made = settlement(world)
    async with running(made.run()):
        await until_asked(world)
        for _ in range(50):
            made.changed()
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
    assert world.rpc.asked["get_account finalized"] == 1


async def until_asked(world: World) -> None:
    async def asked() -> bool:
        return world.rpc.asked["get_account finalized"] > 0

    await until(asked)


async def test_a_cancelled_task_is_stopped_by_force_and_forgotten_once_its_end_is_final(world: World) -> None:
    task = await ended(world, State.CANCELLED, Owed.STOP)
    world.shows(None)
    world.compute.answers["stop"] = [Stopped()]
    world.compute.answers["acknowledge"] = [None]
    async with running(settlement(world).run()):
        await owes_nothing(world)
    assert world.compute.calls("stop") == [[task.key, 1000, True]]
    assert world.compute.calls("acknowledge") == [[task.key, 1000, task.requester, False]]
    assert world.rpc.asked["get_account finalized"] == 1


async def test_what_it_created_is_kept_until_the_end_is_final(world: World) -> None:
    await ended(world, State.CANCELLED, Owed.STOP)
    world.compute.answers["stop"] = [Finished(result(await world.task()))]
    async with running(settlement(world).run()):
        await until(lambda: world.rpc.asked["get_account finalized"] > 0)
    assert world.compute.calls("acknowledge") == []
    assert (await world.task()).owed is Owed.UNPAID


async def test_what_another_signature_was_paid_for_is_booked_as_paid_and_its_outputs_kept(world: World) -> None:
    await ended(world, State.MISSED, Owed.UNPAID)
    world.shows(OURS.but(state=3))
    world.compute.answers["acknowledge"] = [None]
    async with running(settlement(world).run()):
        await owes_nothing(world)
    task = await world.task()
    assert (task.state, task.reason) == (State.PAID, PAID_ELSEWHERE)
    assert world.compute.calls("acknowledge")[0][3] is True
    assert await world.journal.is_completed(task.pair_hash)


async def test_outputs_are_not_deleted_while_a_signature_for_them_may_have_been_paid(world: World) -> None:
    task = await world.taken(State.COMPUTED)
    await world.journal.apply(
        signature(task),
        Supersede(task.id),
        Move(task.id, State.SUBMITTING, State.CANCELLED, "Reassigned", owed=Owed.UNPAID),
    )
    world.shows(OURS.but(attempt=1500))
    made = settlement(world)
    await made._settle(await world.task())
    assert not world.compute.calls("acknowledge")
    (row,) = await world.journal.watched()
    await world.journal.apply(Observe(row.id, OutboxStatus.SIGNED, OutboxStatus.EXPIRED))
    world.compute.answers["acknowledge"] = [None]
    await made._settle(await world.task())
    assert world.compute.calls("acknowledge") == [[task.key, 1000, task.requester, False]]


@pytest.mark.parametrize(
    ("attempt", "requester", "named"),
    [(900, OURS.requester, 900), (1100, OURS.requester, 1000), (0, OPERATOR, 1000)],
    ids=["renumbered while compute was away", "a later task's", "an operator's own"],
)
async def test_compute_is_told_of_the_number_that_it_knows(
    world: World, attempt: int, requester: object, named: int
) -> None:
    task = await ended(world, State.CANCELLED, Owed.STOP)
    world.shows(None)
    world.compute.answers["stop"] = [Stopped()]
    world.compute.answers["acknowledge"] = [None]
    async with running(settlement(world, held(task, attempt, Requester(str(requester)))).run()):
        await owes_nothing(world)
    assert world.compute.calls("stop") == [[task.key, named, True]]
    assert world.compute.calls("acknowledge") == [[task.key, named, task.requester, False]]


async def test_a_lower_attempt_that_goes_on_after_a_fork_keeps_its_result(world: World) -> None:
    lower = await world.taken(State.COMPUTED, OURS.but(attempt=900))
    task = await ended(world, State.CANCELLED, Owed.STOP)
    world.shows(None)
    world.compute.answers["stop"] = [Stopped()]
    world.compute.answers["acknowledge"] = [None]
    async with running(settlement(world, held(lower, 900, lower.requester)).run()):
        await owes_nothing(world)
    assert world.compute.calls("stop") == [[task.key, 1000, True]]
    assert world.compute.calls("acknowledge") == [[task.key, 1000, task.requester, False]]


def held(of: Task, attempt: int, requester: Requester) -> TaskStatus:
    return TaskStatus(
        execution_id=of.execution_id,
        task_id=of.task_id,
        attempt=Attempt(attempt),
        requester=requester,
        stage=Stage.RUNNING,
    )


@pytest.mark.parametrize("answer", [ComputeUnavailable("away"), ComputeConflict("storing", {}), Storing()])
async def test_what_compute_did_not_settle_stays_owed(world: World, answer: object) -> None:
    task = await ended(world, State.CANCELLED, Owed.STOP)
    world.compute.answers["stop"] = [answer]
    await settlement(world)._settle(task)
    assert (await world.task()).owed is Owed.STOP


def summary(of: Task, stage: Stage = Stage.RUNNING, **changed: object) -> TaskSummary:
    values = {
        "execution_id": of.execution_id,
        "task_id": of.task_id,
        "attempt": of.attempt,
        "requester": of.requester,
        "stage": stage,
    }
    return TaskSummary(**(values | changed))


async def stopped_of(world: World, *summaries: TaskSummary) -> list[str]:
    world.compute.answers["tasks"] = [list(summaries)]
    world.compute.answers["stop"] = [Stopped()] * len(summaries)
    await reconcile(world.compute, world.journal)
    calls = world.compute.calls("stop")
    assert all(force for _, _, force in calls)
    return [key.task_id for key, _, _ in calls]


async def test_what_compute_runs_and_no_open_task_holds_is_stopped_by_force(world: World) -> None:
    task = await world.taken(State.COMPUTING)
    stranger = Requester("4Nd1mYQzvgV8Vr3Z3nYb7pD6T8K2jqB2eqwY3xgWqV5Q")
    assert await stopped_of(
        world,
        summary(task),
        summary(task, task_id=TaskId("lost-1")),
        summary(
            task, Stage.STORING, execution_id=ExecutionId("lost"), task_id=TaskId("lost-2"), attempt=Attempt(7)
        ),
        summary(task, requester=stranger),
        summary(task, task_id=TaskId("local"), requester=OPERATOR),
        summary(task, Stage.DONE, task_id=TaskId("done")),
        summary(task, Stage.FAILED, task_id=TaskId("failed")),
    ) == ["lost-1", "lost-2", task.task_id]


async def test_what_has_ended_in_the_journal_does_not_run_on_at_compute(world: World) -> None:
    task = await ended(world, State.CANCELLED, Owed.NOTHING)
    assert await stopped_of(world, summary(task)) == [task.task_id]


async def test_a_task_that_goes_on_under_another_number_is_left_alone(world: World) -> None:
    task = await world.taken(State.COMPUTING)
    assert Slot(task.verified_slot) and await stopped_of(world, summary(task, attempt=Attempt(900))) == []
