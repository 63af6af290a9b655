"""What cannot be computed ends as task_failed on the chain with its cause; what comes too late ends as missed."""

import asyncio
import hashlib
import json
import struct

import pytest
import torch

from listener.chain.accounts import ExecutionState
from requester.outputs import find_ending
from shared.messages import Stage
from shared.uris import below
from tests.e2e.conftest import World
from tests.e2e.desk import SUM, A, B, at_stage, journal, slow_graph, slow_input, stages, states, until
from tests.unit.graphs import Document, document, node, ref, tensor

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(240),
    pytest.mark.validator,
]

LANDING_MARGIN_S = 15


async def failure_of(world: World, graph: Document = SUM, **terms: object) -> str:
    """The errorMessage that stands on the chain; the pair ends in the journal as failed too."""
    assigned = await world.desk.assign(world.node.address, graph, **terms)
    pair = assigned.assignment.pair
    assert (await world.desk.ended(pair)).state is ExecutionState.FAILED
    ending = await find_ending(world.desk.session, pair, assigned.attempt, "task_failed")
    assert ending is not None
    assert "done" not in stages(world.node, pair)

    async def is_booked() -> bool:
        return states(world.node, pair)[0][0] in ("confirmed", "failed")

    await until(is_booked, "the journal shows the end")
    return str(ending.arguments["error_message"])


async def test_an_operator_outside_the_allowlist_is_named(world: World) -> None:
    graph = document(
        [tensor("a", ["n"])],
        [node("evil", "aten.from_file.default", filename="/etc/passwd")],
        [ref("evil")],
    )
    message = await failure_of(world, graph, tensors=(A,))
    assert "aten.from_file.default" in message
    assert "evil" in message


async def test_a_missing_input_is_named(world: World) -> None:
    session = world.desk.session
    missing = f"{session.publish_prefix}/{session.requester}/{'ab' * 32}.safetensors"
    message = await failure_of(world, uris=(missing,))
    assert "ab" * 32 in message


async def test_a_wrong_dtype_is_named(world: World) -> None:
    message = await failure_of(world, tensors=(A, B.to(torch.int64)))
    assert "int64" in message
    assert "float32" in message


async def test_a_wrong_number_of_outputs_is_told_with_both_numbers(world: World) -> None:
    message = await failure_of(world, outputs=3)
    assert "1" in message
    assert "3" in message


async def test_two_to_the_fortieth_elements_are_refused_at_the_header(world: World) -> None:
    elements = 2**40
    header = json.dumps({"0": {"dtype": "F32", "shape": [elements], "data_offsets": [0, 4 * elements]}}).encode()
    raw = struct.pack("<Q", len(header)) + header
    session = world.desk.session
    uri = below(session.publish_prefix, session.requester, f"{hashlib.sha256(raw).hexdigest()}.safetensors")
    await session.storage.put_new(uri, [raw])
    message = await failure_of(world, uris=(str(uri),))
    assert str(elements) in message or "2^40" in message, message


async def test_more_compute_units_than_declared_are_told_with_both_numbers(world: World) -> None:
    message = await failure_of(world, slow_graph(), tensors=(slow_input(),), units=7)
    assert "7" in message
    assert "computeUnits" in message


async def test_a_deadline_that_is_too_near_is_missed_and_nothing_is_sent(world: World) -> None:
    await assert_missed(world, time_s=8, reason="DeadlineTooNear", seen=[])


async def test_a_task_that_takes_longer_than_its_deadline_is_stopped_and_missed(world: World) -> None:
    await assert_missed(
        world, time_s=LANDING_MARGIN_S + 15, reason="DeadlinePassed", seen=["fetching", "running"], slow=True
    )


async def assert_missed(world: World, *, time_s: int, reason: str, seen: list[str], slow: bool = False) -> None:
    desk, running = world.desk, world.node
    before = await world.net.rpc.get_balance(running.address)
    if slow:
        assigned = await desk.assign(
            running.address, slow_graph(), tensors=(slow_input(),), time_s=time_s, units=100_000
        )
        await at_stage(running, assigned.assignment.pair, Stage.RUNNING)
    else:
        assigned = await desk.assign(running.address, time_s=time_s)
    pair = assigned.assignment.pair

    async def is_missed() -> bool:
        return states(running, pair) == [("missed", reason)]

    await until(is_missed, "it is missed")
    await asyncio.sleep(1)
    assert [stage for stage in stages(running, pair) if stage not in ("failed", "cancelled")] == seen
    assert journal(
        running, "SELECT count(*) FROM outbox o JOIN tasks t ON t.id = o.task WHERE t.task_id = ?", pair.task_id
    ) == [(0,)]
    assert await world.net.rpc.get_balance(running.address) == before
    execution = await desk.session.execution(pair)
    assert execution is not None and execution.state is ExecutionState.ASSIGNED
