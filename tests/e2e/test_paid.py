"""From the chain to the payment: a task is found, verified, computed, stored, submitted and paid."""

import asyncio

import pytest
import torch

from cli.localnet import local_network, running_node
from cli.localnet.requester import requester_session
from listener.chain.accounts import ExecutionState
from requester.watch import watch
from tests.e2e.conftest import EAGER, World
from tests.e2e.desk import FEE, REWARD, A, B, Desk, stages, states, unknown_at_compute
from tests.needs import absent

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]


@pytest.mark.validator
async def test_a_task_is_paid_on_a_real_validator(world: World) -> None:
    before = await world.net.rpc.get_balance(world.node.address)
    assigned = await world.desk.assign(world.node.address)
    completed = await watch(world.desk.session, assigned.assignment.pair)
    ((uri, output),) = completed.outputs
    assert torch.equal(output, A + B)
    assert uri.startswith(f"{world.net.storage.outputs}/{world.desk.session.requester}/")
    assert await world.net.rpc.get_balance(world.node.address) - before == REWARD - FEE


@pytest.mark.validator
async def test_each_of_two_nodes_runs_only_its_own_tasks(world: World) -> None:
    nodes = [world.node, world.other_node] * 3
    assigned = [await world.desk.assign(node.address) for node in nodes]
    pairs = [one.assignment.pair for one in assigned]
    ended = await asyncio.gather(*(world.desk.ended(pair) for pair in pairs))
    assert {execution.state for execution in ended} == {ExecutionState.COMPLETED}
    for node, pair in zip(nodes, pairs, strict=True):
        stranger = world.other_node if node is world.node else world.node
        assert stages(node, pair) == ["fetching", "running", "storing", "done"]
        assert stages(stranger, pair) == []
        assert states(stranger, pair) == []


@pytest.mark.validator
async def test_a_paid_task_is_acknowledged_at_compute_once_it_is_final(world: World) -> None:
    assigned = await world.desk.assign(world.node.address)
    pair = assigned.assignment.pair
    await world.desk.ended(pair)
    await unknown_at_compute(world.node, pair)
    assert states(world.node, pair) == [("paid", None)]


@pytest.mark.surfpool
async def test_a_task_is_paid_on_surfpool() -> None:
    from cli.localnet.surfpool import surfpool_is_there

    if not surfpool_is_there():
        absent("there is neither npm nor Surfpool's package here")
    async with (
        local_network(chain="surfpool") as net,
        requester_session(net) as session,
        running_node(net, "node", EAGER) as node,
    ):
        desk = Desk(session, net.requester)
        before = await net.rpc.get_balance(node.address)
        assigned = await desk.assign(node.address)
        ((_, output),) = (await watch(session, assigned.assignment.pair)).outputs
        assert torch.equal(output, A + B)
        assert await net.rpc.get_balance(node.address) - before == REWARD - FEE
