"""What each instruction does: bytes, events, attempts, the limits that it takes."""

import struct
from dataclasses import replace

import pytest
from solders.account import Account

from tests.program.chain import FEE, NOW, SLOT, WALLET
from tests.program.instructions import (
    ASSIGNED,
    CANCELLED,
    COMPLETED,
    FAILED,
    HEAD_LENGTH,
    SYSTEM_PROGRAM,
    Assignment,
    Head,
    discriminator,
    string,
    strings,
)
from tests.program.world import MAX_DEADLINE_S, NOTICE_S, SITUATIONS, World


@pytest.fixture
def world() -> World:
    return World()


def pair_bytes(assignment: Assignment) -> bytes:
    return string(assignment.execution_id) + string(assignment.task_id)


def test_an_assignment_creates_the_account_of_the_protocol_page(world: World) -> None:
    world.assign()
    terms = world.assignment
    assert world.account.owner == world.chain.program_id
    assert world.account.data[HEAD_LENGTH:] == terms.strings()
    assert world.head == Head(
        discriminator=discriminator("account", "Execution"),
        layout=1,
        state=ASSIGNED,
        bump=world.pair.bump,
        expected_output_count=terms.expected_output_count,
        zero=bytes(4),
        assigned_node=world.node.pubkey(),
        requester=world.requester.pubkey(),
        reward=terms.reward,
        deadline=terms.deadline,
        refund_at=0,
        attempt=SLOT,
        compute_units=terms.compute_units,
    )


def test_an_assignment_puts_exactly_rent_and_reward_into_the_account(world: World) -> None:
    world.assign()
    needed = world.chain.rent(len(world.account.data)) + world.assignment.reward
    assert world.account.lamports == needed
    assert world.held()["requester"] == WALLET - needed - FEE


@pytest.mark.parametrize(
    "terms",
    [
        {"reward": 2**53 - 1},
        {"reward": 0},
        {"compute_units": 2**53 - 1},
        {"compute_units": 0},
        {"deadline": NOW + 1},
        {"deadline": NOW + MAX_DEADLINE_S},
        {"expected_output_count": 255},
        {"execution_id": "e" * 64, "task_id": "_" * 64, "model_id": "-" * 64},
        {"execution_id": "0", "task_id": "t", "model_id": "M"},
        {"input_uris": ("s3://b/k",) * 8},
        {"input_uris": ("s3://bucket/" + "k" * 388,)},
        {"input_uris": ("file:///" + "p" * 390 + "#*",)},
    ],
    ids=lambda terms: ", ".join(terms),
)
def test_an_assignment_at_a_limit_is_taken_as_it_is(world: World, terms: dict) -> None:
    world.chain.svm.set_account(world.requester.pubkey(), Account(2**54, b"", SYSTEM_PROGRAM))
    assignment = replace(world.assignment, **terms)
    world.pair = replace(world.pair, execution_id=assignment.execution_id, task_id=assignment.task_id)
    world.chain.accepted(world.pair.assign_task(assignment), world.requester)
    assert world.account.data[HEAD_LENGTH:] == assignment.strings()
    head = world.head
    assert (head.reward, head.compute_units, head.deadline, head.expected_output_count) == (
        assignment.reward,
        assignment.compute_units,
        assignment.deadline,
        assignment.expected_output_count,
    )


def test_the_largest_assignment_fits(world: World) -> None:
    uri = "s3://" + "b" * 60 + "/" + "k" * 334
    world.assign(model_id="m" * 64, input_uris=(uri,) * 8, expected_output_count=255, reward=2**30)
    assert len(world.account.data) == HEAD_LENGTH + len(
        replace(world.assignment, model_id="m" * 64, input_uris=(uri,) * 8).strings()
    )


def test_task_assigned_has_exactly_the_eight_fields(world: World) -> None:
    outcome = world.chain.accepted(world.pair.assign_task(world.assignment), world.requester)
    terms = world.assignment
    assert outcome.events == [
        discriminator("event", "TaskAssigned")
        + terms.strings()
        + struct.pack("<BqQ", terms.expected_output_count, terms.deadline, terms.compute_units)
        + bytes(world.node.pubkey())
    ]


def test_completion_pays_exactly_the_reward_and_tells_of_it(world: World) -> None:
    world.assign(expected_output_count=2)
    before = world.held()
    uris = ("s3://bucket/a.safetensors", "file:///b.safetensors#0")
    outcome = world.chain.accepted(world.pair.task_completed(SLOT, uris, 77), world.node)
    after = world.held()
    assert after["node"] == before["node"] + world.assignment.reward - FEE
    assert after["execution"] == before["execution"] - world.assignment.reward
    assert (after["requester"], after["stranger"]) == (before["requester"], before["stranger"])
    assert world.head.state == COMPLETED
    assert outcome.events == [
        discriminator("event", "TaskCompleted")
        + pair_bytes(world.assignment)
        + strings(uris)
        + struct.pack("<Q", 77)
        + bytes(world.node.pubkey())
    ]


def test_one_uri_for_all_tensors_stands_for_any_count(world: World) -> None:
    world.assign(expected_output_count=200)
    world.chain.accepted(world.pair.task_completed(SLOT, ("s3://bucket/a.safetensors#*",)), world.node)


def test_eight_outputs_may_be_named_one_by_one(world: World) -> None:
    world.assign(expected_output_count=8)
    uris = tuple(f"s3://bucket/{number}.safetensors" for number in range(8))
    world.chain.accepted(world.pair.task_completed(SLOT, uris, 2**64 - 1), world.node)


def test_completion_within_the_notice_is_paid(world: World) -> None:
    world.assign()
    world.cancel()
    world.chain.pass_time(NOTICE_S - 1)
    before = world.held()["node"]
    world.complete()
    assert world.held()["node"] == before + world.assignment.reward - FEE


def test_failure_frees_the_task_and_tells_why(world: World) -> None:
    world.assign()
    message = "é" * 128
    outcome = world.chain.accepted(world.pair.task_failed(SLOT, message), world.node)
    assert world.head.state == FAILED
    assert outcome.events == [
        discriminator("event", "TaskFailed")
        + pair_bytes(world.assignment)
        + bytes(world.node.pubkey())
        + string(message)
    ]


def test_cancellation_begins_a_notice_and_moves_no_lamports(world: World) -> None:
    world.assign()
    before = world.held()
    outcome = world.chain.accepted(world.pair.cancel_execution(), world.requester)
    assert (world.head.state, world.head.refund_at) == (CANCELLED, NOW + NOTICE_S)
    assert world.held() == {**before, "requester": before["requester"] - FEE}
    assert outcome.events == [
        discriminator("event", "ExecutionCancelled")
        + pair_bytes(world.assignment)
        + bytes(world.node.pubkey())
        + struct.pack("<q", NOW + NOTICE_S)
    ]


@pytest.mark.parametrize("uri_count", [1, 4, 8])
def test_an_account_taken_again_has_exactly_the_new_length_and_nothing_of_the_old(
    world: World, uri_count: int
) -> None:
    world.assign(input_uris=("s3://bucket/" + "o" * 200,) * 4, reward=500)
    held = world.account.lamports
    world.fail()
    world.chain.pass_time(1)
    new = replace(world.assignment, input_uris=("s3://bucket/" + "n" * 200,) * uri_count, reward=900)
    world.chain.accepted(world.pair.assign_task(new), world.requester)
    assert world.account.data[HEAD_LENGTH:] == new.strings()
    needed = world.chain.rent(len(world.account.data)) + new.reward
    assert world.account.lamports == max(needed, held)
    assert (world.head.state, world.head.refund_at, world.head.attempt) == (ASSIGNED, 0, world.chain.slot)


def test_an_account_taken_again_after_a_cancellation_may_go_to_another_node(world: World) -> None:
    world.assign()
    world.cancel()
    world.chain.pass_time(NOTICE_S)
    other = replace(world.pair, node=world.stranger.pubkey())
    again = replace(world.assignment, deadline=world.chain.now + 50)
    world.chain.accepted(other.assign_task(again), world.requester)
    assert world.head.assigned_node == world.stranger.pubkey()
    world.chain.refused("WrongNode", world.pair.task_completed(world.chain.slot), world.node)
    world.chain.accepted(other.task_completed(world.chain.slot), world.stranger)


@pytest.mark.parametrize("closed", [False, True], ids=["taken again", "closed and assigned anew"])
@pytest.mark.parametrize("situation", ["past the grace", "notice over", "failed"])
def test_an_attempt_that_is_over_can_neither_be_completed_nor_failed(
    world: World, situation: str, closed: bool
) -> None:
    """The same node, the same content: only the attempt tells one assignment from the next."""
    SITUATIONS[situation](world)
    old = world.head.attempt
    if closed:
        world.reclaim()
    again = replace(world.assignment, deadline=world.chain.now + 600)
    world.chain.accepted(world.pair.assign_task(again), world.requester)
    assert world.head.attempt > old
    world.chain.refused("WrongAttempt", world.pair.task_completed(old), world.node)
    world.chain.refused("WrongAttempt", world.pair.task_failed(old), world.node)
    world.complete()
    world.chain.refused("AlreadyCompleted", world.pair.task_completed(world.head.attempt), world.node)
