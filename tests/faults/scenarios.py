"""What a crash must not change: four tasks, how each is brought about, and how it ends."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx
import torch

from listener.chain.accounts import ExecutionState
from shared.ids import TaskKey
from shared.messages import Stage
from tests.e2e.desk import FEE, REWARD, A, Desk, until
from tests.faults.node import FaultyNode
from tests.faults.weather import Fault
from tests.unit.graphs import Document, document, node, ref, tensor

SIDE = 2048
PRODUCTS = 100
"""Of matrices of 2048 rows, half a second each: long enough to be cancelled, wherever the process is killed."""
FAILING = document(
    [tensor("a", ["n"]), tensor("b", ["m"])],
    [node("sum", "aten.add.Tensor", self=ref("a"), other=ref("b"))],
    [ref("sum")],
)
TIME_S = 900
RUNS_WITHIN_S = 90.0
MISSED_AFTER_S = 30
MARGIN_S = 5
"""SPLITUP_LANDING_MARGIN_S of every node here."""


def long_graph() -> Document:
    nodes = [
        node(f"p{place}", "aten.mm.default", self=ref(f"p{place - 1}" if place else "x"), mat2=ref("x"))
        for place in range(PRODUCTS)
    ]
    return document([tensor("x", [SIDE, SIDE])], nodes, [ref(f"p{PRODUCTS - 1}")])


@dataclass(frozen=True)
class Scenario:
    name: str
    begin: Callable[[Desk, FaultyNode], Awaitable[TaskKey]]
    state: str
    """In the journal, at the end."""
    on_chain: ExecutionState
    earned: int
    """Lamports by which the node's balance has changed at the end."""
    objects: int = 0
    """In storage, at the end."""


async def _paid(desk: Desk, node: FaultyNode) -> TaskKey:
    return (await desk.assign(node.address, time_s=TIME_S)).assignment.pair


async def _failed(desk: Desk, node: FaultyNode) -> TaskKey:
    tensors = (A, torch.ones(3))
    return (await desk.assign(node.address, FAILING, tensors=tensors, time_s=TIME_S)).assignment.pair


async def _cancelled(desk: Desk, node: FaultyNode) -> TaskKey:
    """While it runs. The notice of 30 s is waited for by the node, which then sees that nothing was paid."""
    matrix = (torch.zeros(SIDE, SIDE),)
    assigned = await desk.assign(node.address, long_graph(), tensors=matrix, units=100_000, time_s=TIME_S)
    pair = assigned.assignment.pair
    await until(lambda: _runs(node, pair), f"{pair} runs", RUNS_WITHIN_S)
    await desk.session.send(
        "cancel_execution",
        {"execution_id": pair.execution_id, "task_id": pair.task_id},
        {"assigned_node": node.address},
    )
    return pair


async def _missed(desk: Desk, node: FaultyNode) -> TaskKey:
    """Computed and stored, but never signed: no endpoint gives a blockhash."""
    for proxy in node.links.rpc:
        proxy.weather.only = frozenset({"getLatestBlockhash"})
        proxy.weather.kinds, proxy.weather.share = (Fault.UNAVAILABLE,), 1.0
    return (await desk.assign(node.address, time_s=MISSED_AFTER_S)).assignment.pair


async def _runs(node: FaultyNode, pair: TaskKey) -> bool:
    """Whichever of the two processes is being started just now."""
    try:
        answer = await node.http.get(f"{node.compute_url}/api/task/{pair.execution_id}/{pair.task_id}")
    except httpx.TransportError:
        return False
    return answer.status_code == httpx.codes.OK and answer.json()["stage"] == Stage.RUNNING


PAID = Scenario("paid", _paid, "paid", ExecutionState.COMPLETED, REWARD - FEE, 1)
FAILED = Scenario("failed", _failed, "failed", ExecutionState.FAILED, -FEE)
CANCELLED = Scenario("cancelled", _cancelled, "cancelled", ExecutionState.CANCELLED, 0)
MISSED = Scenario("missed", _missed, "missed", ExecutionState.ASSIGNED, 0)
SCENARIOS = (CANCELLED, MISSED, FAILED, PAID)
"""The longest first."""
