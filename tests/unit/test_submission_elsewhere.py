"""What is signed for programs whose IDL names no attempt, or describes no account."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from solders.signature import Signature
from solders.transaction import Transaction

from listener.chain.answers import TransactionError
from listener.chain.idl import Program
from listener.decisions import failure
from listener.journal.changes import Insert, Move, Observe, Renumber
from listener.journal.journal import Journal
from listener.journal.records import Task
from listener.journal.states import OutboxStatus, State, SubmissionKind
from listener.submission import AGAIN_S, Submission
from shared.errors import RpcRefused
from shared.ids import Attempt, Slot
from tests.unit.chain_bytes import PROGRAM_ID, program
from tests.unit.journal_rows import NOW, result, signature
from tests.unit.listener_world import ACCOUNT, OURS, World
from tests.unit.mentions_bytes import logs
from tests.unit.other_idls import without_account, without_attempt
from tests.unit.other_transactions import ASSIGN, CANCEL, CANCELLED, REQUESTER, History
from tests.unit.signing_world import signer_of
from tests.unit.test_submission import TERMS

NAMELESS = program(without_attempt())
UNDESCRIBED = program(without_account())
FIRST = str(Signature(bytes([1] * 64)))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal.sqlite")
    yield made
    made.close()


async def submit(world: World, task: Task, of: Program) -> float:
    signer = signer_of(world, of, is_reference_program=False, compute_unit_limit=60_000)
    made = Submission(world.agreement, of, signer, world.observer, world.chain_clock, world.steps, TERMS)
    return await made.submit(task)


async def signed(world: World, task: Task) -> int:
    return len([row for row in await world.journal.signatures_of(task.id) if row.signature != FIRST])


async def computed(world: World) -> Task:
    """A result of what the transactions assign."""
    History(world.rpc).add(1000, ASSIGN)
    view = await world.look.at(ACCOUNT, Slot(1000), "confirmed", is_new=True)
    assert view.sighting is not None
    await world.journal.apply(Insert(view.sighting.assignment, State.ACCEPTED))
    task = await world.task()
    done = result(task)
    await world.journal.apply(Move(task.id, State.ACCEPTED, State.COMPUTED, result=done, ends_as=State.PAID))
    return await world.task()


async def test_a_program_that_asks_for_no_attempt_is_given_none(journal: Journal) -> None:
    world = World(journal, NAMELESS)
    task = await world.taken(State.COMPUTED)
    assert await submit(world, task, NAMELESS) == 0.0
    (row,) = await journal.signatures_of(task.id)
    data = bytes(Transaction.from_bytes(await journal.raw(row.id)).message.instructions[-1].data)
    decoded = NAMELESS.decode_instruction(data)
    assert decoded is not None and "attempt" not in decoded[1]


async def test_within_a_notice_nothing_is_signed_that_names_no_attempt(journal: Journal) -> None:
    world = World(journal, NAMELESS)
    task = await world.taken(State.COMPUTED)
    world.shows(OURS.but(state=1, refund_at=NOW + 30))
    assert await submit(world, task, NAMELESS) == AGAIN_S
    assert await signed(world, task) == 0
    world.shows(OURS)
    assert await submit(world, task, NAMELESS) == 0.0
    assert await signed(world, task) == 1


@pytest.mark.parametrize("kind", [SubmissionKind.COMPLETED, SubmissionKind.FAILED])
async def test_for_a_new_attempt_nothing_is_signed_before_every_older_signature_has_expired(
    journal: Journal, kind: SubmissionKind
) -> None:
    world = World(journal, NAMELESS)
    task = await world.taken(State.COMPUTED)
    if kind is SubmissionKind.FAILED:
        told = failure(task, "it cannot be computed")
        await journal.apply(Move(task.id, State.COMPUTED, State.COMPUTED, result=told, ends_as=State.FAILED))
    await journal.apply(dataclasses.replace(signature(task, FIRST), kind=kind))
    await journal.apply(Renumber(task.id, State.SUBMITTING, State.COMPUTED, Attempt(1500), Slot(1501)))
    world.shows(OURS.but(attempt=1500))
    task = await journal.task(task.id)
    (row,) = await journal.signatures_of(task.id)
    assert await submit(world, task, NAMELESS) == AGAIN_S
    await journal.apply(Observe(row.id, OutboxStatus.SIGNED, OutboxStatus.ERRED, Slot(1400), "no"))
    assert await submit(world, task, NAMELESS) == AGAIN_S
    assert await signed(world, task) == 0
    await journal.apply(Observe(row.id, OutboxStatus.ERRED, OutboxStatus.SIGNED))
    await journal.apply(Observe(row.id, OutboxStatus.SIGNED, OutboxStatus.EXPIRED))
    assert await submit(world, task, NAMELESS) == 0.0
    assert await signed(world, task) == 1


async def test_a_completion_is_simulated_unsigned_before_it_is_signed(journal: Journal) -> None:
    world = World(journal, UNDESCRIBED)
    task = await computed(world)
    assert await submit(world, task, UNDESCRIBED) == 0.0
    (row,) = await journal.signatures_of(task.id)
    (simulated,) = world.rpc.simulated
    made, tried = Transaction.from_bytes(await journal.raw(row.id)), Transaction.from_bytes(simulated)
    assert tried.message.instructions[-1] == made.message.instructions[-1]
    assert tried.message.recent_blockhash == made.message.recent_blockhash
    assert PROGRAM_ID in tried.message.account_keys
    assert tried.signatures == [Signature.default()]
    assert str(REQUESTER.pubkey()) == task.requester


async def test_a_completion_that_the_program_would_refuse_is_not_signed_and_ends_as_a_failure(
    journal: Journal,
) -> None:
    world = World(journal, UNDESCRIBED)
    task = await computed(world)
    world.rpc.simulation_err = TransactionError("custom error 6014", 1, 6014)
    assert await submit(world, task, UNDESCRIBED) == 0.0
    assert await signed(world, task) == 0
    told = await world.task()
    assert (told.state, told.ends_as, told.reason) == (State.COMPUTED, State.FAILED, "InvalidOutputUri")
    assert told.submission is SubmissionKind.FAILED
    await submit(world, told, UNDESCRIBED)  # what says so is not simulated
    (row,) = await journal.signatures_of(task.id)
    assert row.kind is SubmissionKind.FAILED and len(world.rpc.simulated) == 1


@pytest.mark.parametrize(
    "err",
    [TransactionError("BlockhashNotFound"), TransactionError("custom error 6046", 1, 6046)],
    ids=["of the runtime", "explained by the account"],
)
async def test_after_a_simulation_that_may_go_otherwise_later_the_result_waits(
    journal: Journal, err: TransactionError
) -> None:
    world = World(journal, UNDESCRIBED)
    task = await computed(world)
    world.rpc.simulation_err = err
    assert await submit(world, task, UNDESCRIBED) == AGAIN_S
    assert await world.task() == task
    world.rpc.simulation_err = None
    assert await submit(world, task, UNDESCRIBED) == 0.0
    assert await signed(world, task) == 1


async def test_where_the_endpoint_does_not_simulate_nothing_is_signed(journal: Journal) -> None:
    world = World(journal, UNDESCRIBED)
    task = await computed(world)
    world.rpc.faults["simulate_transaction"] = [RpcRefused("not served here", -32601)]
    with pytest.raises(RpcRefused):
        await submit(world, task, UNDESCRIBED)
    assert await world.task() == task and await signed(world, task) == 0


@pytest.mark.parametrize("lines", [CANCELLED, logs()], ids=["with a notice that is over", "at once"])
async def test_what_a_transaction_has_cancelled_is_not_signed_for(
    journal: Journal, lines: tuple[str, ...]
) -> None:
    world = World(journal, UNDESCRIBED)
    task = await computed(world)
    History(world.rpc).add(1500, CANCEL, lines=lines)
    world.rpc.time = NOW + 20.0
    await submit(world, task, UNDESCRIBED)
    assert await signed(world, task) == 0
    assert (await world.task()).state is State.CANCELLED


async def test_a_described_account_is_not_simulated(journal: Journal) -> None:
    world = World(journal, NAMELESS)
    await submit(world, await world.taken(State.COMPUTED), NAMELESS)
    assert world.rpc.simulated == [] and world.rpc.asked["get_account confirmed"] == 1
