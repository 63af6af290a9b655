"""The node's processes as a benchmark starts them: as an operator does, but through counted.py."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from solders.keypair import Keypair

from bench.listener.chain_peer import ChainPeer
from bench.listener.compute_peer import ComputePeer
from cli.localnet.child import Child, running
from cli.localnet.network import write_key
from cli.localnet.node import READY_S, inherited
from cli.localnet.ports import free_ports

Span = tuple[float, float]


@dataclass
class Counted:
    """A process, and what counted.py writes down of it."""

    child: Child
    spans: Path

    @property
    def pid(self) -> int:
        return self.child.process.pid

    def commits(self) -> list[Span]:
        """Begin and end of each, in seconds by the monotonic clock."""
        return [span for name, span in self._read() if name == "commit"]

    def fsyncs(self) -> int:
        """So far, those of commits included."""
        return len(self._read())

    def _read(self) -> list[tuple[str, Span]]:
        lines = [line.split() for line in self.spans.read_text(encoding="ascii").splitlines()]
        return [(name, (float(begin), float(end))) for name, begin, end in lines]


@asynccontextmanager
async def counted(module: str, folder: Path, env: Mapping[str, str]) -> AsyncIterator[Counted]:
    spans = folder / f"{module}-spans"
    command = [sys.executable, "-m", "bench.listener.counted", module]
    given = {**inherited(), **env, "BENCH_SPANS": str(spans)}
    async with running(module, command, folder / f"{module}.log", given) as child:
        yield Counted(child, spans)


@asynccontextmanager
async def listener_at(
    chain: ChainPeer,
    compute: ComputePeer,
    folder: Path,
    key: Keypair,
    program_id: object,
    settings: Mapping[str, str] | None = None,
    endpoints: int = 1,
) -> AsyncIterator[Counted]:
    """A listener between two scripted peers, once it follows the chain."""
    write_key(folder / "key.json", key)
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text("a token that is long enough to be taken", encoding="ascii")
    env = {
        "SPLITUP_KEYPAIR": str(folder / "key.json"),
        "SPLITUP_TOKEN_FILE": str(token),
        "SPLITUP_JOURNAL": str(folder / "journal.sqlite"),
        "SPLITUP_RPC_URL": ",".join([chain.rpc_url] * endpoints),
        "SPLITUP_WS_URL": ",".join([chain.ws_url] * endpoints),
        "SPLITUP_RPC_REQUESTS_PER_S": "100000",
        "SPLITUP_PROGRAM_ID": str(program_id),
        "SPLITUP_COMPUTE_URL": compute.url,
        "SPLITUP_LISTENER_PORT": str(free_ports(1)),
        **(settings or {}),
    }
    async with counted("listener", folder, env) as process:

        async def follows() -> bool:
            return bool(chain.connections)

        await process.child.until(follows, "it does not follow the chain", READY_S)
        await asyncio.sleep(1.0)  # for its first listing and backfill
        yield process
