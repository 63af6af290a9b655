from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.keypair import Keypair
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.transaction import Transaction

from listener.alarms import Alarm
from listener.chain.answers import Account, Status
from listener.chain.lander import Lander
from listener.chain.tip import Tip
from listener.chain.when_to_ask import Pace
from listener.fees import BASE_FEE
from listener.journal.changes import Wait
from listener.journal.journal import Journal
from listener.journal.states import LedgerKind, OutboxStatus, State, WaitsFor
from listener.treasury import LEAST_SWEEP, Treasury, TreasuryTerms, to_sweep
from shared.errors import RpcUnavailable
from shared.ids import Slot
from tests.unit.journal_rows import computed, signature
from tests.unit.listener_world import KEY, NODE, PROGRAM, World, running, until
from tests.unit.signing_world import market_of, purse_of

COLD = Keypair.from_seed(bytes([9] * 32)).pubkey()
FLOOR, CEILING = 2_000_000, 50_000_000
NO_COLD = TreasuryTerms(FLOOR, 0, None, fee_share=0.2)
TERMS = TreasuryTerms(FLOOR, CEILING, COLD, fee_share=0.2)

lamports = st.integers(0, 10**12)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield World(journal)
    journal.close()


def holds(world: World, balance: int, final: int | None = None) -> None:
    """The node's balance at `confirmed`, and at `finalized` where that differs."""
    world.rpc.balance = balance
    shown = balance if final is None else final
    world.rpc.accounts[NODE] = Account(shown, SYSTEM_PROGRAM, b"")


def treasury(world: World, terms: TreasuryTerms = NO_COLD) -> Treasury:
    return Treasury(world.agreement, market_of(world), purse_of(world), KEY, world.steps, terms, world.clock)


@given(lamports, lamports, st.integers(BASE_FEE, 10**6), st.integers(0, 10**11), st.integers(0, 10**11))
def test_a_sweep_leaves_the_floor_and_the_ceiling_and_what_is_signed(
    balance: int, in_flight: int, fee: int, floor: int, ceiling: int
) -> None:
    swept = to_sweep(balance, in_flight, fee, TreasuryTerms(floor, ceiling, COLD, 0.2))
    assert swept == 0 or swept >= LEAST_SWEEP
    assert swept == 0 or balance - swept - fee - in_flight == max(floor, ceiling)
    assert to_sweep(balance, in_flight, fee, TreasuryTerms(floor, ceiling, None, 0.2)) == 0


async def test_below_the_floor_nothing_new_is_taken_until_the_balance_is_enough_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    made, recovered = treasury(world), list[None]()
    assert not made.takes()
    holds(world, FLOOR - 1)
    async with running(made.run(lambda: recovered.append(None))):
        await until(lambda: world.rpc.asked["get_balance"] >= 3)
        assert not made.takes() and recovered == []
        is_well, value, what_to_do = await made.check()
        assert not is_well and str(FLOOR) in value and str(NODE) in str(what_to_do)
        assert caplog.messages.count(Alarm.BELOW_FLOOR) == 1
        holds(world, FLOOR)
        await until(made.takes)
        assert len(recovered) == 1 and (await made.check())[0]


async def test_a_balance_that_cannot_be_read_is_looked_at_again(world: World) -> None:
    world.rpc.faults["get_balance"] = [RpcUnavailable("no answer")] * 4
    made = treasury(world)
    async with running(made.run(lambda: None)):
        await until(made.takes)


async def sweeps(world: World) -> list[Any]:
    return [row for row in await world.journal.watched() if row.task is None]


async def test_what_is_above_the_ceiling_goes_to_the_cold_address_and_is_booked(world: World) -> None:
    holds(world, CEILING + 10**9)
    made = treasury(world, TERMS)
    pace, tip = Pace(1.0, 0.002), Tip(world.clock)
    lander = Lander(world.endpoints, world.agreement, PROGRAM, world.steps, pace, tip, world.clock)
    world.steps.tell(lander.changed)
    async with running(lander.run()), running(made.run(lambda: None)):
        await until(lambda: bool(world.rpc.sent))
        (row,) = await sweeps(world)
        raw = await world.journal.raw(row.id)
        holds(world, CEILING)
        world.rpc.statuses[row.signature] = Status(Slot(7), None, "finalized")

        async def is_booked() -> bool:
            return await world.journal.balance_change() != 0

        await until(is_booked)
    assert set(world.rpc.sent) == {raw}
    message = Transaction.from_bytes(raw).message
    moved = message.instructions[-1]
    assert [message.account_keys[index] for index in bytes(moved.accounts)] == [NODE, COLD]
    assert int.from_bytes(bytes(moved.data)[4:], "little") == row.lamports == 10**9 - BASE_FEE
    sums = await world.journal.ledger_sums()
    assert {kind: found.lamports for kind, found in sums.items()} == {
        LedgerKind.FEE: -BASE_FEE,
        LedgerKind.SWEEP: -(10**9) + BASE_FEE,
    }


async def rounds(world: World, made: Treasury) -> None:
    """Some looks at the balance."""
    asked = world.rpc.asked["get_balance"]
    async with running(made.run(lambda: None)):
        await until(lambda: world.rpc.asked["get_balance"] >= asked + 4)


async def test_nothing_is_swept_while_another_sweep_may_land(world: World) -> None:
    holds(world, CEILING + 10**9)
    await rounds(world, treasury(world, TERMS))
    assert len(await sweeps(world)) == 1


async def test_nothing_is_swept_while_a_submission_waits_for_funds(world: World) -> None:
    task = await computed(world.journal)
    await world.journal.apply(Wait(task.id, State.COMPUTED, WaitsFor.FUNDS))
    holds(world, CEILING + 10**9)
    await rounds(world, treasury(world, TERMS))
    assert await sweeps(world) == []


@pytest.mark.parametrize("final", [0, CEILING + BASE_FEE])
async def test_what_is_not_finalized_is_not_swept(world: World, final: int) -> None:
    holds(world, CEILING + 10**9, final)
    await rounds(world, treasury(world, TERMS))
    assert await sweeps(world) == []


async def test_what_signatures_may_still_take_is_left(world: World) -> None:
    task = await computed(world.journal)
    await world.journal.apply(signature(task))
    holds(world, CEILING + 10**9)
    await rounds(world, treasury(world, TERMS))
    (sweep,) = await sweeps(world)
    (flying,) = [row for row in await world.journal.watched() if row.task is not None]
    assert flying.status is OutboxStatus.SIGNED
    assert sweep.lamports == 10**9 - sweep.fee - flying.fee - flying.lamports


def test_without_a_cold_address_nothing_is_swept() -> None:
    assert to_sweep(10**12, 0, BASE_FEE, NO_COLD) == 0
