import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.signature import Signature

from listener.allowance import Allowance
from listener.chain.answers import InnerInstruction, TransactionRead
from listener.chain.events import EMIT_CPI_TAG, FIRST_CPI_INDEX
from listener.chain.feed import Notification
from listener.chain.idl import Program
from listener.journal.changes import Complete
from listener.journal.journal import Journal
from listener.journal.states import State
from listener.mentions import TRIES, Mentions, OtherWays
from shared.errors import RpcInvalid, RpcRefused, RpcUnavailable
from shared.ids import Slot
from tests.program.instructions import EXECUTION_ID, TASK_ID
from tests.unit.chain_bytes import changed, program
from tests.unit.journal_rows import NOW, assignment, inserted
from tests.unit.listener_world import ACCOUNT, NODE, OURS, PROGRAM, FixedClock, World
from tests.unit.mentions_bytes import (
    FAILED,
    FIRST,
    SECOND,
    SLOT,
    assigned_event,
    cancelled_event,
    cancelled_execution_event,
    logs,
    notification,
    result_of,
    row,
    transaction,
)
from tests.unit.other_idls import without_rule
from tests.unit.other_transactions import ASSIGN, CANCEL, History

STRANGER = Pubkey([8] * 32)
ASSIGNED = logs(assigned_event())
TRUNCATED = (*ASSIGNED[:2], "Log truncated")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield World(journal)
    journal.close()


def mentions(world: World, of: Program = PROGRAM, per_minute: int = 1_000) -> Mentions:
    world.list_soon = asyncio.Event()
    world.can_list = True
    world.own = set()
    ways = OtherWays(world.list_soon.set, lambda: world.can_list, lambda signature: signature in world.own)
    allowance = Allowance(per_minute, FixedClock())
    return Mentions(
        world.endpoints,
        of,
        NODE,
        world.journal,
        world.looks,
        allowance,
        ways,
        world.clock,
        random.Random(1),
    )


async def hear(one: Mentions, told: Notification) -> bool:
    """As the feed tells it. Whether it was more than remembered."""
    passed = one.sift(result_of(told))
    if passed is not None:
        await one.on_notification(passed)
    return passed is not None


def reads(world: World) -> int:
    return int(world.rpc.asked["get_account confirmed"])


async def events(world: World) -> list[tuple[str, int, str]]:
    rows = await world.journal._rows("SELECT name, event_index, account FROM events")
    return [tuple(found) for found in rows]


async def test_an_event_of_an_assignment_leads_to_its_account_and_is_written_with_its_task(world: World) -> None:
    await hear(mentions(world), notification(ASSIGNED))
    task = await world.task()
    assert (task.state, task.attempt, task.reward) == (State.ACCEPTED, 1000, 1_000_000)
    assert await events(world) == [("TaskAssigned", 0, ACCOUNT)]


@pytest.mark.parametrize(
    "told",
    [
        notification(logs(assigned_event(node=STRANGER))),
        notification(logs(cancelled_event(node=STRANGER))),
        notification(ASSIGNED, err=FAILED),
        notification(logs(assigned_event(), program_id=STRANGER)),
        notification(logs()),
        notification(logs(assigned_event()[:-1])),
        notification(logs(b"\0" * 8)),
        notification((ASSIGNED[0], f"Program log: {ASSIGNED[1]}", ASSIGNED[2])),
    ],
    ids=[
        "for another node",
        "a cancellation for another node",
        "of a failed transaction",
        "of another program",
        "none at all",
        "cut short",
        "unknown",
        "printed only",
    ],
)
async def test_what_is_no_event_for_this_node_has_nothing_read(world: World, told: object) -> None:
    await hear(mentions(world), told)
    assert reads(world) == 0 and await events(world) == []
    assert await world.journal.latest(ACCOUNT) is None


async def test_the_same_event_again_has_nothing_read_again(world: World) -> None:
    one = mentions(world)
    for _ in range(2):
        await hear(one, notification(ASSIGNED))
    assert reads(world) == 1
    await hear(mentions(world), notification(ASSIGNED))  # after a restart
    assert reads(world) == 1


async def test_the_same_event_in_another_slot_is_looked_at_again(world: World) -> None:
    one = mentions(world)
    await hear(one, notification(ASSIGNED))
    await hear(one, notification(ASSIGNED, slot=Slot(1_001)))
    assert reads(world) == 2


async def test_the_same_event_twice_at_once_makes_one_task(world: World) -> None:
    one = mentions(world)
    await asyncio.gather(*(hear(one, notification(ASSIGNED)) for _ in range(5)))
    assert (await world.journal.counts()) == {State.ACCEPTED: 1}


async def test_an_account_is_not_believed_at_a_slot_before_the_event(world: World) -> None:
    await hear(mentions(world), notification(ASSIGNED, slot=Slot(world.rpc.slot + 1)))
    assert await world.journal.latest(ACCOUNT) is None and await events(world) == []


@pytest.mark.parametrize(
    "lines",
    [TRUNCATED, (*TRUNCATED, "Program log: short"), ASSIGNED[:2], ASSIGNED[1:], (*ASSIGNED, ASSIGNED[2])],
    ids=["at the end", "with a shorter line after it", "not closed", "not opened", "closed twice"],
)
async def test_a_log_with_a_gap_counts_for_nothing_and_the_account_of_the_instruction_is_read(
    world: World, lines: tuple[str, ...]
) -> None:
    added = History(world.rpc).add(SLOT, ASSIGN, lines=lines)
    one = mentions(world)
    await hear(one, notification(lines, added.signature))
    assert (await world.task()).state is State.ACCEPTED and await events(world) == []
    await one.on_listed(added)
    assert world.rpc.asked["get_transaction"] == 1 and not world.list_soon.is_set()


async def test_a_listed_transaction_whose_log_has_a_gap_leads_to_its_account_too(world: World) -> None:
    added = History(world.rpc).add(SLOT, ASSIGN, lines=TRUNCATED)
    await mentions(world).on_listed(added)
    assert (await world.task()).state is State.ACCEPTED


async def test_one_that_another_program_called_is_found_by_its_inner_instruction(world: World) -> None:
    added = History(world.rpc).add_inner(SLOT, ASSIGN)
    await mentions(world).on_listed(added)
    assert (await world.task()).state is State.ACCEPTED


async def test_an_assignment_to_another_node_behind_a_gap_is_not_read(world: World) -> None:
    other = Instruction(
        PROGRAM.program_id,
        bytes(ASSIGN.data),
        [AccountMeta(STRANGER, False, False) if meta.pubkey == NODE else meta for meta in ASSIGN.accounts],
    )
    added = History(world.rpc).add(SLOT, other, lines=TRUNCATED)
    await mentions(world).on_listed(added)
    assert reads(world) == 0


async def test_a_cancellation_behind_a_gap_is_looked_at(world: World) -> None:
    await world.taken(State.COMPUTING)
    world.shows(OURS.but(state=1, refund_at=NOW + 30))
    added = History(world.rpc).add(SLOT, CANCEL, lines=TRUNCATED)
    await mentions(world).on_listed(added)
    assert (await world.task()).state is State.CANCELLING


async def test_where_no_instruction_can_be_told_behind_a_gap_the_accounts_are_listed(world: World) -> None:
    one = mentions(world)
    world.rpc.transactions[FIRST] = transaction(TRUNCATED)
    await hear(one, notification(TRUNCATED))
    assert world.list_soon.is_set() and reads(world) == 0


async def test_a_transaction_with_a_gap_that_is_not_there_is_left_to_the_lists(world: World) -> None:
    one = mentions(world)
    await hear(one, notification(TRUNCATED))
    assert world.list_soon.is_set() and world.rpc.asked["get_transaction"] == TRIES


async def test_a_provider_that_keeps_no_logs_has_the_accounts_of_the_instructions_read(world: World) -> None:
    added = History(world.rpc).add(SLOT, ASSIGN, lines=())
    await hear(mentions(world), notification((), added.signature))
    assert (await world.task()).state is State.ACCEPTED


# What strangers can have read.


async def test_what_is_foreign_is_neither_parsed_nor_read_when_it_is_listed(world: World) -> None:
    one = mentions(world)
    assert not await hear(one, notification(logs(assigned_event(node=STRANGER))))
    await one.on_listed(row())
    assert world.rpc.asked["get_transaction"] == 0


async def test_our_own_transactions_wake_the_lander_and_are_not_read(world: World) -> None:
    one = mentions(world)
    world.own.add(str(FIRST))
    assert not await hear(one, notification(ASSIGNED))
    await one.on_listed(row())
    assert reads(world) == world.rpc.asked["get_transaction"] == 0


async def test_more_empty_mentions_than_are_read_in_a_minute_are_left_to_the_listing(world: World) -> None:
    one = mentions(world, per_minute=3)
    for number in range(10):
        signature = Signature(bytes([number] * 64))
        world.rpc.transactions[signature] = transaction(logs())
        await one.on_listed(row(signature))
    assert world.rpc.asked["get_transaction"] == 3 and world.list_soon.is_set()


async def test_where_nothing_can_be_listed_each_mention_is_waited_for(world: World) -> None:
    one = mentions(world, per_minute=3)
    world.can_list = False
    for number in range(10):
        signature = Signature(bytes([number] * 64))
        world.rpc.transactions[signature] = transaction(logs())
        await one.on_listed(row(signature))
    assert world.rpc.asked["get_transaction"] == 10


async def test_what_tells_of_work_costs_nothing_of_what_strangers_may_use_up(world: World) -> None:
    one = mentions(world, per_minute=1)
    for number in range(3):
        signature = Signature(bytes([number] * 64))
        world.rpc.transactions[signature] = transaction(ASSIGNED)
        await one.on_listed(row(signature))
    assert world.rpc.asked["get_transaction"] == 3 and not world.list_soon.is_set()


@pytest.mark.parametrize(
    "result",
    [
        None,
        {},
        {"context": {"slot": 1}, "value": []},
        {"context": {"slot": 1}, "value": {"signature": 7, "err": None, "logs": []}},
        {"context": {"slot": 1}, "value": {"signature": "1" * 5_000, "err": None, "logs": []}},
        {"context": {"slot": 1}, "value": {"signature": "short", "err": None, "logs": []}},
        {"context": {"slot": 1}, "value": {"signature": str(FIRST), "logs": []}},
        {"context": {"slot": 1}, "value": {"signature": str(FIRST), "err": None, "logs": "text"}},
        {"context": {"slot": 1}, "value": {"signature": str(FIRST), "err": None, "logs": [1]}},
        {"context": {"slot": -1}, "value": {"signature": str(FIRST), "err": {}, "logs": []}},
    ],
)
async def test_what_is_no_notification_is_invalid(world: World, result: object) -> None:
    with pytest.raises(RpcInvalid):
        mentions(world).sift(result)


async def test_a_listed_transaction_is_read_once(world: World) -> None:
    world.rpc.transactions[FIRST] = transaction(ASSIGNED)
    one = mentions(world)
    for _ in range(2):
        await one.on_listed(row())
    assert (await world.task()).state is State.ACCEPTED
    assert world.rpc.asked["get_transaction"] == 1


async def test_what_was_notified_is_not_read_again_when_it_is_listed(world: World) -> None:
    one = mentions(world)
    await hear(one, notification(ASSIGNED))
    await one.on_listed(row())
    assert world.rpc.asked["get_transaction"] == 0


async def test_a_listed_transaction_that_failed_is_not_even_read(world: World) -> None:
    await mentions(world).on_listed(row(err=FAILED))
    assert world.rpc.asked["get_transaction"] == 0
    world.rpc.transactions[FIRST] = transaction(ASSIGNED, err=FAILED)
    await mentions(world).on_listed(row())
    assert reads(world) == 0


CALLS_ITSELF = (
    *logs()[:1],
    f"Program {PROGRAM.program_id} invoke [2]",
    f"Program {PROGRAM.program_id} success",
    *logs()[1:],
)


async def test_an_event_that_the_program_wrote_by_calling_itself_counts(world: World) -> None:
    call = InnerInstruction(2, (1,), EMIT_CPI_TAG + assigned_event(), 2)
    world.rpc.transactions[FIRST] = transaction(CALLS_ITSELF, inner={0: (call,)})
    await mentions(world).on_listed(row())
    assert await events(world) == [("TaskAssigned", FIRST_CPI_INDEX, ACCOUNT)]


async def test_where_the_program_calls_itself_its_events_are_read_from_the_transaction_at_once(
    world: World,
) -> None:
    call = InnerInstruction(2, (1,), EMIT_CPI_TAG + assigned_event(), 2)
    world.rpc.transactions[FIRST] = transaction(CALLS_ITSELF, inner={0: (call,)})
    assert await hear(mentions(world), notification(CALLS_ITSELF))
    assert await events(world) == [("TaskAssigned", FIRST_CPI_INDEX, ACCOUNT)]


@pytest.mark.parametrize("error", [RpcInvalid("not a transaction"), RpcRefused("version 7", -32015)])
async def test_a_transaction_that_cannot_be_read_is_passed_over_and_left_to_the_listing(
    world: World, error: Exception
) -> None:
    world.rpc.faults["get_transaction"] = [error]
    one = mentions(world)
    await one.on_listed(row())
    assert world.list_soon.is_set()
    await one.on_listed(row())
    assert world.rpc.asked["get_transaction"] == 1


async def test_an_endpoint_that_does_not_answer_keeps_the_cursor_where_it_is(world: World) -> None:
    world.rpc.faults["get_transaction"] = [RpcUnavailable("reset")]
    world.rpc.transactions[FIRST] = transaction(ASSIGNED)
    one = mentions(world)
    with pytest.raises(RpcUnavailable):
        await one.on_listed(row())
    await one.on_listed(row())
    assert (await world.task()).state is State.ACCEPTED


async def test_a_transaction_that_is_listed_but_not_there_is_asked_for_again_but_not_for_ever(
    world: World,
) -> None:
    one = mentions(world)
    for _ in range(TRIES - 1):
        with pytest.raises(RpcUnavailable):
            await one.on_listed(row())
        assert not world.list_soon.is_set()
    await one.on_listed(row())
    assert world.list_soon.is_set() and one._failed == {}


async def test_an_account_that_cannot_be_read_keeps_the_cursor_where_it_is(world: World) -> None:
    world.rpc.transactions[FIRST] = transaction(ASSIGNED)
    world.rpc.faults["get_account confirmed"] = [RpcUnavailable("reset")] * 8
    one = mentions(world)
    with pytest.raises(RpcUnavailable):
        await one.on_listed(row())
    await one.on_listed(row())
    assert (await world.task()).state is State.ACCEPTED


async def test_a_cancellation_counts_only_where_the_account_shows_it(world: World) -> None:
    await world.taken(State.COMPUTING)
    one = mentions(world)
    await hear(one, notification(logs(cancelled_event()), SECOND))
    assert (await world.task()).state is State.COMPUTING
    world.shows(OURS.but(state=1, refund_at=NOW + 30))
    await hear(one, notification(logs(cancelled_event()), SECOND, Slot(SLOT + 1)))
    assert (await world.task()).state is State.CANCELLING


async def test_a_cancellation_without_a_task_means_every_task_of_that_execution(world: World) -> None:
    whole = changed("types", "ExecutionCancelled", "type", "fields", "task_id")
    whole = changed("types", "ExecutionCancelled", "type", "fields", "refund_at", document=whole)
    await world.taken(State.COMPUTING)
    await inserted(world.journal, assignment(2))  # of another execution
    world.shows(OURS.but(state=1, refund_at=NOW + 30))
    one = mentions(world, program(whole))
    await hear(one, notification(logs(cancelled_execution_event())))
    assert (await world.task()).state is State.CANCELLING
    assert (await world.task()).execution_id == EXECUTION_ID
    assert await events(world) == [("ExecutionCancelled", 0, ACCOUNT)]


async def test_an_assignment_whose_account_is_gone_is_recorded_as_missed_and_not_read_again(world: World) -> None:
    world.shows(None)
    await hear(mentions(world), notification(ASSIGNED))
    (passed,) = await world.journal._rows("SELECT * FROM passed_over")
    assert (passed["account"], passed["attempt"]) == (ACCOUNT, 1000) and passed["reason"].startswith("missed")


async def test_a_later_assignment_of_an_ended_pair_that_is_gone_is_recorded_as_missed_too(world: World) -> None:
    await world.taken(State.MISSED)
    world.shows(None)
    await hear(mentions(world), notification(ASSIGNED, SECOND, Slot(1_500)))
    (passed,) = await world.journal._rows("SELECT * FROM passed_over")
    assert (passed["account"], passed["attempt"]) == (ACCOUNT, 1_500) and passed["reason"].startswith("missed")


async def test_a_pair_that_was_completed_is_never_taken_again(world: World) -> None:
    await world.journal.apply(Complete((await world.taken(State.MISSED)).pair_hash))
    world.shows(OURS.but(attempt=1_500))
    await hear(mentions(world), notification(ASSIGNED, SECOND, Slot(1_500)))
    assert (await world.task()).attempt == 1_000
    assert await world.journal.knows(ACCOUNT, 1_500)


async def test_a_new_account_that_does_not_hold_its_rent_is_not_taken(world: World) -> None:
    size = len(bytes(OURS))
    short = OURS.account(lamports=size + OURS.reward - 1)
    world.rpc.accounts = dict.fromkeys(world.rpc.accounts, short)
    await hear(mentions(world), notification(ASSIGNED))
    assert await world.journal.latest(ACCOUNT) is None


UNNAMED = program(without_rule())
"""Accounts are described, but only the instruction says where one lies."""


def called(world: World, task_id: str = TASK_ID) -> TransactionRead:
    """The transaction of an assignment, as the endpoint gives it."""
    event = logs(assigned_event(task_id=task_id))
    added = History(world.rpc).add(SLOT, ASSIGN, lines=event)
    found = world.rpc.transactions[added.signature]
    assert found is not None
    world.rpc.transactions = {FIRST: found}
    world.rpc.rows = [row()]
    return found


async def test_where_no_rule_gives_the_address_it_is_the_one_that_the_instruction_names(world: World) -> None:
    called(world)
    await hear(mentions(world, UNNAMED), notification(ASSIGNED))
    assert (await world.task()).state is State.ACCEPTED
    assert await events(world) == [("TaskAssigned", 0, ACCOUNT)]


async def test_the_same_account_is_found_by_a_list(world: World) -> None:
    called(world)
    await mentions(world, UNNAMED).on_listed(row())
    assert (await world.task()).state is State.ACCEPTED


async def test_a_notified_transaction_that_is_not_there_yet_is_asked_for_again(world: World) -> None:
    called(world)
    world.rpc.faults["get_transaction"] = [RpcUnavailable("no answer"), RpcInvalid("half an answer")]
    await hear(mentions(world, UNNAMED), notification(ASSIGNED))
    assert (await world.task()).state is State.ACCEPTED and world.rpc.asked["get_transaction"] == 3


async def test_a_notified_transaction_that_stays_away_is_left_to_the_lists(world: World) -> None:
    found = called(world)
    world.rpc.transactions = {}
    told = mentions(world, UNNAMED)
    await hear(told, notification(ASSIGNED))
    assert await world.journal.latest(ACCOUNT) is None and world.rpc.asked["get_transaction"] == TRIES
    world.rpc.transactions[FIRST] = found
    await told.on_listed(row())
    assert (await world.task()).state is State.ACCEPTED


async def test_an_instruction_for_another_pair_than_the_events_leads_nowhere(world: World) -> None:
    called(world, task_id="another")
    await mentions(world, UNNAMED).on_listed(row())
    assert reads(world) == 0 and await events(world) == []


async def test_where_a_rule_gives_the_address_a_notification_is_enough(world: World) -> None:
    await hear(mentions(world), notification(ASSIGNED))
    assert world.rpc.asked["get_transaction"] == 0 and reads(world) == 1
