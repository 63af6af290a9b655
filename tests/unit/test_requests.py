"""Commands ask through the journal's file, and the listener answers: with the real journal, opened twice."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener.intake_gate import IntakeGate
from listener.journal.beside import JournalBeside
from listener.journal.journal import Journal
from listener.journal.states import IntakeState, Owed, RequestName, RequestState, State
from listener.requests import Requests
from shared.clock import SystemClock
from tests.tries import one_within
from tests.unit.journal_rows import NOW, signature
from tests.unit.listener_world import World, running, until


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield World(journal)
    journal.close()


async def ask(world: World, name: RequestName, argument: str = "") -> int:
    with JournalBeside(world.journal.path) as beside:
        return await beside.ask(name, argument, NOW)


async def made(world: World) -> tuple[Requests, IntakeGate]:
    gate = IntakeGate(world.steps)
    await gate.load()
    return Requests(world.steps, gate, SystemClock()), gate


async def test_a_request_is_answered_within_a_second(world: World) -> None:
    task = await world.taken(State.COMPUTING)
    requests, _ = await made(world)
    async with running(requests.run()):
        await asyncio.sleep(0.1)  # it waits by now
        number = await ask(world, RequestName.SKIP, str(task.key))
        await world.reaches(State.COMPUTED)
        for took in one_within(1, tries=5):
            took.append(await answered_in_s(world))
    answered = await world.journal.request(number)
    assert (answered.state, answered.answer) == (
        RequestState.DONE,
        "it is stopped, and handed back by task_failed",
    )
    skipped = await world.task()
    assert (skipped.ends_as, skipped.reason, skipped.owed) == (State.HANDED_BACK, "skipped", Owed.STOP)


async def answered_in_s(world: World) -> float:
    begun = time.monotonic()
    number = await ask(world, RequestName.RESUME)

    async def is_answered() -> bool:
        return (await world.journal.request(number)).state is not RequestState.ASKED

    await until(is_answered)
    return time.monotonic() - begun


async def test_an_idle_listener_reads_no_row_for_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    requests, _ = await made(world)
    reads = 0

    async def counted() -> list[object]:
        nonlocal reads
        reads += 1
        return []

    monkeypatch.setattr(world.journal, "requests_asked", counted)
    async with running(requests.run()):
        await until(lambda: reads == 1)
        await world.taken()
        await asyncio.sleep(1.2)
        assert reads == 1, "the listener's own writes are no news to it"
        await ask(world, RequestName.RESUME)
        await until(lambda: reads == 2)


async def test_what_was_asked_while_the_listener_was_down_is_answered_in_its_order(world: World) -> None:
    numbers = [await ask(world, name) for name in (RequestName.DRAIN, RequestName.RESUME, RequestName.DRAIN)]
    requests, gate = await made(world)
    await requests.answer()
    assert [(await world.journal.request(number)).state for number in numbers] == [RequestState.DONE] * 3
    assert gate.state is IntakeState.DRAINING
    assert await world.journal.requests_asked() == []


async def test_what_cannot_be_done_is_refused_with_why(world: World) -> None:
    task = await world.taken(State.COMPUTED)
    await world.journal.apply(signature(task))
    asked = {
        await ask(world, RequestName.SKIP, str(task.key)): "cannot be taken back",
        await ask(world, RequestName.SKIP, "no-such-execution/task"): "holds no task",
        await ask(world, RequestName.SKIP, "../../etc/passwd"): "is not an id",
        await ask(world, RequestName.RESUME): "open already",
    }
    requests, _ = await made(world)
    await requests.answer()
    for number, why in asked.items():
        answered = await world.journal.request(number)
        assert answered.state is RequestState.REFUSED and why in (answered.answer or ""), answered
    assert (await world.task()).state is State.SUBMITTING


async def test_a_task_that_moves_on_meanwhile_is_ruled_on_once_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await world.taken(State.COMPUTED)
    read = world.journal.tasks_of

    async def then_signed(key: object) -> object:
        rows = await read(key)  # type: ignore[arg-type]
        monkeypatch.undo()
        await world.journal.apply(signature(task))
        return rows

    monkeypatch.setattr(world.journal, "tasks_of", then_signed)
    number = await ask(world, RequestName.SKIP, str(task.key))
    requests, _ = await made(world)
    await requests.answer()
    assert (await world.journal.request(number)).state is RequestState.REFUSED
    assert (await world.task()).state is State.SUBMITTING


async def test_a_completion_is_not_signed_for_what_was_skipped_a_moment_before(world: World) -> None:
    task = await world.taken(State.COMPUTED)
    await ask(world, RequestName.SKIP, str(task.key))
    requests, _ = await made(world)
    await requests.answer()
    with pytest.raises(Exception, match="not as this change expects it"):
        await world.journal.apply(signature(task))
    assert (await world.task()).state is State.COMPUTED


async def test_the_intake_stays_as_it_was_turned_across_a_restart(world: World) -> None:
    _, gate = await made(world)
    assert await gate.turn(IntakeState.OPEN, IntakeState.DRAINING)
    assert not await gate.turn(IntakeState.OPEN, IntakeState.DRAINED), "it was turned before"
    _, later = await made(world)
    assert later.state is IntakeState.DRAINING
    assert await later.turn(IntakeState.DRAINING, IntakeState.OPEN)
    _, last = await made(world)
    assert last.state is IntakeState.OPEN and await world.journal.conditions() == {}


async def test_each_state_of_the_intake_has_its_life_until_it_is_turned(world: World) -> None:
    _, gate = await made(world)
    lived: list[str] = []

    async def life() -> None:
        lived.append(gate.state)
        try:
            await asyncio.Event().wait()
        finally:
            lived.append("over")

    async def short_life() -> None:
        lived.append(gate.state)

    lives = {IntakeState.OPEN: life, IntakeState.DRAINING: short_life, IntakeState.DRAINED: life}
    async with running(gate.live(lives)):
        await until(lambda: lived == ["open"])
        await gate.turn(IntakeState.OPEN, IntakeState.DRAINING)
        await until(lambda: lived == ["open", "over", "draining"])
        await gate.turn(IntakeState.DRAINING, IntakeState.DRAINED)
        await until(lambda: lived[3:] == ["drained"])
    assert lived[-1] == "over"


async def test_a_skipped_task_that_is_cancelling_is_over_at_once(world: World) -> None:
    task = await world.taken(State.CANCELLING)
    await ask(world, RequestName.SKIP, str(task.key))
    requests, _ = await made(world)
    await requests.answer()
    ended = await world.task()
    assert (ended.state, ended.reason, ended.owed) == (State.CANCELLED, "skipped", Owed.STOP)
