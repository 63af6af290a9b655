"""A program whose IDL says neither what an account holds nor where it lies: transactions stand in for it.

The program behind it is the reference program, so that a requester's tools can tell what came of it.
"""

import asyncio
import json
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import torch

from cli.localnet import local_network, running_node
from cli.localnet.node import node_process
from cli.localnet.requester import requester_session
from listener.chain.accounts import ExecutionState
from requester.cancel import cancel
from requester.watch import watch
from shared.messages import Stage
from tests.e2e.conftest import EAGER, World
from tests.e2e.desk import (
    FEE,
    REWARD,
    A,
    B,
    Desk,
    at_stage,
    in_state,
    journal,
    slow_graph,
    slow_input,
    stages,
    states,
    unknown_at_compute,
)
from tests.e2e.test_restarted import assert_paid_once, assigned_and_running
from tests.e2e.test_what_counts import assert_nothing_came_of
from tests.unit.other_idls import without_account, without_rule

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(240),
    pytest.mark.validator,
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(has_validator: None) -> AsyncIterator[World]:
    async with local_network(chain="validator") as net, requester_session(net) as session:
        path = net.folder / "other.json"
        path.write_text(json.dumps(without_account(without_rule())))
        async with running_node(net, "node", {**EAGER, "SPLITUP_IDL": str(path)}) as node:
            yield World(net, Desk(session, net.requester), node, node)


async def test_a_task_is_found_run_and_paid_once(world: World) -> None:
    before = await world.net.rpc.get_balance(world.node.address)
    assigned = await world.desk.assign(world.node.address)
    pair = assigned.assignment.pair
    completed = await watch(world.desk.session, pair)
    ((_, output),) = completed.outputs
    assert torch.equal(output, A + B)
    assert await world.net.rpc.get_balance(world.node.address) - before == REWARD - FEE
    (taken,) = journal(
        world.node, "SELECT attempt, requester, reward FROM tasks WHERE execution_id = ?", pair.execution_id
    )
    assert taken == (assigned.landed.slot, world.desk.session.requester, REWARD)

    await in_state(world.node, pair, ("paid", None))
    sent = "SELECT count(*) FROM outbox JOIN tasks ON tasks.id = task WHERE execution_id = ?"
    assert journal(world.node, sent, pair.execution_id) == [(1,)]
    assert stages(world.node, pair) == ["fetching", "running", "storing", "done"]
    assert world.node.listener.log.read_text().count("accounts are not listed") == 1


async def test_a_cancelled_task_is_stopped(world: World) -> None:
    desk = world.desk
    assigned = await desk.assign(world.node.address, slow_graph(), tensors=(slow_input(),), units=100_000)
    pair = assigned.assignment.pair
    await at_stage(world.node, pair, Stage.RUNNING)
    cancelling = asyncio.create_task(cancel(desk.session, pair))
    await desk.in_notice(pair)
    await unknown_at_compute(world.node, pair)
    assert (await cancelling).state is ExecutionState.CANCELLED
    assert stages(world.node, pair) == ["fetching", "running"]
    assert states(world.node, pair) == [("cancelled", "CancelledByRequester")]
    assert journal(world.node, "SELECT refund_at > 1 FROM tasks WHERE task_id = ?", pair.task_id) == [(1,)]


async def test_the_event_of_a_failed_transaction_is_no_assignment(world: World) -> None:
    assignment = await world.desk.assignment(world.node.address)
    await world.desk.send_failing(assignment)
    await assert_nothing_came_of(world, assignment)


async def test_a_forged_log_line_is_no_assignment(world: World) -> None:
    assignment = await world.desk.assignment(world.node.address)
    await world.desk.send_forged(assignment)
    await assert_nothing_came_of(world, assignment)


async def test_after_a_kill_its_task_goes_on_and_what_was_assigned_meanwhile_is_found(world: World) -> None:
    other = {**EAGER, "SPLITUP_IDL": world.node.env["SPLITUP_IDL"]}
    async with running_node(world.net, "killed", other) as node:
        task = await assigned_and_running(world, node)
        node.listener.process.send_signal(signal.SIGKILL)
        await node.listener.process.wait()
        meanwhile = await world.desk.assign(node.address)
        assert states(node, meanwhile.assignment.pair) == []
        async with node_process("listener", node.folder, node.env):
            await assert_paid_once(world, node, task, meanwhile)
        assert stages(node, task.assignment.pair) == ["fetching", "running", "storing", "done"]
