"""What a requester's commands work with: the chain, the program, the key, and the storage."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import httpx
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from compute.storage import open_storage
from compute.storage.store import Storage
from listener.chain.accounts import Execution, read_execution
from listener.chain.idl import Program, load_idl
from listener.chain.keyfile import load_keypair, parse_public_key
from listener.chain.rpc import Rpc
from program import IDL_PATH
from requester.sending import Landed, send
from requester.settings import RequesterSettings
from shared.clock import Clock, SystemClock
from shared.errors import ConfigurationError
from shared.http import NO_PROXY_FOR_LOOPBACK
from shared.ids import Requester, Slot, TaskKey
from shared.uris import ObjectUri

RPC_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True)
class Session:
    rpc: Rpc
    program: Program
    key: Keypair
    storage: Storage
    publish_prefix: ObjectUri
    allowed_prefixes: tuple[ObjectUri, ...]
    """Below one of them outputs must lie."""
    clock: Clock = field(default_factory=SystemClock)

    @property
    def requester(self) -> Requester:
        return Requester(str(self.key.pubkey()))

    async def send(self, name: str, args: dict[str, object], accounts: dict[str, Pubkey] | None = None) -> Landed:
        """Send the program's instruction `name` and wait until it is confirmed. See requester.sending.send."""
        keys = {"requester": self.key.pubkey(), **(accounts or {})}
        instruction = self.program.encode_instruction(name, args, keys)
        return await send(self.rpc, [instruction], [self.key], self.program.error_name, self.clock)

    async def execution(self, pair: TaskKey, at_least: Slot | None = None) -> Execution | None:
        """The pair's account at `confirmed`, or None where there is none. Raises ChainError."""
        address = self.program.execution_address(pair.execution_id, pair.task_id)
        found = await read_execution(self.rpc, self.program, address, min_context_slot=at_least)
        return found.execution


@asynccontextmanager
async def open_session(settings: RequesterSettings) -> AsyncIterator[Session]:
    """Raises ConfigurationError, KeyFileError or IdlInvalid where a setting is wrong."""
    key = load_keypair(settings.requester_keypair)
    program = load_idl(settings.idl or IDL_PATH, parse_public_key(settings.program_id, "SPLITUP_PROGRAM_ID"))
    if program.by_transactions is not None:
        raise ConfigurationError(f"the requester's commands read accounts, but {program.by_transactions}")
    async with httpx.AsyncClient(timeout=RPC_TIMEOUT_S, mounts=NO_PROXY_FOR_LOOPBACK) as http:
        storage = open_storage(settings)
        try:
            yield Session(
                rpc=Rpc(settings.rpc_url, http),
                program=program,
                key=key,
                storage=storage,
                publish_prefix=settings.publish_prefix,
                allowed_prefixes=settings.places,
            )
        finally:
            storage.close()
