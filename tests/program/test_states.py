"""Every instruction in every state and at every border of time."""

import pytest

from tests.program.world import INSTRUCTIONS, SITUATIONS, World, with_account

# Columns as in INSTRUCTIONS: assign_task, cancel_execution, task_completed, task_failed, reclaim. None: accepted.
_GONE = "WrongOwner"
EXPECTED: dict[str, tuple[str | None, ...]] = {
    "never assigned": (None, _GONE, _GONE, _GONE, _GONE),
    "assigned": ("StillAssigned", None, None, None, "StillAssigned"),
    "at the deadline": ("StillAssigned", None, None, None, "StillAssigned"),
    "past the deadline": ("StillAssigned", None, "DeadlinePassed", None, "StillAssigned"),
    "at the end of the grace": ("StillAssigned", None, "DeadlinePassed", None, "StillAssigned"),
    "past the grace": (None, None, "DeadlinePassed", None, None),
    "in notice": ("NoticeRunning", "AlreadyCancelled", None, None, "NoticeRunning"),
    "notice over": (None, "AlreadyCancelled", "NoticeOver", "NoticeOver", None),
    "in notice past the deadline": ("NoticeRunning", "AlreadyCancelled", "DeadlinePassed", None, "NoticeRunning"),
    "failed": (None, "AlreadyFailed", "AlreadyFailed", "AlreadyFailed", None),
    "completed": ("AlreadyCompleted", "AlreadyCompleted", "AlreadyCompleted", "AlreadyCompleted", None),
    "closed": (None, _GONE, _GONE, _GONE, _GONE),
}
CELLS = [
    (situation, instruction, expected)
    for situation, row in EXPECTED.items()
    for instruction, expected in zip(INSTRUCTIONS, row, strict=True)
]


@pytest.mark.parametrize(("situation", "instruction", "expected"), CELLS)
def test_each_instruction_in_each_situation(situation: str, instruction: str, expected: str | None) -> None:
    world = World()
    SITUATIONS[situation](world)
    before = world.held()
    outcome = world.chain.send(world.instruction(instruction), world.signer(instruction))
    assert outcome.error == expected, outcome
    if expected is not None:
        fee = 5_000
        assert sum(world.held().values()) == sum(before.values()) - fee
        assert world.held()["execution"] == before["execution"]


OTHERS = {"task_completed": "requester", "task_failed": "requester"}
"""Who takes part without being the one who may send it; for the rest that is the node."""
ALIVE = [situation for situation, row in EXPECTED.items() if row[1] != _GONE]


@pytest.mark.parametrize("situation", ALIVE)
@pytest.mark.parametrize("instruction", INSTRUCTIONS)
@pytest.mark.parametrize("who", ["stranger", "the other one"])
def test_nobody_but_its_rightful_sender_may_in_any_situation(situation: str, instruction: str, who: str) -> None:
    """The wrong one signs in the rightful one's place; where both are named, they change places."""
    world = World()
    SITUATIONS[situation](world)
    rightful = world.signer(instruction)
    other = world.stranger if who == "stranger" else getattr(world, OTHERS.get(instruction, "node"))
    sent = world.instruction(instruction)
    named = [meta.pubkey for meta in sent.accounts]
    if other.pubkey() in named:
        sent = with_account(sent, named.index(other.pubkey()), pubkey=rightful.pubkey())
    error = "WrongNode" if instruction in OTHERS else "WrongRequester"
    before = world.held()["execution"], bytes(world.account.data)
    world.chain.refused(error, with_account(sent, 1, pubkey=other.pubkey()), other)
    assert (world.held()["execution"], bytes(world.account.data)) == before


@pytest.mark.parametrize("situation", ["in notice", "assigned"])
@pytest.mark.parametrize("instruction", ["task_completed", "task_failed"])
@pytest.mark.parametrize("difference", [-1, 1])
def test_another_attempt_than_the_accounts_is_refused(situation: str, instruction: str, difference: int) -> None:
    world = World()
    SITUATIONS[situation](world)
    attempt = world.head.attempt + difference
    build = getattr(world.pair, instruction)
    world.chain.refused("WrongAttempt", build(attempt), world.node)


@pytest.mark.parametrize("instruction", ["assign_task", "reclaim"])
def test_an_account_is_neither_taken_again_nor_closed_in_the_slot_of_its_attempt(instruction: str) -> None:
    world = World()
    world.assign()
    world.fail()
    world.chain.refused("SameSlot", world.instruction(instruction), world.requester)
    world.chain.set_clock(world.chain.now, world.chain.slot + 1)
    world.chain.accepted(world.instruction(instruction), world.requester)


def test_after_closing_the_next_attempt_is_higher_even_in_the_same_slot() -> None:
    world = World()
    world.assign()
    first = world.head.attempt
    world.fail()
    world.chain.set_clock(world.chain.now, world.chain.slot + 1)
    world.reclaim()
    world.assign()
    assert world.head.attempt > first


def test_nothing_but_reclaim_is_possible_twice_by_racing_in_one_transaction() -> None:
    """Completed and failed, or completed twice, in one transaction: all of it is refused."""
    world = World()
    world.assign()
    complete = world.pair.task_completed(world.head.attempt)
    fail = world.pair.task_failed(world.head.attempt)
    world.chain.refused("AlreadyCompleted", [complete, fail], world.node)
    world.chain.refused("AlreadyCompleted", [complete, complete], world.node)
    world.chain.refused("AlreadyFailed", [fail, complete], world.node)
    assert world.head.state == 0
