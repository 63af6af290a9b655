"""Races on a real chain: two machines with one key, and a cancellation against what is signed already."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from cli.localnet import RunningNode, local_network, running_node
from cli.localnet.requester import requester_session
from listener.chain.accounts import ExecutionState
from requester.cancel import cancel
from tests.e2e.conftest import EAGER
from tests.e2e.desk import (
    FEE,
    FINALITY_S,
    REWARD,
    Desk,
    in_state,
    journal,
    sees_the_notice,
    states,
    unknown_at_compute,
    until,
)
from tests.faults.http_proxy import http_proxy
from tests.faults.node import errors
from tests.faults.weather import Fault, Weather
from tests.needs import needs

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(400),
    pytest.mark.validator,
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def net() -> AsyncIterator[object]:
    needs("solana-test-validator", "races are decided by a real chain")
    async with local_network(chain="validator") as made:
        yield made


@asynccontextmanager
async def node_behind_weather(
    net, name: str, settings: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[RunningNode, Weather]]:
    """A node whose requests to the chain go through a proxy."""
    weather = Weather(random.Random(1))
    port = int(net.rpc_url.rpartition(":")[2])
    async with http_proxy(port, weather) as proxy:
        env = {**EAGER, "SPLITUP_RPC_URL": proxy.url, **(settings or {})}
        async with running_node(net, name, env) as node:
            yield node, weather


def sends_nothing(weather: Weather) -> None:
    weather.kinds, weather.share, weather.only = (Fault.CUT,), 1.0, frozenset({"sendTransaction"})


async def test_of_two_machines_with_one_key_one_is_paid_and_the_other_books_it_so(net) -> None:
    async with (
        requester_session(net) as session,
        node_behind_weather(net, "first") as (first, first_weather),
        node_behind_weather(net, "second", {"SPLITUP_KEYPAIR": str(net.folder / "first.json")}) as (
            second,
            second_weather,
        ),
    ):
        desk = Desk(session, net.requester)
        before = await net.rpc.get_balance(first.address)
        sends_nothing(first_weather)
        sends_nothing(second_weather)
        pair = (await desk.assign(first.address, time_s=600)).assignment.pair
        await in_state(first, pair, ("submitting", None))
        await in_state(second, pair, ("submitting", None))
        first_weather.clear()
        assert (await desk.ended(pair)).state is ExecutionState.COMPLETED
        second_weather.clear()
        await in_state(first, pair, ("paid", None))
        await in_state(second, pair, ("paid", "PaidByAnotherSignature"))
        await unknown_at_compute(first, pair)
        await unknown_at_compute(second, pair)
        folder = net.folder / "storage" / "outputs" / session.requester / pair.execution_id
        assert len(list(folder.rglob("*.safetensors"))) == 1, "neither deleted what both point to"
        gained = await net.rpc.get_balance(first.address) - before
        assert 0 < gained <= REWARD - FEE, "paid once; the loser may have paid for its try"
        assert errors(second.listener.log) == []
        later = (await desk.assign(first.address)).assignment.pair
        assert (await desk.ended(later)).state is ExecutionState.COMPLETED


async def test_a_cancellation_of_what_is_signed_changes_nothing(net) -> None:
    async with requester_session(net) as session, node_behind_weather(net, "signed") as (node, weather):
        desk = Desk(session, net.requester)
        before = await net.rpc.get_balance(node.address)
        sends_nothing(weather)
        pair = (await desk.assign(node.address, time_s=600)).assignment.pair
        await in_state(node, pair, ("submitting", None))
        cancelling = asyncio.create_task(cancel(session, pair))
        await desk.in_notice(pair)
        await until(lambda: sees_the_notice(node, pair), "the node has seen the notice", 30)
        assert states(node, pair) == [("submitting", None)]
        weather.clear()
        assert (await cancelling).state is ExecutionState.COMPLETED
        await in_state(node, pair, ("paid", None))
        assert 0 < await net.rpc.get_balance(node.address) - before <= REWARD - FEE


async def test_nothing_is_signed_for_what_the_notice_leaves_no_time_for(net) -> None:
    settings = {"SPLITUP_LANDING_MARGIN_S": "29"}
    async with requester_session(net) as session, node_behind_weather(net, "late", settings) as (node, weather):
        desk = Desk(session, net.requester)
        weather.kinds, weather.share = (Fault.CUT,), 1.0
        weather.only = frozenset({"getLatestBlockhash"})  # without one nothing can be signed
        pair = (await desk.assign(node.address, time_s=600)).assignment.pair
        await in_state(node, pair, ("computed", None))
        cancelling = asyncio.create_task(cancel(session, pair))
        await desk.in_notice(pair)
        await in_state(node, pair, ("cancelled", "CancelledByRequester"))
        weather.clear()
        assert (await cancelling).state is ExecutionState.CANCELLED
        await unknown_at_compute(node, pair)
        assert journal(node, "SELECT count(*) FROM outbox") == [(0,)]
        folder = net.folder / "storage" / "outputs" / session.requester / pair.execution_id
        await until(lambda: _is_empty(folder), "what it had stored is deleted", FINALITY_S)


async def _is_empty(folder) -> bool:
    return not list(folder.rglob("*.safetensors"))
