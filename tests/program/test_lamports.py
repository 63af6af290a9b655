"""Where the lamports are: rent under both rules, refunds, gifts, and accounts that come back to life."""

import pytest
from solders.account import Account
from solders.rent import Rent
from solders.system_program import TransferParams, transfer

from tests.program.chain import FEE, SLOT, WALLET
from tests.program.instructions import ASSIGNED, HEAD_LENGTH, SYSTEM_PROGRAM
from tests.program.world import SITUATIONS, World


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("missing", [0, 1])
def test_a_requester_may_spend_its_last_lamport_and_no_more(world: World, missing: int) -> None:
    needed = world.chain.rent(HEAD_LENGTH + len(world.assignment.strings())) + world.assignment.reward
    world.chain.svm.set_account(world.requester.pubkey(), Account(needed - missing, b"", SYSTEM_PROGRAM))
    outcome = world.chain.send(world.pair.assign_task(world.assignment), world.stranger, world.requester)
    assert outcome.error == ("InsufficientFunds" if missing else None)
    assert world.held()["requester"] == (needed - missing if missing else 0)


def test_lamports_that_somebody_adds_to_a_live_account_go_to_its_requester(world: World) -> None:
    world.assign()
    gift = TransferParams(from_pubkey=world.stranger.pubkey(), to_pubkey=world.pair.address, lamports=777)
    world.chain.accepted(transfer(gift), world.stranger)
    before = world.held()
    world.complete()
    assert world.held()["node"] == before["node"] + world.assignment.reward - FEE
    world.chain.pass_time(1)
    world.reclaim()
    assert world.held()["requester"] == WALLET - 2 * FEE - world.assignment.reward + 777


def test_reclaim_gives_everything_back_and_leaves_nothing(world: World) -> None:
    world.assign()
    world.fail()
    world.chain.pass_time(1)
    world.reclaim()
    assert world.chain.account(world.pair.address) is None
    assert world.held()["requester"] == WALLET - 2 * FEE


@pytest.mark.parametrize("situation", ["past the grace", "notice over", "failed", "completed"])
def test_reclaim_gives_back_whatever_the_account_still_holds(world: World, situation: str) -> None:
    SITUATIONS[situation](world)
    before = world.held()
    world.reclaim()
    assert world.held() == {
        **before,
        "execution": 0,
        "requester": before["requester"] + before["execution"] - FEE,
    }


@pytest.mark.parametrize("lamports", [1, 890_880, 10**8])
def test_an_address_that_somebody_funded_before_can_still_be_assigned(world: World, lamports: int) -> None:
    world.chain.svm.set_account(world.pair.address, Account(lamports, b"", SYSTEM_PROGRAM))
    world.assign()
    needed = world.chain.rent(len(world.account.data)) + world.assignment.reward
    assert world.account.lamports == max(needed, lamports)
    world.fail()
    world.chain.pass_time(1)
    world.reclaim()
    assert world.held()["requester"] == WALLET - 2 * FEE + lamports


def test_a_closed_account_that_is_funded_again_in_the_same_transaction_is_not_alive(world: World) -> None:
    world.assign()
    world.complete()
    world.chain.pass_time(1)
    revive = transfer(
        TransferParams(from_pubkey=world.requester.pubkey(), to_pubkey=world.pair.address, lamports=5_000_000)
    )
    world.chain.accepted([world.pair.reclaim(), revive], world.requester)
    assert (bytes(world.account.data), world.account.lamports) == (b"", 5_000_000)
    world.chain.refused("WrongOwner", world.pair.task_completed(SLOT), world.node)
    world.chain.refused("WrongOwner", [world.pair.reclaim()], world.requester)


def test_a_revived_address_can_be_assigned_as_if_it_were_new(world: World) -> None:
    world.assign()
    world.complete()
    world.chain.pass_time(1)
    revive = TransferParams(from_pubkey=world.stranger.pubkey(), to_pubkey=world.pair.address, lamports=10**9)
    world.chain.accepted([world.pair.reclaim(), transfer(revive)], world.stranger, world.requester)
    world.assign()
    assert (world.head.state, world.head.attempt, world.account.lamports) == (ASSIGNED, world.chain.slot, 10**9)
    assert world.account.data[HEAD_LENGTH:] == world.assignment.strings()


def test_reclaimed_funded_and_completed_in_one_transaction_pays_nothing(world: World) -> None:
    world.assign()
    world.fail()
    world.chain.pass_time(1)
    revive = transfer(
        TransferParams(from_pubkey=world.requester.pubkey(), to_pubkey=world.pair.address, lamports=5_000_000)
    )
    instructions = [world.pair.reclaim(), revive, world.pair.task_completed(SLOT)]
    world.chain.refused("WrongOwner", instructions, world.requester, world.node)


def test_reclaimed_and_assigned_again_in_one_transaction_is_a_new_attempt(world: World) -> None:
    world.assign()
    world.fail()
    world.chain.pass_time(1)
    again = [world.pair.reclaim(), world.pair.assign_task(world.assignment)]
    world.chain.accepted(again, world.requester)
    assert (world.head.state, world.head.attempt) == (ASSIGNED, world.chain.slot)
    assert world.account.data[HEAD_LENGTH:] == world.assignment.strings()


@pytest.mark.parametrize(("per_byte", "threshold"), [(3_480, 2.0), (6_960, 1.0), (6_333, 1.0)])
def test_rent_is_right_under_both_rules(world: World, per_byte: int, threshold: float) -> None:
    world.chain.svm.set_rent(Rent(per_byte, threshold, 50))
    world.assign()
    length = len(world.account.data)
    assert world.account.lamports == (128 + length) * per_byte * int(threshold) + world.assignment.reward
    world.complete()
    world.chain.pass_time(1)
    world.reclaim()
    assert world.held()["requester"] == WALLET - 2 * FEE - world.assignment.reward


@pytest.mark.parametrize(
    ("before", "after"),
    [(Rent(3_480, 2.0, 50), Rent(5_000, 2.0, 50)), (Rent(6_960, 1.0, 50), Rent(3_480, 1.0, 50))],
)
def test_an_account_taken_again_holds_the_rent_of_its_day_and_keeps_a_surplus(
    world: World, before: Rent, after: Rent
) -> None:
    world.chain.svm.set_rent(before)
    world.assign()
    held = world.account.lamports
    world.fail()
    world.chain.pass_time(1)
    world.chain.svm.set_rent(after)
    world.assign()
    needed = after.minimum_balance(len(world.account.data)) + world.assignment.reward
    assert world.account.lamports == max(held, needed)
    world.fail()
    world.chain.pass_time(1)
    world.reclaim()
    assert world.held()["requester"] == WALLET - 3 * FEE
