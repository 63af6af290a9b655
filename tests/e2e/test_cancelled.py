"""A cancellation against a running task and against one whose outputs are being stored; both on a real chain."""

import asyncio
import time

import pytest
import torch

from cli.localnet import local_network, running_node
from cli.localnet.requester import requester_session
from listener.chain.accounts import ExecutionState
from requester.cancel import cancel
from requester.watch import watch
from shared.errors import TaskNotCompleted
from shared.messages import Stage
from tests.e2e.conftest import EAGER, World
from tests.e2e.desk import (
    FEE,
    REWARD,
    SHARE_OF_REWARD,
    Desk,
    at_stage,
    sees_the_notice,
    slow_graph,
    slow_input,
    stages,
    states,
    unknown_at_compute,
    until,
)
from tests.needs import needs
from tests.tcpproxy import running_proxy
from tests.tries import one_within
from tests.unit.graphs import document, node, ref, tensor

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(400),
    pytest.mark.validator,
]

STOPPED_S = 1.0
SIDE = 1024
SPEED = 128 << 10
"""Bytes a second to storage: an output of 4 MiB takes half a minute, in which a test sees that it is being stored."""
OUTER = document(
    [tensor("a", [SIDE, 1]), tensor("b", [1, SIDE])],
    [node("product", "aten.mul.Tensor", self=ref("a"), other=ref("b"))],
    [ref("product")],
)


async def test_a_running_task_stops_within_a_second_and_the_reward_comes_back(world: World) -> None:
    for took in one_within(STOPPED_S):
        took.append(await stopped_and_given_back(world))
    await world.desk.settled(world.node)


async def stopped_and_given_back(world: World) -> float:
    """Seconds from the notice on the chain until compute knows nothing of the task."""
    desk, rpc = world.desk, world.net.rpc
    assigned = await desk.assign(world.node.address, slow_graph(), tensors=(slow_input(),), units=100_000)
    pair = assigned.assignment.pair
    await at_stage(world.node, pair, Stage.RUNNING)
    before = await rpc.get_balance(desk.key.pubkey())
    cancelling = asyncio.create_task(cancel(desk.session, pair))
    await desk.in_notice(pair)
    begun = time.monotonic()
    await unknown_at_compute(world.node, pair)
    took_s = time.monotonic() - begun
    cancelled = await cancelling
    assert cancelled.state is ExecutionState.CANCELLED
    after = await rpc.get_balance(desk.key.pubkey())
    assert after - before == cancelled.returned - 2 * FEE
    assert cancelled.returned > REWARD  # and the rent
    assert stages(world.node, pair) == ["fetching", "running"]
    assert states(world.node, pair) == [("cancelled", "CancelledByRequester")]
    folder = world.net.folder / "storage" / "outputs" / desk.session.requester / pair.execution_id
    assert not list(folder.rglob("*.safetensors"))
    return took_s


async def test_watching_a_task_that_is_cancelled_meanwhile_ends_and_both_give_the_reward_back(
    world: World,
) -> None:
    assigned = await world.desk.assign(
        world.other_node.address, slow_graph(), units=100_000, tensors=(slow_input(),)
    )
    pair = assigned.assignment.pair
    await at_stage(world.other_node, pair, Stage.RUNNING)
    watching = asyncio.create_task(watch(world.desk.session, pair))
    cancelled = await cancel(world.desk.session, pair)
    assert cancelled.state is ExecutionState.CANCELLED
    with pytest.raises(TaskNotCompleted):
        await watching


async def test_a_task_whose_outputs_are_being_stored_is_finished_and_paid(
    has_validator: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("versitygw", "outputs are stored through a slow proxy")
    async with local_network(chain="validator", storage="s3") as net:
        for name, value in net.storage.env.items():
            monkeypatch.setenv(name, value)
        port = int(net.storage.env["SPLITUP_S3_ENDPOINT_URL"].rpartition(":")[2])
        async with running_proxy(port) as proxy:
            slow = {**EAGER, "SPLITUP_S3_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"}
            async with requester_session(net) as session, running_node(net, "node", slow) as running:
                desk = Desk(session, net.requester)
                proxy.bytes_per_s = SPEED
                a, b = torch.ones(SIDE, 1), torch.full((1, SIDE), 2.0)
                before = await net.rpc.get_balance(running.address)
                uris = (await desk.store(a), await desk.store(b))
                assigned = await desk.assign(running.address, OUTER, uris=uris)
                pair = assigned.assignment.pair
                await at_stage(running, pair, Stage.STORING)
                proxy.stalled = True  # until the node has seen the notice, by which it bids another fee
                cancelling = asyncio.create_task(cancel(session, pair))
                await until(lambda: sees_the_notice(running, pair), "the node has seen the notice")
                proxy.bytes_per_s, proxy.stalled = None, False
                cancelled = await cancelling
                assert cancelled.state is ExecutionState.COMPLETED
                assert await net.rpc.get_balance(running.address) - before == REWARD - SHARE_OF_REWARD
                assert stages(running, pair) == ["fetching", "running", "storing", "done"]
