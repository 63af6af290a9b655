"""How long a node that was off needs for 10,000 signatures that it missed, and how long the RPC's answers alone take.

The endpoint answers each request after 50 ms. The bare figure asks it for the same number of answers of each kind, as
many at a time as the listener did, and does nothing with them.
"""

import asyncio
import base64
import sqlite3
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import httpx
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import Transaction

from bench.lines import Goal, Line
from bench.listener.chain_peer import ChainPeer, chain_peer
from bench.listener.compute_peer import compute_peer
from bench.listener.process import Counted, listener_at
from bench.listener.work import PROGRAM_ID, Work, assigned, completed_logs
from bench.machine import cpu_s, machine
from tests.program.instructions import COMPLETED

MISSED: Final = 10_000
ANSWER_S: Final = 0.05
"""As of a provider that is some countries away."""
READ_ALL: Final = {"SPLITUP_MENTION_READS_PER_MINUTE": "1000000"}
LONG_AGO: Final = 100_000
"""Slots."""
PATIENCE_S: Final = 600.0
MOST_RATIO: Final = 2.0
"""Up to here the answers take the larger part of the time."""


async def measure(*, is_tiny: bool) -> list[Line]:
    count = 20 if is_tiny else MISSED
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with chain_peer() as chain:
            took_s, used_s = await _ours(chain, Path(folder), Keypair(), count)
            asked, at_once = Counter(chain.asked), chain.most_at_once
            bare_s = await _bare(chain, asked, at_once)
    told = ", ".join(f"{number} {method}" for method, number in asked.most_common())
    return [
        Line(
            f"catching up on {count:,} missed signatures",
            f"s, an endpoint that answers after {ANSWER_S * 1000:.0f} ms, {machine()}",
            took_s,
            bare=bare_s,
            goal=Goal("ratio", "<=", MOST_RATIO),
            limit=f"It asked {told}, at most {at_once} at once.",
        ),
        Line("the listener's CPU for it, its start included", f"s, {machine()}", used_s),
    ]


async def _ours(chain: ChainPeer, folder: Path, key: Keypair, count: int) -> tuple[float, float]:
    """Seconds until the cursor stands at the newest signature, and the CPU seconds that took."""
    journal = folder / "journal.sqlite"
    _miss(chain, key.pubkey(), 1)
    async with compute_peer() as compute:
        async with listener_at(chain, compute, folder, key, PROGRAM_ID) as listener:
            await _reaches(listener, journal, chain.rows[0]["signature"])
        _miss(chain, key.pubkey(), count)
        chain.asked.clear()
        chain.first_asked_at, chain.most_at_once, chain.answer_s = None, 0, ANSWER_S
        async with listener_at(chain, compute, folder, key, PROGRAM_ID, READ_ALL) as listener:
            await _reaches(listener, journal, chain.rows[0]["signature"])
            assert chain.first_asked_at is not None
            return time.monotonic() - chain.first_asked_at, cpu_s(listener.pid)


async def _reaches(listener: Counted, journal: Path, signature: str) -> None:
    async def is_there() -> bool:
        with sqlite3.connect(f"file:{journal}?mode=ro", uri=True) as db:
            rows = db.execute("SELECT signature FROM cursor").fetchall()
        db.close()
        return rows == [(signature,)]

    await listener.child.until(is_there, "the cursor is not at the newest signature", PATIENCE_S)


async def _bare(chain: ChainPeer, asked: Counter[str], at_once: int) -> float:
    """Seconds for as many answers of each kind."""
    bodies = [_request(chain, method) for method, number in asked.items() for _ in range(number)]
    places = asyncio.Semaphore(at_once)
    async with httpx.AsyncClient(trust_env=False, timeout=60.0) as http:

        async def ask(body: dict[str, Any]) -> None:
            async with places:
                (await http.post(chain.rpc_url, json=body)).json()

        begun_at = time.monotonic()
        await asyncio.gather(*map(ask, bodies))
        return time.monotonic() - begun_at


def _request(chain: ChainPeer, method: str) -> dict[str, Any]:
    name, address = chain.rows[0]["signature"], next(iter(chain.accounts))
    params: dict[str, list[object]] = {
        "getTransaction": [name],
        "getAccountInfo": [address],
        "getMultipleAccounts": [[address]],
        "getSignaturesForAddress": [address, {}],
        "getSignatureStatuses": [[name]],
        "getMinimumBalanceForRentExemption": [300],
    }
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params.get(method, [])}


def _miss(chain: ChainPeer, node: Pubkey, count: int) -> None:
    """So many transactions that mention the node, newer than what was there: tasks assigned, and since completed."""
    first = chain.slot - count // 2 if chain.rows else chain.slot - LONG_AGO
    for number in range(count):
        slot = first + number // 2
        work = assigned(node, slot, state=COMPLETED)
        chain.accounts[work.address] = work.held
        logs = work.logs if number % 2 else completed_logs(work.key, node)
        row = {"signature": work.signature, "slot": slot, "err": None, "memo": None, "blockTime": None}
        chain.rows.insert(0, row | {"confirmationStatus": "finalized"})
        chain.transactions[work.signature] = _transaction(work, slot, logs)


def _transaction(work: Work, slot: int, logs: tuple[str, ...]) -> dict[str, Any]:
    payer = Keypair.from_seed(bytes([3] * 32))
    call = Instruction(PROGRAM_ID, b"assign", [AccountMeta(Pubkey.from_string(work.address), False, True)])
    message = Message.new_with_blockhash([call], payer.pubkey(), Hash.default())
    raw = bytes(Transaction([payer], message, Hash.default()))
    meta = {"err": None, "logMessages": list(logs), "innerInstructions": [], "loadedAddresses": None}
    return {
        "slot": slot,
        "blockTime": None,
        "transaction": [base64.b64encode(raw).decode(), "base64"],
        "meta": {**meta, "fee": 5000, "preBalances": [], "postBalances": [], "status": {"Ok": None}},
    }
