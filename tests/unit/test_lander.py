from collections.abc import Iterator
from pathlib import Path

import pytest
from solders.signature import Signature

import listener.chain.lander as chain_lander
from listener.chain.agreement import Agreement
from listener.chain.answers import Status, TransactionError
from listener.chain.lander import Lander
from listener.chain.tip import Tip
from listener.chain.when_to_ask import Pace
from listener.journal.changes import Supersede
from listener.journal.journal import Journal
from listener.journal.records import Outbox, Task
from listener.journal.states import OutboxStatus, State
from shared.errors import RpcRateLimited, RpcUnavailable
from shared.ids import Slot
from tests.unit.journal_rows import computed, signature
from tests.unit.listener_world import PROGRAM, ScriptedRpc, World, endpoints_of, running, until

LAST_VALID = 500
FIRST, SECOND = str(Signature(bytes([1] * 64))), str(Signature(bytes([2] * 64)))
NOTICE_OVER = next(code for code in range(6000, 6100) if PROGRAM.error_name(code) == "NoticeOver")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield World(journal)
    journal.close()


QUICK = Pace(resend_interval_s=10.0, status_interval_s=0.002)


def lander(world: World, pace: Pace = QUICK) -> Lander:
    made = Lander(world.endpoints, world.agreement, PROGRAM, world.steps, pace, Tip(world.clock), world.clock)
    world.steps.tell(made.changed)
    return made


async def signed(world: World, number: int = 1, text: str = FIRST) -> Task:
    """A task of which a signature is stored."""
    task = await computed(world.journal, number)
    await world.journal.apply(signature(task, text, LAST_VALID))
    return await world.journal.task(task.id)


async def row_of(world: World, task: Task) -> Outbox:
    return (await world.journal.signatures_of(task.id))[-1]


async def becomes(world: World, task: Task, status: OutboxStatus) -> None:
    async def has_become() -> bool:
        return (await row_of(world, task)).status is status

    await until(has_become)


async def state_of(world: World, task: Task) -> State:
    return (await world.journal.task(task.id)).state


async def test_the_same_bytes_are_sent_until_they_land(world: World) -> None:
    task = await signed(world)
    raw = await world.journal.raw((await row_of(world, task)).id)
    async with running(lander(world).run()):
        await until(lambda: len(world.rpc.sent) >= 4)
        world.rpc.statuses[FIRST] = Status(Slot(7), None, "confirmed")
        await becomes(world, task, OutboxStatus.CONFIRMED)
        sent = len(world.rpc.sent)
        world.rpc.statuses[FIRST] = Status(Slot(7), None, "finalized")
        await becomes(world, task, OutboxStatus.FINALIZED)
    assert set(world.rpc.sent) == {raw}
    assert len(world.rpc.sent) == sent
    assert await state_of(world, task) is State.PAID
    assert await world.journal.is_completed(task.pair_hash)
    assert len(await world.journal.signatures_of(task.id)) == 1


async def test_the_status_of_a_notified_signature_is_asked_at_once_and_others_are_none_of_ours(
    world: World,
) -> None:
    made = lander(world, Pace(resend_interval_s=10.0, status_interval_s=60_000.0))
    task = await signed(world)
    async with running(made.run()):
        await until(lambda: made.notices(FIRST))
        asked = world.rpc.asked["get_signature_statuses"]
        assert not made.notices(SECOND)
        world.rpc.statuses[FIRST] = Status(Slot(7), None, "confirmed")
        assert made.notices(FIRST)
        await becomes(world, task, OutboxStatus.CONFIRMED)
        assert world.rpc.asked["get_signature_statuses"] <= asked + 2


async def test_a_signature_whose_answer_was_lost_is_looked_up_and_not_signed_anew(world: World) -> None:
    world.rpc.faults["send_transaction"] = [RpcUnavailable("the connection was reset")]
    task = await signed(world)
    world.rpc.statuses[FIRST] = Status(Slot(7), None, "finalized")
    async with running(lander(world).run()):
        await becomes(world, task, OutboxStatus.FINALIZED)
    assert len(world.rpc.sent) == 1
    assert await state_of(world, task) is State.PAID


async def test_an_endpoint_that_does_not_answer_ends_nothing(world: World) -> None:
    for method in ("get_signature_statuses", "get_signature_statuses in history", "get_epoch_info"):
        world.rpc.faults[method] = [RpcRateLimited("429"), RpcUnavailable("no answer"), RpcUnavailable("again")]
    world.rpc.height = LAST_VALID + 1
    task = await signed(world)
    async with running(lander(world).run()):
        await becomes(world, task, OutboxStatus.EXPIRED)
    assert not any(world.rpc.faults.values())


async def test_only_above_its_last_valid_height_a_signature_expires(world: World) -> None:
    world.rpc.height = LAST_VALID
    task = await signed(world)
    async with running(lander(world).run()):
        await until(lambda: world.rpc.asked["get_epoch_info"] >= 5)
        assert (await row_of(world, task)).status is OutboxStatus.SIGNED
        assert world.rpc.asked["get_signature_statuses in history"] == 0
        world.rpc.height = LAST_VALID + 1
        await becomes(world, task, OutboxStatus.EXPIRED)
    assert await state_of(world, task) is State.COMPUTED


async def test_what_only_the_history_knows_has_landed_and_not_expired(world: World) -> None:
    world.rpc.height = LAST_VALID + 1
    world.rpc.history[FIRST] = Status(Slot(7), None, "finalized")
    task = await signed(world)
    async with running(lander(world).run()):
        await becomes(world, task, OutboxStatus.FINALIZED)
    assert await state_of(world, task) is State.PAID
    assert world.rpc.statuses == {}


async def test_an_answer_from_before_the_height_is_no_proof_of_expiry(world: World) -> None:
    world.rpc.height = LAST_VALID + 1
    world.rpc.status_slot = world.rpc.slot - 1
    task = await signed(world)
    async with running(lander(world).run()):
        await until(lambda: world.rpc.asked["get_signature_statuses in history"] >= 3)
        assert (await row_of(world, task)).status is OutboxStatus.SIGNED
        world.rpc.status_slot = world.rpc.slot
        await becomes(world, task, OutboxStatus.EXPIRED)


async def test_what_is_only_processed_has_neither_landed_nor_expired(world: World) -> None:
    world.rpc.height = LAST_VALID + 1
    world.rpc.statuses[FIRST] = Status(Slot(7), None, "processed")
    task = await signed(world)
    async with running(lander(world).run()):
        await until(lambda: world.rpc.asked["get_signature_statuses"] >= 20)
    assert (await row_of(world, task)).status is OutboxStatus.SIGNED


async def test_an_error_is_named_by_the_program_and_acted_on_when_it_is_finalized(world: World) -> None:
    error = TransactionError("instruction 1 failed with a custom error", 1, NOTICE_OVER)
    world.rpc.statuses[FIRST] = Status(Slot(7), error, "confirmed")
    task = await signed(world)
    async with running(lander(world).run()):
        await becomes(world, task, OutboxStatus.ERRED)
        assert await state_of(world, task) is State.SUBMITTING
        world.rpc.statuses[FIRST] = Status(Slot(7), error, "finalized")
        await becomes(world, task, OutboxStatus.REJECTED)
    assert (await row_of(world, task)).error == "NoticeOver"
    assert await state_of(world, task) is State.COMPUTED


async def test_what_a_fork_took_back_is_sent_again_as_it_was(world: World) -> None:
    task = await signed(world)
    world.rpc.statuses[FIRST] = Status(Slot(7), None, "confirmed")
    async with running(lander(world).run()):
        await becomes(world, task, OutboxStatus.CONFIRMED)
        sent = len(world.rpc.sent)
        del world.rpc.statuses[FIRST]
        await until(lambda: len(world.rpc.sent) >= sent + 2)
        assert await state_of(world, task) is State.SUBMITTING
        world.rpc.statuses[FIRST] = Status(Slot(9), None, "finalized")
        await becomes(world, task, OutboxStatus.FINALIZED)
    assert len(set(world.rpc.sent)) == 1
    assert await state_of(world, task) is State.PAID


async def test_all_signatures_in_flight_are_asked_for_in_one_call(world: World) -> None:
    first, second = await signed(world, 1, FIRST), await signed(world, 2, SECOND)
    async with running(lander(world).run()):
        await until(lambda: len(set(world.rpc.sent)) == 2)
        world.rpc.statuses[FIRST] = Status(Slot(7), None, "confirmed")
        await becomes(world, first, OutboxStatus.CONFIRMED)
        assert (await row_of(world, second)).status is OutboxStatus.SIGNED
    assert world.rpc.together[0] == 2


async def test_a_superseded_signature_is_watched_to_its_end_and_not_sent(world: World) -> None:
    task = await signed(world)
    await world.journal.apply(Supersede(task.id))
    async with running(lander(world).run()):
        await until(lambda: world.rpc.asked["get_signature_statuses"] >= 5)
        assert (await row_of(world, task)).status is OutboxStatus.SIGNED
        world.rpc.height = LAST_VALID + 1
        await becomes(world, task, OutboxStatus.EXPIRED)
    assert world.rpc.sent == []


async def test_after_a_restart_the_stored_bytes_are_sent_on(world: World) -> None:
    task = await signed(world)
    for _ in range(2):
        async with running(lander(world).run()):
            await until(lambda: len(world.rpc.sent) >= 2)
    raw = await world.journal.raw((await row_of(world, task)).id)
    assert set(world.rpc.sent) == {raw}


async def test_a_signature_that_is_new_is_sent_at_once(world: World) -> None:
    made = lander(world)
    async with running(made.run()):
        task = await computed(world.journal, 1)
        await until(lambda: not made._wake.is_set())
        await world.steps.journal.apply(signature(task, FIRST, LAST_VALID))
        made.changed(task.id)
        await until(lambda: world.rpc.sent != [])


def two_endpoints(world: World) -> ScriptedRpc:
    """A second endpoint beside the world's own; each may say something else."""
    other = ScriptedRpc()
    world.endpoints = endpoints_of(world.rpc, other)
    world.agreement = Agreement(world.endpoints, world.clock)
    return other


@pytest.mark.parametrize("error", [None, TransactionError("instruction 1 failed", 1, NOTICE_OVER)])
async def test_an_end_that_only_one_endpoint_shows_is_none(world: World, error: TransactionError | None) -> None:
    other = two_endpoints(world)
    world.rpc.statuses[FIRST] = world.rpc.history[FIRST] = Status(Slot(7), error, "finalized")
    task = await signed(world)
    async with running(lander(world).run()):
        await until(lambda: other.asked["get_signature_statuses in history"] >= 5)
        assert (await row_of(world, task)).status is OutboxStatus.SIGNED
        assert await state_of(world, task) is State.SUBMITTING
        other.history[FIRST] = Status(Slot(7), error, "finalized")
        ended = OutboxStatus.FINALIZED if error is None else OutboxStatus.REJECTED
        await becomes(world, task, ended)


async def test_nothing_expires_while_one_endpoint_knows_it_or_is_below_its_height(world: World) -> None:
    other = two_endpoints(world)
    world.rpc.height = LAST_VALID + 1
    other.height = LAST_VALID
    task = await signed(world)
    async with running(lander(world).run()):
        await until(lambda: other.asked["get_signature_statuses in history"] >= 5)
        assert (await row_of(world, task)).status is OutboxStatus.SIGNED
        other.height = LAST_VALID + 1
        await becomes(world, task, OutboxStatus.EXPIRED)


async def test_the_ends_of_many_signatures_are_asked_of_two_endpoints_in_one_call_each(world: World) -> None:
    other = two_endpoints(world)
    tasks = [await signed(world, number, str(Signature(bytes([number] * 64)))) for number in range(1, 21)]
    for rpc in (world.rpc, other):
        for task in tasks:
            rpc.statuses[(await row_of(world, task)).signature] = Status(Slot(7), None, "finalized")
    async with running(lander(world).run()):
        for task in tasks:
            await becomes(world, task, OutboxStatus.FINALIZED)
    assert other.together == [len(tasks)]
    assert world.rpc.together == [len(tasks), len(tasks)]


async def test_what_one_endpoint_calls_final_before_the_other_is_no_dispute(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain_lander, "LAG_S", 10_000.0)
    other = two_endpoints(world)
    world.rpc.statuses[FIRST] = Status(Slot(7), None, "finalized")
    other.statuses[FIRST] = Status(Slot(7), None, "confirmed")
    task = await signed(world)
    async with running(lander(world).run()):
        await becomes(world, task, OutboxStatus.CONFIRMED)
        asked = other.asked.total()
        await until(lambda: other.asked.total() >= asked + 3)
        assert (await row_of(world, task)).status is OutboxStatus.CONFIRMED
        other.statuses[FIRST] = Status(Slot(7), None, "finalized")
        await becomes(world, task, OutboxStatus.FINALIZED)
    assert not any(record.message == "disputed" for record in caplog.records)


async def test_what_one_endpoint_never_calls_final_is_disputed_after_a_while(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    other = two_endpoints(world)
    world.rpc.statuses[FIRST] = Status(Slot(7), None, "finalized")
    other.statuses[FIRST] = Status(Slot(7), None, "confirmed")
    task = await signed(world)
    async with running(lander(world).run()):
        await until(lambda: any(record.message == "disputed" for record in caplog.records))
    assert (await row_of(world, task)).status is OutboxStatus.CONFIRMED


async def test_of_many_that_may_have_expired_those_that_endpoints_dispute_hold_up_no_other(world: World) -> None:
    other = two_endpoints(world)
    first, second = await signed(world, 1, FIRST), await signed(world, 2, SECOND)
    world.rpc.height = other.height = LAST_VALID + 1
    other.history[FIRST] = Status(Slot(7), None, "finalized")
    async with running(lander(world).run()):
        await becomes(world, second, OutboxStatus.EXPIRED)
    assert (await row_of(world, first)).status is OutboxStatus.SIGNED


async def test_a_signature_that_endpoints_dispute_holds_up_no_other(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    other = two_endpoints(world)
    for rpc in (world.rpc, other):
        rpc.statuses[SECOND] = rpc.history[SECOND] = Status(Slot(7), None, "finalized")
    world.rpc.statuses[FIRST] = Status(Slot(7), None, "finalized")
    first, second = await signed(world, 1, FIRST), await signed(world, 2, SECOND)
    async with running(lander(world).run()):
        await becomes(world, second, OutboxStatus.FINALIZED)
        await until(lambda: any(record.message == "disputed" for record in caplog.records))
    assert await state_of(world, first) is State.SUBMITTING
