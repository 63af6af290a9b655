"""A node in a local network: listener and compute as the processes that an operator runs."""

import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from cli.localnet.child import Child, running
from cli.localnet.network import HTTP_TIMEOUT_S, LocalNetwork
from cli.localnet.ports import free_ports

READY_S: Final = 90.0
"""For torch to be loaded on a slow disk."""


@dataclass(frozen=True)
class RunningNode:
    """A node that is ready. `http` carries the token and speaks to whichever URL it is given."""

    name: str
    key: Keypair
    folder: Path
    listener: Child
    compute: Child
    listener_url: str
    compute_url: str
    env: Mapping[str, str]
    """Of both processes."""
    http: httpx.AsyncClient

    @property
    def address(self) -> Pubkey:
        return self.key.pubkey()


@asynccontextmanager
async def running_node(
    net: LocalNetwork, name: str = "node", settings: Mapping[str, str] | None = None
) -> AsyncIterator[RunningNode]:
    """A node with a funded key of its own, until the block ends. `settings` are more environment variables."""
    key = await net.new_key(name)
    folder = net.folder / name
    folder.mkdir()
    first = free_ports(2)
    listener_url, compute_url = (f"http://127.0.0.1:{port}" for port in (first, first + 1))
    env = {
        **inherited(),
        **node_env(net, name),
        "SPLITUP_LISTENER_PORT": listener_url.rpartition(":")[2],
        "SPLITUP_COMPUTE_PORT": compute_url.rpartition(":")[2],
        "SPLITUP_COMPUTE_URL": compute_url,
        **(settings or {}),
    }
    token = net.token_file.read_text(encoding="ascii")
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(
            httpx.AsyncClient(
                headers={"Authorization": f"Bearer {token}"}, timeout=HTTP_TIMEOUT_S, trust_env=False
            )
        )
        # The listener is left first: it submits what is computed, and compute is asked to forget what is settled.
        compute = await stack.enter_async_context(node_process("compute", folder, env))
        listener = await stack.enter_async_context(node_process("listener", folder, env))
        await _ready(compute, http, compute_url)
        await _ready(listener, http, listener_url)
        yield RunningNode(name, key, folder, listener, compute, listener_url, compute_url, env, http)


def node_env(net: LocalNetwork, name: str) -> dict[str, str]:
    """The settings of listener and compute of the node whose key is `<name>.json`, but for their ports."""
    return {
        **net.chain_env(),
        **net.storage_env(),
        "SPLITUP_KEYPAIR": str(net.folder / f"{name}.json"),
        "SPLITUP_TOKEN_FILE": str(net.token_file),
        "SPLITUP_JOURNAL": str(net.folder / name / "journal.sqlite"),
        "SPLITUP_STATE_DIR": str(net.folder / name / "state"),
    }


def inherited() -> dict[str, str]:
    """The environment without the caller's own settings, which are another node's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SPLITUP_")}


@asynccontextmanager
async def node_process(module: str, folder: Path, env: Mapping[str, str]) -> AsyncIterator[Child]:
    """One of a node's two processes, until the block ends; started again, it finds what it left in the folder."""
    async with running(module, [sys.executable, "-m", module], folder / f"{module}.log", env) as child:
        yield child


async def _ready(child: Child, http: httpx.AsyncClient, url: str) -> None:
    async def answers_ready() -> bool:
        try:
            return (await http.get(f"{url}/ready")).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    await child.until(answers_ready, "it is not ready", READY_S)
