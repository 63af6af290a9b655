"""Every endpoint goes away in the middle of a submission, for longer than a blockhash lives."""

import asyncio

import pytest

from listener.chain.accounts import ExecutionState
from tests.e2e.desk import FEE, REWARD, journal, until
from tests.faults.chain_records import landed_of
from tests.faults.conftest import FULL, Place
from tests.faults.node import FaultyNode, faulty_node, last_lines
from tests.faults.weather import Fault

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(900),
    pytest.mark.validator,
    pytest.mark.s3,
]

GONE_S = 300.0 if FULL else 75.0
"""A blockhash lives 30 s here, and an endpoint's recent statuses 60 s: what landed then stands in the history only."""
TIME_S = 1_800
PAID_WITHIN_S = 240.0


def set_gone(node: FaultyNode, is_gone: bool) -> None:
    for proxy in (*node.links.rpc, *node.links.websocket):
        proxy.is_gone = is_gone
    for websocket in node.links.websocket:
        websocket.cut_all()


async def test_a_submission_in_which_the_rpc_goes_away_is_paid_once(place: Place, seed: str) -> None:
    await asyncio.gather(*(paid_once(place, fault, seed) for fault in (Fault.CUT, Fault.LOST)))


async def paid_once(place: Place, fault: Fault, seed: str) -> None:
    """CUT: no endpoint got the transaction. LOST: it landed, and no answer came back."""
    name = f"gone-{fault.name.lower()}"
    async with faulty_node(place.net, name, seed) as node:
        before = await place.net.rpc.get_balance(node.address)
        for proxy in node.links.rpc:
            weather = proxy.weather
            weather.kinds, weather.share, weather.only = (fault,), 1.0, frozenset({"sendTransaction"})
        pair = (await place.desk.assign(node.address, time_s=TIME_S)).assignment.pair

        async def was_sent() -> bool:
            return any(proxy.counts["sendTransaction"] for proxy in node.links.rpc)

        await until(was_sent, "the result is sent")
        set_gone(node, True)
        await asyncio.sleep(GONE_S)
        ((last_valid,),) = journal(node, "SELECT max(last_valid_block_height) FROM outbox")
        assert isinstance(last_valid, int)

        async def is_past() -> bool:
            return (await place.net.rpc.get_epoch_info()).block_height > last_valid

        await until(is_past, "its blockhash lives no more, however slow this chain is")
        arrived = 0 if fault is Fault.CUT else 1
        assert len(await landed_of(place.desk, node.address, pair, arrived)) == arrived
        for proxy in node.links.rpc:
            proxy.weather.clear()
        set_gone(node, False)

        async def is_paid() -> bool:
            rows = journal(node, "SELECT state, owed FROM tasks")
            return rows == [("paid", "nothing")]

        try:
            await until(is_paid, "the task is paid and settled", PAID_WITHIN_S)
        except AssertionError:
            print(last_lines(node))
            raise
        execution = await place.desk.session.execution(pair)
        assert execution is not None
        assert execution.state is ExecutionState.COMPLETED
        landed = await landed_of(place.desk, node.address, pair, 1)
        assert [one.err for one in landed] == [None]
        assert await place.net.rpc.get_balance(node.address) - before == REWARD - FEE
        signed = [status for (status,) in journal(node, "SELECT status FROM outbox ORDER BY id")]
        assert signed == (["expired", "finalized"] if fault is Fault.CUT and not FULL else signed)
        assert signed.count("finalized") == 1
        assert set(signed) <= {"expired", "finalized"}
