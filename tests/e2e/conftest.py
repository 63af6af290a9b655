"""One local network for the tests of this folder: a real chain, storage in a folder, two nodes, a requester."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio

from cli.localnet import LocalNetwork, RunningNode, local_network, running_node
from cli.localnet.requester import requester_session
from tests.e2e.desk import Desk
from tests.needs import needs

EAGER = {"SPLITUP_BACKFILL_INTERVAL_S": "1", "SPLITUP_LIST_INTERVAL_S": "3", "SPLITUP_THREADS": "1"}
"""So that every way of hearing of work tells of the same work, many times."""


@dataclass(frozen=True)
class World:
    net: LocalNetwork
    desk: Desk
    node: RunningNode
    other_node: RunningNode


@asynccontextmanager
async def made_world() -> AsyncIterator[World]:
    async with (
        local_network(chain="validator") as net,
        requester_session(net) as session,
        running_node(net, "node", EAGER) as node,
        running_node(net, "other", EAGER) as other,
    ):
        yield World(net, Desk(session, net.requester), node, other)


@pytest.fixture(scope="session")
def has_validator() -> Iterator[None]:
    needs("solana-test-validator", "these tests need a chain that tells truly of failed transactions")
    yield


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def world(has_validator: None) -> AsyncIterator[World]:
    async with made_world() as made:
        yield made
