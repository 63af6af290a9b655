"""A whole local network but for the nodes: chain, program, funded keys, storage, and the shared token."""

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import httpx
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from cli.localnet.chain import Chain
from cli.localnet.deploy import Version, deploy
from cli.localnet.storage import Endpoint, LocalStorage, StorageKind, local_storage
from cli.localnet.surfpool import surfpool
from cli.localnet.validator import PROGRAM, SLOT_S, validator
from listener.chain.rpc import Rpc
from shared.errors import LocalNetworkFailed

ChainKind = Literal["auto", "validator", "surfpool"]
LAMPORTS: Final = 100_000_000_000
"""What each key gets: 100 SOL."""
FUNDED_S: Final = 30.0
HTTP_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True)
class LocalNetwork:
    """What runs, where it is, and the environment that lets a process take part in it."""

    folder: Path
    """Keys, token, storage and logs; removed at the end unless the caller gave it."""
    chain: Chain
    program_id: Pubkey
    program_version: Version
    requester: Keypair
    storage: LocalStorage
    rpc: Rpc

    @property
    def rpc_url(self) -> str:
        return self.chain.rpc_url

    @property
    def ws_url(self) -> str:
        return self.chain.ws_url

    @property
    def token_file(self) -> Path:
        return self.folder / "token"

    def chain_env(self) -> dict[str, str]:
        """What listener and requester need to reach chain and program."""
        return {
            "SPLITUP_RPC_URL": self.rpc_url,
            "SPLITUP_WS_URL": self.ws_url,
            "SPLITUP_PROGRAM_ID": str(self.program_id),
        }

    def storage_env(self) -> dict[str, str]:
        """What compute and requester need to reach the storage, and where outputs go."""
        return {
            "SPLITUP_ALLOWED_PREFIXES": self.storage.prefixes,
            "SPLITUP_OUTPUT_PREFIX": self.storage.outputs,
            **self.storage.env,
        }

    def requester_env(self) -> dict[str, str]:
        return {
            **self.chain_env(),
            **self.storage_env(),
            "SPLITUP_REQUESTER_KEYPAIR": str(self.folder / "requester.json"),
            "SPLITUP_PUBLISH_PREFIX": self.storage.tensors,
        }

    async def new_key(self, name: str) -> Keypair:
        """A funded key, also as the file `<name>.json` in the folder."""
        key = Keypair()
        write_key(self.folder / f"{name}.json", key)
        await self.fund(key.pubkey())
        return key

    async def fund(self, address: Pubkey, lamports: int = LAMPORTS) -> None:
        await fund(self.rpc, address, lamports)


@asynccontextmanager
async def local_network(
    *,
    chain: ChainKind = "auto",
    storage: StorageKind = "file",
    folder: Path | None = None,
    env: Mapping[str, str] = os.environ,
    slot_s: float = SLOT_S,
) -> AsyncIterator[LocalNetwork]:
    """Runs until the block ends and leaves no process behind, and no file unless `folder` is given.

    `env` may name an S3 endpoint to use; `slot_s` is the length of a validator's slots.
    Raises LocalNetworkFailed where this machine lacks what is asked for.
    """
    async with AsyncExitStack() as stack:
        if folder is None:
            # Short: the paths stand in URIs, and those in transactions of 1,232 bytes.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="splitup-"))).resolve()
        for name in ("chain", "storage"):
            (folder / name).mkdir()
        _write_private(folder / "token", secrets.token_urlsafe(32))
        stored = await stack.enter_async_context(local_storage(storage, folder / "storage", _endpoint(env)))
        # Requests to the loopback interface do not go through a proxy of the environment.
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=HTTP_TIMEOUT_S, trust_env=False))
        running = await stack.enter_async_context(_chain(chain, folder / "chain", http, slot_s))
        rpc = Rpc(running.rpc_url, http)
        requester, program = Keypair(), Keypair()
        write_key(folder / "requester.json", requester)
        await fund(rpc, requester.pubkey(), LAMPORTS)
        version = await deploy(rpc, requester, program)
        yield LocalNetwork(folder, running, program.pubkey(), version, requester, stored, rpc)


@asynccontextmanager
async def _chain(kind: ChainKind, folder: Path, http: httpx.AsyncClient, slot_s: float) -> AsyncIterator[Chain]:
    executable = shutil.which(PROGRAM)
    if kind == "validator" and executable is None:
        raise LocalNetworkFailed(f"{PROGRAM} is not on the PATH")
    if executable is not None and kind != "surfpool":
        async with validator(Path(executable), folder, http, slot_s) as chain:
            yield chain
    else:
        async with surfpool(folder) as chain:
            yield chain


async def fund(rpc: Rpc, address: Pubkey, lamports: int) -> None:
    """Let the faucet of a test cluster send `lamports`, and wait until they are there at `confirmed`."""
    wanted = await rpc.get_balance(address) + lamports
    await rpc.request_airdrop(address, lamports)
    try:
        async with asyncio.timeout(FUNDED_S):
            while True:
                if await rpc.get_balance(address) >= wanted:
                    return
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise LocalNetworkFailed(f"the faucet sent {address} nothing within {FUNDED_S:.0f} s") from error


def write_key(path: Path, key: Keypair) -> None:
    """As the Solana CLI writes it."""
    _write_private(path, key.to_json())


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="ascii")


def _endpoint(env: Mapping[str, str]) -> Endpoint | None:
    url, prefix = env.get("SPLITUP_S3_ENDPOINT_URL"), env.get("SPLITUP_S3_PREFIX")
    return Endpoint(url, prefix.rstrip("/")) if url and prefix else None
