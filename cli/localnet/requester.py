"""A requester in a local network, as the commands work with one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cli.localnet.network import LocalNetwork
from requester.session import Session, open_session
from requester.settings import RequesterSettings

PREFIX = "SPLITUP_"


@asynccontextmanager
async def requester_session(net: LocalNetwork, name: str = "requester") -> AsyncIterator[Session]:
    """The session of the key `<name>.json`. On S3 its credentials must stand in this process's environment."""
    given = {**net.requester_env(), "SPLITUP_REQUESTER_KEYPAIR": str(net.folder / f"{name}.json")}
    settings = {key.removeprefix(PREFIX).lower(): value for key, value in given.items() if key.startswith(PREFIX)}
    async with open_session(RequesterSettings.model_validate(settings)) as session:
        yield session
