"""A chain by solana-test-validator: the real runtime, with slots of 400 ms unless asked otherwise."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx

from cli.localnet.chain import Chain
from cli.localnet.child import running
from cli.localnet.ports import free_ports
from listener.chain.rpc import Rpc
from shared.errors import ChainError

PROGRAM: Final = "solana-test-validator"
START_S: Final = 60.0
DYNAMIC_PORTS: Final = 40
"""Ports for its gossip, repair and transaction sockets."""
TICK_S: Final = 0.00625
KEPT_SHREDS: Final = 1_000_000
"""An empty slot has 32 or more. Of no more than the validator's own 10,000 the history is lost within minutes, and with
it what a requester looks up there: by which transaction its task ended."""
SLOT_S: Final = 0.4
"""As on the real clusters; a blockhash lives 150 slots."""


@asynccontextmanager
async def validator(
    executable: Path, folder: Path, http: httpx.AsyncClient, slot_s: float = SLOT_S
) -> AsyncIterator[Chain]:
    """Runs until the block ends, its ledger in `folder`. Transactions are taken as soon as it is entered."""
    first = free_ports(DYNAMIC_PORTS + 4)
    rpc_port, websocket_port, faucet_port, gossip_port, dynamic = (first + place for place in range(5))
    command: list[str | Path] = [
        executable,
        "--ledger",
        folder / "ledger",
        "--reset",
        "--quiet",
        "--bind-address",
        "127.0.0.1",
    ]
    command += ["--rpc-port", str(rpc_port), "--faucet-port", str(faucet_port), "--gossip-port", str(gossip_port)]
    command += ["--dynamic-port-range", f"{dynamic}-{dynamic + DYNAMIC_PORTS - 1}"]
    command += ["--ticks-per-slot", str(round(slot_s / TICK_S))]
    command += ["--limit-ledger-size", str(KEPT_SHREDS)]
    chain = Chain(PROGRAM, f"http://127.0.0.1:{rpc_port}", f"ws://127.0.0.1:{websocket_port}")
    rpc = Rpc(chain.rpc_url, http)

    async def makes_slots() -> bool:
        try:
            return await rpc.get_slot() > 0
        except ChainError:
            return False

    async with running(PROGRAM, command, folder / "chain.log", cwd=folder) as child:
        # Not getHealth: it says "ok" only half a minute later, from the first finalized slot on.
        await child.until(makes_slots, "no confirmed slot", START_S)
        yield chain
