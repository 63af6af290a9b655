from collections.abc import Iterator
from pathlib import Path

import pytest

from listener.chain.account_reader import AccountReader
from listener.chain.agreement import Agreement
from listener.journal.changes import Change, Insert
from listener.journal.journal import Journal
from listener.journal.records import EventRow
from listener.journal.states import State
from listener.look import AccountLook
from listener.observe import Observer
from shared.errors import Disputed
from shared.ids import Slot, UnixSeconds
from tests.unit.listener_world import (
    ACCOUNT,
    ADDRESS,
    NODE,
    OURS,
    PROGRAM,
    RULES,
    ScriptedRpc,
    World,
    endpoints_of,
)

EVENT = EventRow("signature", 0, Slot(1000), "TaskAssigned", ACCOUNT)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield World(journal)
    journal.close()


async def test_while_nothing_new_is_taken_an_assignment_is_left_as_if_nothing_had_told_of_it(world: World) -> None:
    world.takes = False
    await world.observer.observe(ACCOUNT, Slot(0), (EVENT,))
    assert await world.journal.latest(ACCOUNT) is None
    assert not await world.journal.has_event(EVENT)
    world.takes = True
    await world.observer.observe(ACCOUNT, Slot(0), (EVENT,))
    assert (await world.task()).state is State.ACCEPTED


async def test_while_nothing_new_is_taken_what_is_accepted_is_followed(world: World) -> None:
    await world.observer.observe(ACCOUNT, Slot(0), (EVENT,))
    world.takes = False
    world.shows(OURS.but(state=1, refund_at=OURS.deadline))
    await world.observer.observe(ACCOUNT, Slot(0))
    assert (await world.task()).state is State.CANCELLING


async def test_an_event_is_written_in_one_transaction_with_the_task_that_it_told_of(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    transactions: list[set[type]] = []
    apply = world.journal.apply

    async def recorded(*changes: Change, at: UnixSeconds | None = None) -> None:
        transactions.append({type(change) for change in changes})
        await apply(*changes, at=at)

    monkeypatch.setattr(world.journal, "apply", recorded)
    await world.observer.observe(ACCOUNT, Slot(0), (EVENT,))
    assert [kinds for kinds in transactions if kinds & {EventRow, Insert}] == [{EventRow, Insert}]


async def test_an_assignment_that_only_one_endpoint_shows_is_not_taken(world: World) -> None:
    honest, liar = ScriptedRpc(), ScriptedRpc()
    liar.accounts[ADDRESS] = OURS.but(reward=OURS.reward * 10).account()
    honest.accounts[ADDRESS] = OURS.account()
    agreement = Agreement(endpoints_of(liar, honest), world.clock)
    look = AccountLook(agreement, PROGRAM, NODE, AccountReader())
    observer = Observer(look, RULES, world.chain_clock, world.steps, lambda: True)
    with pytest.raises(Disputed):
        await observer.observe(ACCOUNT, Slot(0), (EVENT,))
    assert await world.journal.latest(ACCOUNT) is None
    liar.accounts[ADDRESS] = OURS.account()
    await observer.observe(ACCOUNT, Slot(0), (EVENT,))
    assert (await world.task()).reward == OURS.reward
