"""A node whose every link goes through a proxy, and whose processes can be killed and started again."""

import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from cli.localnet import LocalNetwork
from cli.localnet.child import Child, running
from cli.localnet.node import node_env
from cli.localnet.ports import free_ports
from tests.faults.http_proxy import HttpProxy, http_proxy
from tests.faults.weather import HANDSHAKE_FAULTS, HTTP_FAULTS, MESSAGE_FAULTS, Weather
from tests.faults.websocket_proxy import WebsocketProxy, websocket_proxy

EAGER = {
    "SPLITUP_BACKFILL_INTERVAL_S": "2",
    "SPLITUP_LIST_INTERVAL_S": "4",
    "SPLITUP_WATCHDOG_SILENCE_S": "3",
    "SPLITUP_LANDING_MARGIN_S": "5",
    "SPLITUP_STORAGE_PATIENCE_S": "60",
    "SPLITUP_THREADS": "1",
    "SPLITUP_FEE_SHARE": "0.0025",
}
"""So that a fault is noticed, and passed, within the seconds of a test. The share of a reward of 2,000,000 lamports is
the base fee, so that each submission costs the same, however long a machine that is busy takes for it."""
MANY = {
    "SPLITUP_MAX_OPEN_TASKS": "100000",
    "SPLITUP_MAX_UNPAID_A_DAY": "100000",
    "SPLITUP_RPC_REQUESTS_PER_S": "500",
}
"""Where one requester assigns many tasks, and many of them fail."""
READY_S = 90.0
NO_S3 = "http://127.0.0.1:0"
"""Where objects lie in folders."""


@dataclass
class Process:
    """`python -m listener` or `python -m compute`, on a folder that outlives it."""

    module: str
    folder: Path
    env: dict[str, str]
    url: str
    child: Child | None = None
    _closing: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def log(self) -> Path:
        return self.folder / f"{self.module}.log"

    async def start(self, module: str | None = None, **env: str) -> None:
        """`module`: a test's own entry point of it."""
        command = [sys.executable, "-m", module or self.module]
        starting = running(self.module, command, self.log, {**self.env, **env})
        self.child = await self._closing.enter_async_context(starting)

    async def kill(self) -> None:
        """SIGKILL, to it and to whatever it started in its group; it may have ended a moment ago."""
        assert self.child is not None
        with suppress(ProcessLookupError):
            os.killpg(self.child.process.pid, signal.SIGKILL)
        await self.child.process.wait()
        await self.close()

    async def stop(self) -> int:
        """SIGTERM; its exit status."""
        assert self.child is not None
        status = await self.child.stop()
        await self.close()
        return status

    async def close(self) -> None:
        await self._closing.aclose()
        self.child = None

    async def ready(self, http: httpx.AsyncClient) -> None:
        await self._until(http, "ready")

    async def alive(self, http: httpx.AsyncClient) -> None:
        await self._until(http, "health")

    async def _until(self, http: httpx.AsyncClient, path: str) -> None:
        async def answers() -> bool:
            try:
                return (await http.get(f"{self.url}/{path}")).status_code == httpx.codes.OK
            except httpx.TransportError:
                return False

        assert self.child is not None
        await self.child.until(answers, f"/{path} does not say so", READY_S)


@dataclass(frozen=True)
class Links:
    """Two endpoints of one chain; compute as the listener sees it; storage as compute sees it."""

    rpc: tuple[HttpProxy, HttpProxy]
    websocket: tuple[WebsocketProxy, WebsocketProxy]
    compute: HttpProxy
    s3: HttpProxy

    def of(self, name: str) -> tuple[HttpProxy | WebsocketProxy, ...]:
        found = getattr(self, name)
        return found if isinstance(found, tuple) else (found,)


LINKS = ("rpc", "websocket", "compute", "s3")
POSSIBLE = dict.fromkeys(LINKS, HTTP_FAULTS) | {
    "websocket": tuple(dict.fromkeys((*MESSAGE_FAULTS, *HANDSHAKE_FAULTS)))
}


@dataclass(frozen=True)
class FaultyNode:
    name: str
    key: Keypair
    folder: Path
    links: Links
    listener: Process
    compute: Process
    http: httpx.AsyncClient
    """Carries the token, and goes around the proxies."""

    @property
    def address(self) -> Pubkey:
        return self.key.pubkey()

    @property
    def compute_url(self) -> str:
        return self.compute.url

    async def start(self) -> None:
        for process in (self.compute, self.listener):
            await process.start()
        for process in (self.compute, self.listener):
            await process.ready(self.http)


@asynccontextmanager
async def links(net: LocalNetwork, compute_port: int, seed: str) -> AsyncIterator[Links]:
    def weather(link: str) -> Weather:
        return Weather(random.Random(f"{seed}/{link}"))

    async with AsyncExitStack() as stack:
        rpc = [await stack.enter_async_context(http_proxy(_port(net.rpc_url), weather(f"rpc{n}"))) for n in "01"]
        websocket = [
            await stack.enter_async_context(websocket_proxy(net.ws_url, weather(f"websocket{n}"))) for n in "01"
        ]
        s3_url = net.storage.env.get("SPLITUP_S3_ENDPOINT_URL", NO_S3)
        s3 = await stack.enter_async_context(http_proxy(_port(s3_url), weather("s3")))
        compute = await stack.enter_async_context(http_proxy(compute_port, weather("compute")))
        yield Links((rpc[0], rpc[1]), (websocket[0], websocket[1]), compute, s3)


@asynccontextmanager
async def faulty_node(
    net: LocalNetwork, name: str, seed: str, settings: Mapping[str, str] | None = None, *, endpoints: int = 2
) -> AsyncIterator[FaultyNode]:
    """With a funded key of its own, both processes running and ready, until the block ends."""
    async with unstarted_node(net, name, seed, settings, endpoints=endpoints) as node:
        await node.start()
        yield node


@asynccontextmanager
async def unstarted_node(
    net: LocalNetwork, name: str, seed: str, settings: Mapping[str, str] | None = None, *, endpoints: int = 2
) -> AsyncIterator[FaultyNode]:
    """The same, but nothing runs yet."""
    key = await net.new_key(name)
    folder = net.folder / name
    folder.mkdir()
    # Not one that the system may give to a connection while a process is down.
    listener_port = free_ports(2)
    compute_port = listener_port + 1
    token = net.token_file.read_text(encoding="ascii")
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        links(net, compute_port, f"{seed}/{name}") as linked,
        httpx.AsyncClient(headers=headers, timeout=20, trust_env=False) as http,
    ):
        env = {
            **{given: value for given, value in os.environ.items() if not given.startswith("SPLITUP_")},
            **node_env(net, name),
            "SPLITUP_RPC_URL": ",".join(proxy.url for proxy in linked.rpc[:endpoints]),
            "SPLITUP_WS_URL": ",".join(proxy.url for proxy in linked.websocket[:endpoints]),
            "SPLITUP_S3_ENDPOINT_URL": linked.s3.url,
            "SPLITUP_COMPUTE_URL": linked.compute.url,
            "SPLITUP_LISTENER_PORT": str(listener_port),
            "SPLITUP_COMPUTE_PORT": str(compute_port),
            **EAGER,
            **(settings or {}),
        }
        listener = Process("listener", folder, env, f"http://127.0.0.1:{listener_port}")
        compute = Process("compute", folder, env, f"http://127.0.0.1:{compute_port}")
        node = FaultyNode(name, key, folder, linked, listener, compute, http)
        try:
            yield node
        finally:
            for process in (listener, compute):
                await process.close()


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def errors(listener_log: Path) -> list[str]:
    """The messages that its listener logged as errors; alarms are among them, by their names."""
    lines = [json.loads(line) for line in listener_log.read_text().splitlines() if line.startswith("{")]
    return [line["message"] for line in lines if line["level"] == "error"]


def last_lines(node: FaultyNode, count: int = 6) -> str:
    """The ends of both logs, for the message of a failing test."""
    return "\n".join(
        line
        for process in (node.listener, node.compute)
        for line in [f"-- {process.module}", *process.log.read_text().splitlines()[-count:]]
    )
