import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from solders.pubkey import Pubkey

from listener.chain.feed import Hearer, websocket
from listener.chain.idl import Program
from listener.chain.tip import Tip
from listener.intake import SETTLED_SLOTS, Intake
from listener.journal.changes import Complete, Move
from listener.journal.journal import Journal
from listener.journal.records import Cursor
from listener.journal.states import State
from listener.outside import Outside
from listener.settings import ListenerSettings
from shared.errors import RpcRefused, RpcUnavailable
from shared.ids import Slot
from tests.unit.chain_bytes import IDL, PROGRAM_ID, changed, program
from tests.unit.journal_rows import NOW
from tests.unit.listener_world import ACCOUNT, NODE, OURS, PROGRAM, World, running, until
from tests.unit.mentions_bytes import (
    FIRST,
    SECOND,
    assigned_event,
    logs,
    notification,
    result_of,
    row,
    transaction,
)
from tests.unit.other_idls import without_account
from tests.unit.other_transactions import ASSIGN, CANCEL, History

REFUSED = RpcRefused("getProgramAccounts is not served here", -32601)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield World(journal)
    journal.close()


class Feed:
    """Tells what a test tells the hearer."""

    in_use = None

    async def run(self, _mentions: Pubkey, _hearer: Hearer) -> None:
        await asyncio.get_running_loop().create_future()


def outside(world: World) -> Outside:
    http = httpx.AsyncClient()
    return Outside(http, http, websocket, world.clock, random.Random(1))


def intake(world: World, of: Program = PROGRAM, **changed: Any) -> Intake:
    settings = ListenerSettings(
        keypair=Path("key.json"),
        rpc_url="http://127.0.0.1:1",
        ws_url="ws://127.0.0.1:1",
        program_id=str(PROGRAM_ID),
        token_file=Path("token"),
        **({"list_interval_s": 3600.0, "backfill_interval_s": 3600.0} | changed),
    )
    world.own = set()
    made = Intake(
        world.endpoints,
        of,
        NODE,
        world.looks,
        world.steps,
        world.chain_clock,
        settings,
        outside(world),
        Tip(world.clock),
        lambda signature: signature in world.own,
    )
    made._feeds = Feed()  # type: ignore[assignment]
    return made


def reads(world: World) -> int:
    return len(world.rpc.read_addresses)


async def test_the_listing_takes_up_what_no_event_told_of(world: World) -> None:
    async with running(intake(world).run()):
        await until(lambda: reads(world) == 1)
        assert (await world.reaches(State.ACCEPTED)).attempt == 1000


async def test_what_the_journal_knows_is_not_read_again_at_each_listing(world: World) -> None:
    one = intake(world)
    for _ in range(3):
        await one._list()
    assert reads(world) == 1


@pytest.mark.parametrize("shown", [OURS.but(state=1, refund_at=NOW + 30), OURS.but(task_id="elsewhere")])
async def test_an_account_that_is_none_to_take_is_read_once(world: World, shown: Any) -> None:
    world.shows(shown)
    one = intake(world)
    for _ in range(3):
        await one._list()
    assert reads(world) == 1


async def test_a_completed_pair_that_is_assigned_again_is_read_once_and_not_taken(world: World) -> None:
    await world.journal.apply(Complete((await world.taken(State.MISSED)).pair_hash))
    world.shows(OURS.but(attempt=1_500))
    one = intake(world)
    for _ in range(3):
        await one._list()
    assert reads(world) == 1 and (await world.task()).attempt == 1_000


async def test_a_cancellation_that_no_event_told_of_is_found_by_the_listing(world: World) -> None:
    await world.taken(State.COMPUTING)
    world.shows(OURS.but(state=1, refund_at=NOW + 30))
    one = intake(world)
    for _ in range(2):
        await one._list()
    assert (await world.task()).state is State.CANCELLING and reads(world) == 1


@pytest.mark.parametrize("shown", [None, OURS.but(state=2)])
async def test_a_task_of_ours_that_the_live_list_does_not_show_is_read_by_itself(world: World, shown: Any) -> None:
    await world.taken(State.COMPUTING)
    world.shows(shown)
    await intake(world)._list()
    assert (await world.task()).state is State.CANCELLED


async def test_a_higher_attempt_is_found_by_the_listing(world: World) -> None:
    task = await world.taken(State.COMPUTING)
    world.shows(OURS.but(attempt=1_500))
    await intake(world)._list()
    assert (await world.journal.task(task.id)).attempt == 1_500


async def test_what_a_fork_took_back_is_found_by_the_listing(world: World) -> None:
    await world.taken(State.CANCELLING)
    world.shows(OURS)
    await intake(world)._list()
    assert (await world.task()).state is State.ACCEPTED


async def test_a_refused_listing_is_said_once_and_signature_lists_take_over(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.rpc.faults["get_program_accounts"] = [REFUSED] * 1000
    world.rpc.rows = [row()]
    world.rpc.transactions[FIRST] = transaction(logs(assigned_event()))
    one = intake(world, list_interval_s=0.01)
    async with running(one.run()):
        await world.reaches(State.ACCEPTED)
        await until(lambda: world.rpc.asked["get_program_accounts"] >= 3)
        assert one.is_listing_refused
        world.rpc.faults["get_program_accounts"].clear()
        await until(lambda: not one.is_listing_refused)
    assert len([record for record in caplog.records if "accounts are not listed" in record.message]) == 1


async def test_a_program_whose_accounts_cannot_be_filtered_is_followed_by_its_signatures(world: World) -> None:
    document = changed("types", "Execution", "type", "fields", to=_ids_first())
    world.rpc.rows = [row()]
    world.rpc.transactions[FIRST] = transaction(logs())
    one = intake(world, program(document))
    async with running(one.run()):
        await until(lambda: world.rpc.asked["get_transaction"] == 1)
    assert one.is_listing_refused and world.rpc.asked["get_program_accounts"] == 0


def _ids_first() -> list[Any]:
    """The account's fields with its strings in front, so that nothing behind them has a fixed place."""
    listed = next(one for one in IDL["types"] if one["name"] == "Execution")
    return sorted(listed["type"]["fields"], key=lambda field: field["type"] != "string")


async def test_at_the_first_start_the_cursor_is_set_where_the_list_was_read_and_nothing_older_is(
    world: World,
) -> None:
    world.rpc.finalized_rows = world.rpc.rows = [row(SECOND, Slot(900))]
    listed: list[Cursor | None] = []
    one = intake(world)
    take = world.looks.take

    async def noted(*told: Any, **options: Any) -> bool:
        listed.append(await world.journal.cursor())
        return await take(*told, **options)

    world.looks.take = noted  # type: ignore[method-assign]
    async with running(one.run()):
        await until(lambda: world.rpc.asked["get_signatures_for_address confirmed"] >= 1)
    assert listed == [None]
    assert await world.journal.cursor() == Cursor(str(SECOND), Slot(900))
    assert world.rpc.asked["get_transaction"] == 0


async def test_the_cursor_moves_to_a_finalized_signature_after_the_list_was_read(world: World) -> None:
    await world.journal.apply(Cursor(str(SECOND), Slot(900)))
    world.rpc.rows = [row(FIRST, Slot(1_000)), row(SECOND, Slot(900))]
    world.rpc.finalized_rows = [row(SECOND, Slot(900))]
    world.rpc.transactions[FIRST] = transaction(logs(assigned_event()))
    one = intake(world)
    await one._backfill()
    assert (await world.task()).state is State.ACCEPTED
    assert await world.journal.cursor() == Cursor(str(SECOND), Slot(900))  # FIRST is only confirmed
    world.rpc.finalized_rows = world.rpc.rows
    await one._backfill()
    assert await world.journal.cursor() == Cursor(str(FIRST), Slot(1_000))
    assert world.rpc.asked["get_transaction"] == 1


async def test_the_cursor_stays_where_it_is_while_the_list_cannot_be_read(world: World) -> None:
    world.rpc.rows = world.rpc.finalized_rows = [row()]
    world.rpc.faults["get_transaction"] = [RpcUnavailable("reset")]
    one = intake(world)
    one.listed.set()
    with pytest.raises(RpcUnavailable):
        await one._backfill()
    assert await world.journal.cursor() is None


async def test_an_endpoint_that_fails_is_asked_again_soon(world: World) -> None:
    world.rpc.faults["get_program_accounts"] = [RpcUnavailable("reset")] * 3
    world.rpc.faults["get_signatures_for_address confirmed"] = [RpcUnavailable("reset")] * 3
    async with running(intake(world).run()):
        await world.reaches(State.ACCEPTED)
        await until(lambda: world.rpc.asked["get_signatures_for_address confirmed"] >= 4)


async def test_each_new_connection_has_everything_searched_once_and_once_more_when_it_has_settled(
    world: World,
) -> None:
    one = intake(world)
    world.rpc.confirmed_slot = 100 + SETTLED_SLOTS - 1
    async with running(one.run()):
        await until(lambda: world.rpc.asked["get_signatures_for_address confirmed"] == 1)
        listed = world.rpc.asked["get_program_accounts"]
        one.on_standing(Slot(100))
        await until(lambda: world.rpc.asked["get_signatures_for_address confirmed"] == 2)
        await until(lambda: world.rpc.asked["get_program_accounts"] == listed + 2)
        await until(lambda: world.rpc.asked["get_slot"] >= 3)
        assert world.rpc.asked["get_signatures_for_address confirmed"] == 2
        world.rpc.confirmed_slot += 1
        await until(lambda: world.rpc.asked["get_signatures_for_address confirmed"] == 3)
        asked = world.rpc.asked["get_slot"]
        await asyncio.sleep(0.05)
        assert world.rpc.asked["get_signatures_for_address confirmed"] == 3
        assert world.rpc.asked["get_slot"] == asked


async def test_a_notification_is_acted_on_at_once(world: World) -> None:
    world.rpc.faults["get_program_accounts"] = [RpcUnavailable("reset")] * 100
    one = intake(world)
    async with running(one.run()):
        await asyncio.sleep(0)
        one.on_logs(result_of(notification(logs(assigned_event()))))
        await world.reaches(State.ACCEPTED)


async def test_while_halted_nothing_new_is_taken_up_and_the_lists_still_tell_of_it(world: World) -> None:
    world.rpc.faults["get_program_accounts"] = [REFUSED] * 1_000
    await world.journal.apply(Cursor(str(SECOND), Slot(900)))
    world.rpc.rows = [row(), row(SECOND, Slot(900))]
    world.rpc.transactions[FIRST] = transaction(logs(assigned_event()))
    one = intake(world)
    one._catch_up.halted = "nothing can be found"
    one.on_logs(result_of(notification(logs(assigned_event()))))
    assert await world.journal.latest(ACCOUNT) is None and one._taken_up == 0
    one.listed.set()
    await one._backfill()
    assert one.halted is None and (await world.task()).state is State.ACCEPTED


async def test_more_notifications_than_are_worked_on_at_once_are_left_to_the_lists(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("listener.intake.MAX_TAKEN_UP", 2)
    world.rpc.accounts.clear()
    taken: list[str] = []

    async def take(account: str, *_told: Any, **_options: Any) -> bool:
        taken.append(account)
        return True

    monkeypatch.setattr(world.looks, "take", take)
    one = intake(world)
    async with running(one.run()):
        await one.listed.wait()
        listed = world.rpc.asked["get_program_accounts"]
        for number in range(3):
            one.on_logs(result_of(notification(logs(assigned_event(task_id=f"t{number}")), slot=Slot(number))))
        await until(lambda: world.rpc.asked["get_program_accounts"] == listed + 2)
        await until(lambda: len(taken) >= 2)
    assert len(taken) == 2


async def test_slots_are_told_to_whoever_waits_for_one(world: World) -> None:
    one = intake(world)
    one.on_slot(Slot(100), Slot(68))
    assert (one._tip.slot, one._tip.root) == (100, 68)


async def test_the_accounts_of_other_nodes_are_not_even_read(world: World) -> None:
    world.shows(OURS.but(assigned_node=Pubkey([8] * 32)))
    await intake(world)._list()
    assert reads(world) == 0 and await world.journal.latest(ACCOUNT) is None


async def test_after_a_failure_that_landed_the_listing_finds_the_next_attempt(world: World) -> None:
    task = await world.taken(State.MISSED)
    await world.journal.apply(Move(task.id, State.MISSED, State.FAILED))
    world.shows(OURS.but(attempt=1_500))
    await intake(world)._list()
    assert (await world.reaches(State.ACCEPTED)).attempt == 1_500


async def test_where_the_idl_describes_no_account_the_signature_lists_tell_of_work_and_of_its_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = program(without_account())
    journal = Journal(tmp_path / "journal.sqlite")
    world = World(journal, other)
    history = History(world.rpc)
    history.add(1000, ASSIGN)
    made = intake(world, other, list_interval_s=0.01)
    async with running(made.run()):
        await world.reaches(State.ACCEPTED)
        assert made.listed.is_set()
        history.add(1200, CANCEL, lines=logs())  # nothing notifies it, and no event tells of it
        await world.reaches(State.CANCELLING)
    assert world.rpc.asked["get_program_accounts"] == world.rpc.asked["get_account confirmed"] == 0
    assert [line.message for line in caplog.records].count(
        "accounts are not listed; signature lists alone are followed"
    ) == 1
    journal.close()


async def test_a_listing_that_gets_no_answer_holds_up_no_signature_list(world: World) -> None:
    await world.journal.apply(Cursor(str(FIRST), Slot(1)))
    world.rpc.faults["get_program_accounts"] = [RpcUnavailable("HTTP 503")] * 1000
    made = intake(world)
    async with running(made.run()):
        await until(lambda: world.rpc.asked["get_signatures_for_address confirmed"] > 0)
        assert not made.listed.is_set()
