"""A requester at a local node: its key is one of the secrets, chain and storage are the containers'."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from solders.keypair import Keypair

from requester.session import Session, open_session
from requester.settings import RequesterSettings
from tests.docker.compose import Compose
from tests.program.chain import PROGRAM_ID

TENSORS, OUTPUTS = "s3://splitup/tensors", "s3://splitup/outputs"


def node_key(compose: Compose) -> Keypair:
    return Keypair.from_json((compose.secrets / "node.json").read_text())


@asynccontextmanager
async def local_session(compose: Compose) -> AsyncIterator[Session]:
    """The keys of the S3 server must stand in this process's environment."""
    settings = {
        "requester_keypair": compose.secrets / "requester.json",
        "rpc_url": f"http://{compose.address('chain', 8899)}",
        "program_id": str(PROGRAM_ID),
        "s3_endpoint_url": f"http://{compose.address('s3', 7070)}",
        "allowed_prefixes": f"{TENSORS},{OUTPUTS}",
        "publish_prefix": TENSORS,
    }
    async with open_session(RequesterSettings.model_validate(settings)) as session:
        yield session
