"""Hundreds of tasks while faults of all kinds strike at random and both processes are killed again and again."""

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cli.localnet.storage import BUCKET
from listener.chain.accounts import ExecutionState
from requester.assign import Assignment, assign
from shared.errors import TransactionRefused
from shared.ids import TaskKey
from tests.e2e.desk import A, Desk, journal, new_pair, until
from tests.faults.chain_records import landed_of
from tests.faults.conftest import FULL, Place
from tests.faults.node import MANY, FaultyNode, faulty_node, last_lines
from tests.faults.scenarios import FAILING
from tests.faults.storm import Storm

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(7_200 if FULL else 900),
    pytest.mark.validator,
    pytest.mark.s3,
]

TASKS = 2_000 if FULL else 200
RATE = 4.0
"""Assigned a second."""
TIME_S = 7_000
SETTLED_WITHIN_S = 600.0
FAILING_SHARE, CANCELLED_SHARE = 0.1, 0.1
CANCELLED_AFTER_S = 3.0
"""At most."""
STATES = {
    ExecutionState.COMPLETED: "paid",
    ExecutionState.FAILED: "failed",
    ExecutionState.CANCELLED: "cancelled",
}
"""On the chain, and in the journal."""
ENDS = "SELECT task_id, state FROM tasks UNION ALL SELECT task_id, state FROM history"
UNSETTLED = """SELECT count(*) FROM tasks WHERE owed <> 'nothing'
               OR state NOT IN ('paid', 'failed', 'refused', 'cancelled', 'missed')"""


async def test_no_task_is_lost_and_none_is_paid_twice_in_a_storm(
    place: Place, seed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    desk, rng = place.desk, random.Random(seed)
    trusted = {**MANY, "SPLITUP_REQUESTER_ALLOWLIST": desk.session.requester}
    async with faulty_node(place.net, "soak", seed, trusted) as node:
        before = await place.net.rpc.get_balance(node.address)
        storm = Storm(node, random.Random(f"{seed}/storm"))
        async with asyncio.TaskGroup() as group:
            group.create_task(storm.rage())
            pairs = await assigned(desk, node, rng)
            storm.calm()
        try:
            await until(lambda: all_settled(node), "all are settled", SETTLED_WITHIN_S)
        except AssertionError:
            sql = "SELECT state, owed, reason, count(*) FROM tasks GROUP BY 1, 2, 3"
            print(journal(node, sql), last_lines(node))
            raise
        ends = dict(journal(node, ENDS))
        outputs = place.net.folder / "storage" / BUCKET / "outputs" / desk.session.requester
        wrong = [fault for pair in pairs for fault in await faults_of(desk, node, pair, ends, outputs)]
        earned = await place.net.rpc.get_balance(node.address) - before
        ((booked,),) = journal(node, "SELECT coalesce(sum(lamports), 0) FROM ledger")
        with capsys.disabled():
            print(f"\n{TASKS} tasks: {dict(Counter(ends.values()))}; kills: {dict(storm.kills)}")
            print(f"gusts: {dict(sorted(storm.gusts.items()))}")
            print(f"lamports by the chain {earned}, by the ledger {booked}")
        assert wrong == []
        assert len(ends) == len(pairs)
        assert booked == earned
        assert (await node.http.get(f"{node.compute_url}/api/task")).json() == []


async def assigned(desk: Desk, node: FaultyNode, rng: random.Random) -> list[TaskKey]:
    """Every pair, the last of them assigned a moment ago; some fail, some are cancelled meanwhile."""
    working = await desk.assignment(node.address, time_s=TIME_S)
    failing = await desk.assignment(node.address, FAILING, tensors=(A, torch.ones(3)), time_s=TIME_S)
    pairs: list[TaskKey] = []
    async with asyncio.TaskGroup() as group:
        for _ in range(TASKS):
            one = replace(failing if rng.random() < FAILING_SHARE else working, pair=new_pair())
            cancel_after_s = rng.uniform(0, CANCELLED_AFTER_S) if rng.random() < CANCELLED_SHARE else None
            pairs.append(one.pair)
            group.create_task(lead(desk, one, cancel_after_s))
            await asyncio.sleep(rng.expovariate(RATE))
    return pairs


async def lead(desk: Desk, assignment: Assignment, cancel_after_s: float | None) -> None:
    await assign(desk.session, assignment)
    if cancel_after_s is None:
        return
    await asyncio.sleep(cancel_after_s)
    pair = assignment.pair
    with suppress(TransactionRefused):  # it had ended before
        await desk.session.send(
            "cancel_execution",
            {"execution_id": pair.execution_id, "task_id": pair.task_id},
            {"assigned_node": assignment.node},
        )


async def all_settled(node: FaultyNode) -> bool:
    ((unsettled,),) = journal(node, UNSETTLED)
    return unsettled == 0 and len(journal(node, ENDS)) == TASKS


async def faults_of(desk: Desk, node: FaultyNode, pair: TaskKey, ends: dict[str, str], outputs: Path) -> list[str]:
    """What chain, journal and storage do not agree on."""
    execution = await desk.session.execution(pair)
    shown = execution and execution.state
    landed = await landed_of(desk, node.address, pair, int(shown is not ExecutionState.CANCELLED))
    succeeded = [one for one in landed if one.err is None]
    stored = objects(outputs / pair.execution_id)
    is_paid = shown is ExecutionState.COMPLETED
    checks = {
        f"the chain shows {shown}, the journal {ends.get(pair.task_id)}": STATES.get(shown)
        == ends.get(pair.task_id),
        f"{len(succeeded)} transactions ended it": len(succeeded) == (shown is not ExecutionState.CANCELLED),
        f"it failed to land: {[one.err for one in landed if one.err]}": len(succeeded) == len(landed),
        f"{len(stored)} objects": len(stored) == is_paid,
        "an object is not named by its hash": all(hashed(path) == path.stem for path in stored),
        "the chain names another object": not is_paid
        or all(path.name.encode() in succeeded[0].raw for path in stored),
    }
    return [f"{pair}: {what}" for what, holds in checks.items() if not holds]


def objects(folder: Path) -> Sequence[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def hashed(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
