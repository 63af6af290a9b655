"""One real chain with slots of 200 ms and blockhashes of 30 s, one S3 server, one requester, and a seed."""

import os
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from cli.localnet import LocalNetwork, local_network
from cli.localnet.requester import requester_session
from tests.e2e.desk import Desk
from tests.needs import needs

SLOT_S = 0.2
FULL = os.environ.get("FULL") == "1"


@dataclass(frozen=True)
class Place:
    net: LocalNetwork
    desk: Desk


@pytest.fixture(scope="session")
def fault_seed() -> str:
    """FAULTS_SEED, or a new one. It stands in the report of a test that fails."""
    return os.environ.get("FAULTS_SEED") or str(random.SystemRandom().randrange(10**6))


@pytest.fixture
def seed(fault_seed: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """This test's own, so that it draws the same alone as among others."""
    print(f"draw the same faults again with FAULTS_SEED={fault_seed}")
    yield f"{fault_seed}/{request.node.name}"


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def place() -> AsyncIterator[Place]:
    needs("solana-test-validator", "faults strike a node on a real chain")
    needs("versitygw", "faults strike a node with real S3 storage")
    async with local_network(chain="validator", storage="s3", slot_s=SLOT_S) as net:
        # The requester's side runs in this process, and finds its credentials as boto3 does.
        with pytest.MonkeyPatch.context() as patch:
            for name, value in net.storage.env.items():
                patch.setenv(name, value)
            async with requester_session(net) as session:
                yield Place(net, Desk(session, net.requester))
