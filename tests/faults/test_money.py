"""The node's money on a real chain: too little for a fee, too much on the key, a journal that forgot what was paid."""

import asyncio

import pytest
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import Transaction

from listener.chain.accounts import ExecutionState
from requester.assign import assign
from requester.cancel import cancel
from requester.watch import watch
from shared.ids import Lamports, TaskKey
from tests.e2e.desk import FEE, FINALITY_S, REWARD, Desk, journal, states, until
from tests.e2e.typed import typed
from tests.faults.conftest import Place
from tests.faults.node import FaultyNode, errors, faulty_node, unstarted_node

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(400),
    pytest.mark.validator,
    pytest.mark.s3,
]
LEFT = 1_000
"""Lamports above the rent that the node's own account needs: less than one fee."""
CEILING = 1_000_000_000


def ledger(node: FaultyNode) -> int:
    ((total,),) = journal(node, "SELECT coalesce(sum(lamports), 0) FROM ledger")
    assert isinstance(total, int)
    return total


async def is_in(node: FaultyNode, pair: TaskKey, state: str, limit_s: float = FINALITY_S) -> None:
    async def reached() -> bool:
        return [found for found, _ in states(node, pair)] == [state]

    await until(reached, f"{pair} is {state}", limit_s)


async def spend(desk: Desk, key: Keypair, to: Pubkey, lamports: int) -> None:
    """Out of this key's balance, which also pays the fee."""
    away = transfer(TransferParams(from_pubkey=key.pubkey(), to_pubkey=to, lamports=lamports))
    message = Message([away], key.pubkey())
    status = await desk.send_raw(bytes(Transaction([key], message, await desk.blockhash())))
    assert status.err is None


async def test_a_result_that_no_fee_can_be_paid_for_waits_is_alarmed_and_is_paid_once_the_money_is_there(
    place: Place, seed: str
) -> None:
    desk, rpc = place.desk, place.net.rpc
    settings = {"SPLITUP_BALANCE_FLOOR_LAMPORTS": "0"}
    async with unstarted_node(place.net, "poor", seed, settings) as node:
        rent = await rpc.get_rent(0)
        await spend(desk, node.key, desk.key.pubkey(), await rpc.get_balance(node.address) - rent - LEFT - FEE)
        assert await rpc.get_balance(node.address) == rent + LEFT
        await node.start()
        pair = (await desk.assign(node.address)).assignment.pair

        async def waits() -> bool:
            return journal(node, "SELECT state, waits_for FROM tasks") == [("computed", "funds")]

        await until(waits, "its result waits for funds")
        assert "blocked_funds" in errors(node.listener.log)

        async def is_told() -> bool:
            """Where the chain is busy, /ready may say that no answer came in time."""
            ready = (await node.http.get(f"{node.listener.url}/ready")).json()["checks"]["balance"]
            return not ready["ok"] and "1 submissions wait for funds" in ready["value"]

        await until(is_told, "/ready says what the result waits for")
        await asyncio.sleep(12)  # longer than it waits before it looks again
        assert journal(node, "SELECT count(*) FROM outbox") == [(0,)], "nothing was signed that could not be paid"
        await place.net.fund(node.address, Lamports(10 * FEE))
        await is_in(node, pair, "paid")
        assert await rpc.get_balance(node.address) == rent + LEFT + 10 * FEE + REWARD - FEE
        assert ledger(node) == REWARD - FEE


async def test_what_is_above_the_ceiling_goes_to_the_cold_address_and_the_ledger_tells_of_it(
    place: Place, seed: str
) -> None:
    rpc, cold = place.net.rpc, Keypair().pubkey()
    settings = {"SPLITUP_SWEEP_ADDRESS": str(cold), "SPLITUP_SWEEP_ABOVE_LAMPORTS": str(CEILING)}
    async with unstarted_node(place.net, "rich", seed, settings) as node:
        before = await rpc.get_balance(node.address)
        assert before > 2 * CEILING
        await node.start()
        pair = (await place.desk.assign(node.address)).assignment.pair
        await is_in(node, pair, "paid")

        async def is_booked() -> bool:
            return journal(node, "SELECT status FROM outbox WHERE kind = 'sweep'") == [("finalized",)]

        await until(is_booked, "the sweep is final and booked", FINALITY_S)
        left, swept = await rpc.get_balance(node.address), await rpc.get_balance(cold)
        assert swept > before - CEILING - REWARD
        assert CEILING - FEE <= left <= CEILING + REWARD, "the rest is kept to work with"
        assert ledger(node) == left - before


async def test_a_journal_made_anew_takes_up_what_is_assigned_and_never_runs_what_was_paid(
    place: Place, seed: str
) -> None:
    desk, rpc = place.desk, place.net.rpc
    async with faulty_node(place.net, "anew", seed) as node:
        paid = await desk.assignment(node.address)
        await assign(desk.session, paid)
        await is_in(node, paid.pair, "paid")
        assert await node.listener.stop() == 0
        # Closed and assigned once more: only the chain's history tells that the pair was paid.
        await watch(desk.session, paid.pair)
        assert await desk.session.execution(paid.pair) is None
        await assign(desk.session, paid)
        other = (await desk.assign(node.address)).assignment.pair
        old = node.folder / "journal.sqlite"
        new = node.folder / "anew.sqlite"
        said = await typed(node.listener.env, "rebuild-journal", new)
        assert said.status == 0 and "1 completed pairs" in said.output, said
        before = await rpc.get_balance(node.address)
        for part in ("", "-wal", "-shm"):
            old.with_name(old.name + part).unlink(missing_ok=True)
        new.rename(old)
        await node.listener.start()
        await is_in(node, other, "paid")
        assert states(node, paid.pair) == []
        assert journal(node, "SELECT count(*) FROM passed_over") == [(1,)]
        assert await rpc.get_balance(node.address) - before == REWARD - FEE
        again = await desk.session.execution(paid.pair)
        assert again is not None and again.state is ExecutionState.ASSIGNED
        await cancel(desk.session, paid.pair)
