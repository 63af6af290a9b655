from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from solders.compute_budget import ID as COMPUTE_BUDGET
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.transaction import Transaction

from listener.alarms import Alarm
from listener.chain.answers import TransactionError
from listener.compute_units import UNITS_PER_BUILTIN, limit_for, of_reference_program
from listener.failure_budget import FAILURE_BUDGET_SPENT, FAILURES, OF_NEWCOMERS, FailureBudget
from listener.fees import BASE_FEE, price_within, priority_fee
from listener.journal.changes import Count, Insert, Move, Observe
from listener.journal.journal import Journal
from listener.journal.records import Task
from listener.journal.states import LedgerKind, OutboxStatus, Outcome, State, WaitsFor
from listener.landing import MAX_REJECTED, OUT_OF_UNITS, RENT_MISSING
from listener.market import BLOCKHASH_AGE_S
from listener.purse import MAX_AGE_S, SHORT_AGE_S
from listener.signing import CHEAPER_AGAIN_S, FUNDS_AGAIN_S, Signer
from shared.errors import RpcRefused, RpcUnavailable
from shared.ids import day_of
from tests.unit.chain_bytes import ADDRESS
from tests.unit.journal_rows import NOW, REQUESTER, assignment, failed_row, result
from tests.unit.listener_world import NODE, World, assigned
from tests.unit.signing_world import market_of, signer_of

SHARE_OF_REWARD = 200_000
LIFE_S = 60.0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield World(journal)
    journal.close()


async def budget_of(world: World, task: Task) -> tuple[int, int]:
    """The compute unit limit and the price of the task's newest signature."""
    row = (await world.journal.signatures_of(task.id))[-1]
    message = Transaction.from_bytes(await world.journal.raw(row.id)).message
    limit = price = 0
    for one in message.instructions:
        if message.account_keys[one.program_id_index] == COMPUTE_BUDGET:
            number = int.from_bytes(bytes(one.data)[1:], "little")
            limit, price = (number, price) if one.data[0] == 2 else (limit, number)
    return limit, price


async def ends(world: World, task: Task, status: OutboxStatus, error: str | None = None) -> Task:
    """The newest signature ended so, and the task is to be signed again."""
    row = (await world.journal.signatures_of(task.id))[-1]
    await world.journal.apply(
        Observe(row.id, OutboxStatus.SIGNED, status, error=error),
        Move(task.id, State.SUBMITTING, State.COMPUTED),
    )
    return await world.journal.task(task.id)


async def bids(world: World, signer: Signer, task: Task, now: float = NOW) -> int:
    """Micro-lamports for each compute unit."""
    world.rpc.height += 1
    await world.clock.sleep(2 * BLOCKHASH_AGE_S)  # another blockhash follows
    assert await signer.sign(task, now) == 0.0
    return (await budget_of(world, task))[1]


async def test_of_the_reference_program_the_limit_is_what_was_measured_and_a_fifth(world: World) -> None:
    task = await world.taken(State.COMPUTED)
    await signer_of(world).sign(task, NOW)
    (row,) = await world.journal.signatures_of(task.id)
    message = Transaction.from_bytes(await world.journal.raw(row.id)).message
    units = of_reference_program(len(message.instructions[-1].data)) + 2 * UNITS_PER_BUILTIN
    assert await budget_of(world, task) == (limit_for(units), 0)
    assert world.rpc.simulated == []


async def test_the_operators_limit_goes_before_what_was_measured(world: World) -> None:
    task = await world.taken(State.COMPUTED)
    await signer_of(world, compute_unit_limit=77_000).sign(task, NOW)
    assert (await budget_of(world, task))[0] == 77_000


async def test_of_another_program_it_is_simulated_once_for_each_size(world: World) -> None:
    signer = signer_of(world, is_reference_program=False)
    task = await world.taken(State.COMPUTED)
    await signer.sign(task, NOW)
    assert (await budget_of(world, task))[0] == 12_000
    task = await ends(world, task, OutboxStatus.EXPIRED)
    world.rpc.simulated_units = 99_000
    await bids(world, signer, task)
    assert (await budget_of(world, task))[0] == 12_000 and len(world.rpc.simulated) == 1


async def test_a_failure_that_another_program_would_refuse_for_good_ends_the_task(world: World) -> None:
    told = failed_row(State.COMPUTED)
    await world.journal.apply(Insert(assigned(), State.COMPUTED, "InputMissing", told.result, State.FAILED))
    task = await world.task()
    world.rpc.simulation_err = TransactionError("instruction 2 failed with InvalidArgument", 2)
    assert await signer_of(world, is_reference_program=False).sign(task, NOW) == 0.0
    assert (await world.task()).state is State.FAILED


async def test_after_a_signature_that_ran_out_of_compute_units_the_next_may_take_twice_as_many(
    world: World,
) -> None:
    signer, task = signer_of(world), await world.taken(State.COMPUTED)
    await signer.sign(task, NOW)
    first, _ = await budget_of(world, task)
    task = await ends(world, task, OutboxStatus.REJECTED, OUT_OF_UNITS)
    await bids(world, signer, task)
    assert (await budget_of(world, task))[0] == 2 * first


async def test_what_lands_with_an_error_again_and_again_is_told_as_a_failure(world: World) -> None:
    signer, task = signer_of(world), await world.taken(State.COMPUTED)
    for _ in range(MAX_REJECTED):
        await bids(world, signer, task)
        task = await ends(world, task, OutboxStatus.REJECTED, "WrongAttempt")
    assert await signer.sign(task, NOW) == 0.0
    task = await world.task()
    assert len(await world.journal.signatures_of(task.id)) == MAX_REJECTED
    assert (task.state, task.ends_as) == (State.COMPUTED, State.FAILED)


async def test_what_only_expires_is_signed_anew_however_often(world: World) -> None:
    signer, task = signer_of(world), await world.taken(State.COMPUTED)
    for _ in range(MAX_REJECTED + 2):
        await bids(world, signer, task)
        task = await ends(world, task, OutboxStatus.EXPIRED)
    assert task.ends_as is State.PAID


async def test_each_new_signature_bids_more_up_to_the_share_of_the_reward(world: World) -> None:
    signer, task = signer_of(world, market=market_of(world, fixed=10)), await world.taken(State.COMPUTED)
    bid = [await bids(world, signer, task)]
    for _ in range(8):
        task = await ends(world, task, OutboxStatus.EXPIRED)
        bid.append(await bids(world, signer, task))
    limit, _ = await budget_of(world, task)
    assert bid[0] == 10 and sorted(bid) == bid
    assert BASE_FEE + priority_fee(bid[-1], limit) == SHARE_OF_REWARD


async def test_the_percentile_of_recent_slots_is_bid_where_it_is_asked_for(world: World) -> None:
    world.rpc.slot_fees = [0, 100, 200, 300]
    signer = signer_of(world, market=market_of(world, percentile=75))
    assert await bids(world, signer, await world.taken(State.COMPUTED)) == 200


@pytest.mark.parametrize("error", [RpcUnavailable("no answer"), RpcRefused("not served here", -32601)])
async def test_where_the_price_of_slots_cannot_be_read_the_fixed_one_is_bid(
    world: World, error: Exception
) -> None:
    world.rpc.faults["get_recent_prioritization_fees"] = [error]
    signer = signer_of(world, market=market_of(world, fixed=33, percentile=75))
    assert await bids(world, signer, await world.taken(State.COMPUTED)) == 33


async def test_a_result_waits_while_slots_cost_more_than_its_share_and_is_sent_at_the_cap_near_its_end(
    world: World,
) -> None:
    world.rpc.slot_fees = [10**9]
    signer, task = signer_of(world, market=market_of(world, percentile=50)), await world.taken(State.COMPUTED)
    assert await signer.sign(task, NOW) == CHEAPER_AGAIN_S
    assert await world.journal.signatures_of(task.id) == []
    bid = await bids(world, signer, task, task.deadline - 2 * LIFE_S + 1)
    assert bid == price_within(SHARE_OF_REWARD - BASE_FEE, (await budget_of(world, task))[0])


async def test_a_failure_does_not_wait_for_cheaper_slots(world: World) -> None:
    world.rpc.slot_fees = [10**9]
    told = failed_row(State.COMPUTED)
    await world.journal.apply(Insert(assigned(), State.COMPUTED, "InputMissing", told.result, State.FAILED))
    task = await world.task()
    signer = signer_of(world, market=market_of(world, percentile=50), failure_budget=FailureBudget(10**6, 10**6))
    assert await bids(world, signer, task) > 0


async def test_in_a_notice_the_first_signature_bids_the_whole_share(world: World) -> None:
    task = await world.taken(State.COMPUTED)
    noticed = replace(task, refund_at=task.deadline)
    bid = await bids(world, signer_of(world), noticed)
    assert bid == price_within(SHARE_OF_REWARD - BASE_FEE, (await budget_of(world, task))[0])


async def test_those_who_sign_at_the_same_moment_share_one_blockhash(world: World) -> None:
    market = market_of(world)
    world.clock.monotonic = lambda: 0.0  # type: ignore[method-assign]
    first = await market.blockhash()
    world.rpc.height += 1
    assert await market.blockhash() == first
    world.clock.monotonic = lambda: 2.0  # type: ignore[method-assign]
    assert (await market.blockhash()).last_valid_block_height == first.last_valid_block_height + 1
    assert world.rpc.asked["get_epoch_info"] == 1
    assert market.life_s() == LIFE_S


def failed(number: int = 1) -> Insert:
    """An assignment that failed, and may be told."""
    told = result(assignment(number), success=False)
    address = str(Pubkey.from_bytes(bytes([number] * 32)))
    return Insert(assignment(number, account=address), State.COMPUTED, "InputMissing", told, State.FAILED)


async def told(world: World, signer: Signer, number: int) -> Task:
    """The task after an attempt to tell its failure."""
    change = failed(number)
    await world.journal.apply(change)
    task = await world.journal.latest(change.assignment.account)
    assert task is not None
    await signer.sign(task, NOW)
    return await world.journal.task(task.id)


async def test_a_failure_is_told_out_of_the_days_budget_and_beyond_it_only_recorded(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.journal.apply(Count(REQUESTER, day_of(NOW), Outcome.PAID))
    signer = signer_of(world, failure_budget=FailureBudget(2 * BASE_FEE, 0))
    assert [(await told(world, signer, number)).state for number in (1, 2)] == [State.SUBMITTING] * 2
    for number in (3, 4):
        ended = await told(world, signer, number)
        assert (ended.state, ended.reason) == (State.FAILED, FAILURE_BUDGET_SPENT)
        assert await world.journal.signatures_of(ended.id) == []
    assert await world.journal.budgets(day_of(NOW)) == {FAILURES: 2 * BASE_FEE}
    assert caplog.messages.count(Alarm.FAILURE_BUDGET_SPENT) == 1


async def test_newcomers_share_a_part_of_the_budget(world: World) -> None:
    signer = signer_of(world, failure_budget=FailureBudget(10 * BASE_FEE, BASE_FEE))
    assert (await told(world, signer, 1)).state is State.SUBMITTING
    assert (await told(world, signer, 2)).state is State.FAILED
    assert await world.journal.budgets(day_of(NOW)) == {FAILURES: BASE_FEE, OF_NEWCOMERS: BASE_FEE}
    known = signer_of(
        world, failure_budget=FailureBudget(10 * BASE_FEE, BASE_FEE), allowlist=frozenset({REQUESTER})
    )
    assert (await told(world, known, 3)).state is State.SUBMITTING


async def test_a_failure_whose_signature_expires_is_paid_for_once(world: World) -> None:
    signer = signer_of(world, failure_budget=FailureBudget(BASE_FEE, BASE_FEE))
    task = await told(world, signer, 1)
    task = await ends(world, task, OutboxStatus.EXPIRED)
    await bids(world, signer, task)
    assert await world.journal.spent(day_of(NOW), FAILURES) == BASE_FEE


async def test_without_lamports_a_result_waits_for_funds_and_goes_on_by_itself(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    rent = world.rpc.rents[0] = 890_880
    world.rpc.balance = rent + BASE_FEE - 1
    signer, task = signer_of(world), await world.taken(State.COMPUTED)
    for _ in range(3):
        assert await signer.sign(task, NOW) == FUNDS_AGAIN_S
        task = await world.task()
        assert task.waits_for is WaitsFor.FUNDS
        assert await signer.is_blocked(task)
    assert caplog.messages.count(Alarm.BLOCKED_FUNDS) == 1
    world.rpc.balance = rent + BASE_FEE
    await world.clock.sleep(2 * SHORT_AGE_S)
    assert not await signer.is_blocked(task)
    assert await signer.sign(task, NOW) == 0.0
    task = await world.task()
    assert (task.state, task.waits_for) == (State.SUBMITTING, None)


async def test_what_is_signed_and_may_still_land_is_not_spent_twice(world: World) -> None:
    world.rpc.balance = 2 * BASE_FEE - 1
    signer = signer_of(world, allowlist=frozenset({REQUESTER}))
    assert (await told(world, signer, 1)).state is State.SUBMITTING
    second = await told(world, signer, 2)
    assert second.waits_for is WaitsFor.FUNDS
    await world.clock.sleep(2 * MAX_AGE_S)
    await signer.sign(second, NOW)
    assert (await world.journal.task(second.id)).state is State.COMPUTED


async def test_rent_that_is_missing_since_the_assignment_is_added_by_the_same_transaction(world: World) -> None:
    signer, task = signer_of(world), await world.taken(State.COMPUTED)
    await bids(world, signer, task)
    before, _ = await budget_of(world, task)
    account = world.rpc.accounts[ADDRESS]
    world.rpc.rents[len(account.data)] = account.lamports - task.reward + 700
    task = await ends(world, task, OutboxStatus.REJECTED, RENT_MISSING)
    await bids(world, signer, task)
    row = (await world.journal.signatures_of(task.id))[-1]
    message = Transaction.from_bytes(await world.journal.raw(row.id)).message
    added = message.instructions[-2]
    assert message.account_keys[added.program_id_index] == SYSTEM_PROGRAM
    assert [message.account_keys[index] for index in bytes(added.accounts)] == [NODE, ADDRESS]
    assert bytes(added.data) == (2).to_bytes(4, "little") + (700).to_bytes(8, "little")
    assert row.lamports == 700
    assert (await budget_of(world, task))[0] == before + UNITS_PER_BUILTIN * 6 // 5


async def test_where_the_reward_does_not_exceed_the_missing_rent_the_result_is_given_up_as_a_loss(
    world: World,
) -> None:
    signer, task = signer_of(world), await world.taken(State.COMPUTED)
    await bids(world, signer, task)
    account = world.rpc.accounts[ADDRESS]
    world.rpc.rents[len(account.data)] = account.lamports
    task = await ends(world, task, OutboxStatus.REJECTED, RENT_MISSING)
    assert await signer.sign(task, NOW) == 0.0
    task = await world.task()
    assert (task.state, task.ends_as) == (State.COMPUTED, State.FAILED)
    assert (await world.journal.ledger_sums())[LedgerKind.LOSS].forgone == task.reward


async def test_a_result_that_waits_for_cheaper_slots_says_so(world: World) -> None:
    world.rpc.slot_fees = [10**9]
    task = await world.taken(State.COMPUTED)
    await signer_of(world, market=market_of(world, percentile=50)).sign(task, NOW)
    assert (await world.task()).waits_for is WaitsFor.CHEAPER_SLOTS
