"""Either process killed or stopped in the middle of a task: after its next start the task ends as it would have."""

import os
import signal

import pytest

from cli.localnet import RunningNode, running_node
from cli.localnet.node import node_process
from listener.chain.accounts import ExecutionState
from requester.assign import Assigned
from shared.messages import Stage
from tests.e2e.conftest import EAGER, World
from tests.e2e.desk import (
    FEE,
    OUTLASTS_A_COMMAND,
    REWARD,
    SLOW,
    at_stage,
    in_state,
    journal,
    slow_graph,
    slow_input,
    stages,
    states,
)

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(240),
    pytest.mark.validator,
]


async def assigned_and_running(world: World, node: RunningNode, products: int = SLOW) -> Assigned:
    graph = slow_graph(products)
    assigned = await world.desk.assign(node.address, graph, tensors=(slow_input(),), units=500_000)
    await at_stage(node, assigned.assignment.pair, Stage.RUNNING)
    return assigned


async def assert_paid_once(world: World, node: RunningNode, *tasks: Assigned) -> None:
    for task in tasks:
        assert (await world.desk.ended(task.assignment.pair)).state is ExecutionState.COMPLETED
    completions = "SELECT count(*) FROM outbox WHERE kind = 'task_completed'"
    assert journal(node, completions) == [(len(tasks),)]
    earned = len(tasks) * (REWARD - FEE)
    assert await world.net.rpc.get_balance(node.address) == 100_000_000_000 + earned


async def test_a_listener_killed_while_its_task_runs_is_paid_once_after_its_next_start(world: World) -> None:
    async with running_node(world.net, "killed-listener", EAGER) as node:
        task = await assigned_and_running(world, node)
        node.listener.process.send_signal(signal.SIGKILL)
        await node.listener.process.wait()
        async with node_process("listener", node.folder, node.env):
            await assert_paid_once(world, node, task)
            assert stages(node, task.assignment.pair) == ["fetching", "running", "storing", "done"]


async def test_a_task_whose_compute_process_is_killed_starts_anew_and_is_paid_once(world: World) -> None:
    async with running_node(world.net, "killed-compute", EAGER) as node:
        task = await assigned_and_running(world, node)
        os.killpg(node.compute.process.pid, signal.SIGKILL)
        await node.compute.process.wait()
        async with node_process("compute", node.folder, node.env):
            await assert_paid_once(world, node, task)
            started = ["fetching", "running"]
            assert stages(node, task.assignment.pair) == [*started, *started, "storing", "done"]


async def test_a_stopped_listener_keeps_its_task_and_finds_what_was_assigned_meanwhile(world: World) -> None:
    async with running_node(world.net, "stopped", EAGER) as node:
        task = await assigned_and_running(world, node, OUTLASTS_A_COMMAND)
        await in_state(node, task.assignment.pair, ("computing", None))
        node.listener.process.send_signal(signal.SIGTERM)
        assert await node.listener.process.wait() == 0
        assert [state for state, _ in states(node, task.assignment.pair)] == ["computing"]
        meanwhile = await world.desk.assign(node.address)
        assert states(node, meanwhile.assignment.pair) == []
        async with node_process("listener", node.folder, node.env):
            await assert_paid_once(world, node, task, meanwhile)
