"""The operator's commands on a node that runs, that is being stopped, and that is down."""

import asyncio
import json
import signal
import time

import httpx
import pytest

from cli.localnet import RunningNode, running_node
from cli.localnet.node import node_process
from listener.chain.accounts import ExecutionState
from shared.ids import TaskKey
from shared.messages import Stage
from tests.e2e.conftest import EAGER, World
from tests.e2e.desk import (
    FINALITY_S,
    OUTLASTS_A_COMMAND,
    SLOW,
    VERY_SLOW,
    at_stage,
    in_state,
    journal,
    slow_graph,
    slow_input,
    stages,
    states,
    unknown_at_compute,
    until,
)
from tests.e2e.typed import Said, typed
from tests.tcpproxy import running_proxy

AT_ONCE_S = 10.0
"""Far less than the listener's time of grace."""

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(400),
    pytest.mark.validator,
]


async def operator(node: RunningNode, *words: object) -> Said:
    return await typed({"SPLITUP_JOURNAL": node.env["SPLITUP_JOURNAL"]}, *words)


async def slow_task(world: World, node: RunningNode, products: int = VERY_SLOW) -> TaskKey:
    graph = slow_graph(products)
    assigned = await world.desk.assign(node.address, graph, tensors=(slow_input(),), units=500_000)
    return assigned.assignment.pair


def completions(node: RunningNode) -> object:
    return journal(node, "SELECT count(*) FROM outbox WHERE kind = 'task_completed'")[0][0]


async def stopped(node: RunningNode) -> None:
    node.listener.process.send_signal(signal.SIGTERM)
    assert await node.listener.process.wait() == 0


async def test_a_skipped_task_is_stopped_at_compute_and_handed_back(world: World) -> None:
    pair = await slow_task(world, world.node)
    await at_stage(world.node, pair, Stage.RUNNING)
    said = await operator(world.node, "skip", pair.task_id)
    assert (said.status, said.output) == (0, f"{pair}\ndone: it is stopped, and handed back by task_failed\n"), (
        said
    )
    await unknown_at_compute(world.node, pair)
    assert (await world.desk.ended(pair)).state is ExecutionState.FAILED
    assert "storing" not in stages(world.node, pair), "it was not computed to its end"
    await in_state(world.node, pair, ("handed_back", "skipped"))
    shown = await operator(world.node, "task", pair.task_id)
    for told in ("handed_back, skipped", "failure: skipped", "task_failed", "finalized", "TaskAssigned"):
        assert told in shown.output, shown
    again = await operator(world.node, "skip", pair)
    assert again.status == 1 and "it has ended: handed_back (skipped)" in again.output


async def test_a_task_that_is_unknown_or_ambiguous_is_not_skipped(world: World) -> None:
    said = await operator(world.node, "skip", "no-such-task")
    assert said.status == 1 and "holds no task 'no-such-task'" in said.errors


async def test_a_drained_node_finishes_what_runs_hands_back_the_rest_and_takes_nothing_until_resume(
    world: World,
) -> None:
    one_at_a_time = EAGER | {"SPLITUP_MAX_IN_WORK": "1"}
    async with running_node(world.net, "drained", one_at_a_time) as node:
        runs = await slow_task(world, node, OUTLASTS_A_COMMAND)
        await at_stage(node, runs, Stage.RUNNING)
        queued = (await world.desk.assign(node.address)).assignment.pair
        await at_stage(node, queued, Stage.QUEUED)
        said = await operator(node, "drain")
        assert said.status == 0 and said.output.startswith("done: the intake is closed; of 2 unfinished"), said
        ready = await node.http.get(f"{node.listener_url}/ready")
        assert (ready.status_code, ready.json()["checks"]["intake"]["value"]) == (503, "draining")
        status = json.loads((await operator(node, "status", "--json")).output)
        assert (status["listener_runs"], status["intake"]) == (True, "draining")
        listed = (await operator(node, "tasks")).output
        assert str(runs) in listed and str(queued) in listed
        assert await asyncio.wait_for(node.listener.process.wait(), FINALITY_S) == 0
        assert (await world.desk.ended(runs)).state is ExecutionState.COMPLETED
        assert (await world.desk.ended(queued)).state is ExecutionState.FAILED
        assert [states(node, runs), states(node, queued)] == [[("paid", None)], [("handed_back", "draining")]]
        async with node_process("listener", node.folder, node.env):
            await idle(node)
            meanwhile = (await world.desk.assign(node.address)).assignment.pair
            await asyncio.sleep(5)  # longer than it takes to hear of it in every way
            assert states(node, meanwhile) == []
            said = await operator(node, "resume")
            assert (said.status, said.output) == (0, "done: the intake is open\n")
            assert (await world.desk.ended(meanwhile)).state is ExecutionState.COMPLETED


async def idle(node: RunningNode) -> None:
    async def drained() -> bool:
        try:
            ready = await node.http.get(f"{node.listener_url}/ready")
        except httpx.TransportError:  # it starts
            return False
        return ready.status_code == 503 and ready.json()["checks"]["intake"]["value"] == "drained"

    await until(drained, "/ready says drained")


async def test_what_is_asked_while_the_listener_is_down_is_done_at_its_next_start(world: World) -> None:
    async with running_node(world.net, "asked-while-down", EAGER) as node:
        pair = await slow_task(world, node)
        await at_stage(node, pair, Stage.RUNNING)
        await in_state(node, pair, ("computing", None))
        await stopped(node)
        shown = (await operator(node, "status")).output
        assert "does not run" in shown and "computing 1" in shown, shown
        assert (await operator(node, "tasks", "--state", "open")).output.splitlines()[1].startswith(str(pair))
        assert "state      computing" in (await operator(node, "task", pair)).output
        said = await operator(node, "skip", pair.execution_id[:13])
        assert said.status == 0 and "the listener does not run: it will do it at its next start" in said.output
        async with node_process("listener", node.folder, node.env):
            assert (await world.desk.ended(pair)).state is ExecutionState.FAILED
            await unknown_at_compute(node, pair)
            await in_state(node, pair, ("handed_back", "skipped"))
        assert (await operator(node, "drain")).status == 0
        async with node_process("listener", node.folder, node.env) as draining:
            assert await asyncio.wait_for(draining.process.wait(), FINALITY_S) == 0
        async with node_process("listener", node.folder, node.env):
            await idle(node)
            assert json.loads((await operator(node, "status", "--json")).output)["intake"] == "drained"


async def test_a_second_signal_ends_the_listener_at_once_and_its_result_is_paid_once_later(world: World) -> None:
    rpc_port = int(world.net.rpc_url.rpartition(":")[2])
    async with running_proxy(rpc_port) as proxy:
        env = EAGER | {"SPLITUP_RPC_URL": f"http://127.0.0.1:{proxy.port}"}
        async with running_node(world.net, "forced", env) as node:
            pair = await slow_task(world, node, SLOW)
            await at_stage(node, pair, Stage.RUNNING)
            proxy.stalled = True
            await in_state(node, pair, ("computed", None))
            node.listener.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(1)
            assert node.listener.process.returncode is None, "it has a result to submit, and grace"
            begun = time.monotonic()
            node.listener.process.send_signal(signal.SIGTERM)
            assert await node.listener.process.wait() == 1
            assert time.monotonic() - begun < AT_ONCE_S
            proxy.stalled = False
            async with node_process("listener", node.folder, node.env):
                assert (await world.desk.ended(pair)).state is ExecutionState.COMPLETED
                await in_state(node, pair, ("paid", None))
                assert completions(node) == 1
