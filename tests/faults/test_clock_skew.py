"""Both processes on machines whose clocks are an hour off, before a real chain and a real S3 server that are not."""

import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

import cli.localnet.node
from cli.localnet import RunningNode, local_network, running_node
from cli.localnet.child import Child, running
from cli.localnet.requester import requester_session
from listener.chain.accounts import ExecutionState
from shared.messages import Stage
from tests.e2e.conftest import EAGER
from tests.e2e.desk import Desk, at_stage, slow_graph, slow_input, stages, states, until
from tests.faults.conftest import FULL
from tests.needs import needs

pytestmark = [pytest.mark.timeout(400), pytest.mark.validator, pytest.mark.s3]

HOUR_S = 3600
LANDING_MARGIN_S = 15


AHEAD, BEHIND = {"listener": HOUR_S, "compute": -HOUR_S}, {"listener": -HOUR_S, "compute": HOUR_S}


@pytest.mark.parametrize("skew_s", [AHEAD, BEHIND] if FULL else [AHEAD], ids=["ahead", "behind"][: 1 + FULL])
async def test_with_clocks_an_hour_off_tasks_are_paid_and_stopped_by_the_chains_time(
    monkeypatch: pytest.MonkeyPatch, skew_s: Mapping[str, int]
) -> None:
    needs("solana-test-validator", "the chain's clock decides")
    needs("versitygw", "signatures of requests hold for some minutes only")

    @asynccontextmanager
    async def process(module: str, folder: Path, env: Mapping[str, str]) -> AsyncIterator[Child]:
        command = [sys.executable, "-m", "tests.faults.an_hour_off", module, str(skew_s[module])]
        async with running(module, command, folder / f"{module}.log", env) as child:
            yield child

    monkeypatch.setattr(cli.localnet.node, "node_process", process)
    async with local_network(chain="validator", storage="s3") as net:
        for name, value in net.storage.env.items():
            monkeypatch.setenv(name, value)
        async with requester_session(net) as session, running_node(net, "node", EAGER) as node:
            desk = Desk(session, net.requester)
            assert abs(_log_is_off_by_s(node) - skew_s["listener"]) < 600, "the clock is off indeed"
            paid = (await desk.assign(node.address)).assignment.pair
            assert (await desk.ended(paid)).state is ExecutionState.COMPLETED
            slow = (
                await desk.assign(
                    node.address,
                    slow_graph(),
                    tensors=(slow_input(),),
                    units=100_000,
                    time_s=LANDING_MARGIN_S + 15,
                )
            ).assignment.pair
            await at_stage(node, slow, Stage.RUNNING)

            async def is_missed() -> bool:
                return states(node, slow) == [("missed", "DeadlinePassed")]

            await until(is_missed, "it is stopped at the deadline less the margin")
            assert "storing" not in stages(node, slow)


def _log_is_off_by_s(node: RunningNode) -> float:
    """By how much the first line of the listener's log stands beside this machine's clock."""
    first = json.loads(node.listener.log.read_text().splitlines()[0])
    return (datetime.fromisoformat(first["at"]) - datetime.now(UTC)).total_seconds()
