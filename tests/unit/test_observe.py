from collections.abc import Iterator
from pathlib import Path

import pytest

from listener.journal.journal import Journal
from listener.journal.records import EventRow
from listener.journal.states import State
from shared.ids import Slot
from tests.unit.listener_world import ACCOUNT, OURS, World

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
