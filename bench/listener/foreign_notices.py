"""Notifications that are none of ours: a program followed by its id tells of every other node's work too.

One process writes frames as fast as they are read; who reads is kept on one core, and what counts is that core's time.
The bare figure is a loop over the same messages that parses each as JSON. A notification for this node ends each part:
its POST tells that all before it were read.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from solders.keypair import Keypair
from solders.pubkey import Pubkey

from bench.lines import Goal, Line
from bench.listener.chain_peer import ChainPeer, chain_peer, framed, logs_notification
from bench.listener.compute_peer import ComputePeer, compute_peer
from bench.listener.notice_to_post import notify
from bench.listener.process import Counted, listener_at
from bench.listener.work import PROGRAM_ID, assigned
from bench.machine import cpu_s, machine, pin, resident_bytes
from tests.unit.chain_bytes import changed

PARTS, PART = 10, 100_000
WRITTEN_AHEAD: Final = 1 << 20
"""Bytes that wait for a slow reader at most."""
AT_ONCE: Final = 100
STRANGER: Final = Pubkey([3] * 32)
LEAST_RATIO, MOST_GROWTH_MB = 0.5, 2.0


async def measure(*, is_tiny: bool) -> list[Line]:
    parts, part = (2, 500) if is_tiny else (PARTS, PART)
    everyone = os.sched_getaffinity(0)
    reader, *others = sorted(everyone)
    os.sched_setaffinity(0, others or everyone)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            bare = [await _bare(reader, part)]
            rates, sizes = await _ours(Path(folder), reader, parts, part)
            bare.append(await _bare(reader, part))
    finally:
        os.sched_setaffinity(0, everyone)
    # In the first half the memory of what was heard of lately fills, and its table grows for the last time.
    growth_mb = (sizes[-1] - sizes[parts // 2 - 1]) / 1e6
    return [
        Line(
            f"foreign notifications, {parts * part:,} of them",
            f"in one second of a core, {machine()}",
            statistics.median(rates),
            bare=statistics.median(bare),
            goal=Goal("ratio", ">=", LEAST_RATIO),
            limit="Each is parsed as JSON, and its log searched for what is ours; the ratio is what that leaves.",
        ),
        Line(
            f"memory's growth over the second half of {parts * part:,}",
            "MB",
            growth_mb,
            goal=Goal("ours", "<=", MOST_GROWTH_MB),
        ),
    ]


async def _bare(core: int, count: int) -> float:
    """Messages in a second of the core's time."""
    async with chain_peer() as chain:
        command = [sys.executable, "-m", "bench.listener.bare_reader", chain.ws_url, str(count)]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        pin(process.pid, [core])
        while not chain.connections:  # noqa: ASYNC110 # it is another's set
            await asyncio.sleep(0.01)
        await _blast(chain, count + 2)
        told, _ = await process.communicate()
    return count / float(told)


async def _ours(folder: Path, core: int, parts: int, part: int) -> tuple[list[float], list[int]]:
    """Messages in a second of the core's time, and the process's memory, for each part."""
    key = Keypair()
    idl = folder / "idl.json"
    idl.write_text(json.dumps(_without_node_account()), encoding="utf-8")
    settings = {"SPLITUP_IDL": str(idl), "SPLITUP_WATCHDOG_SILENCE_S": "600"}
    rates: list[float] = []
    sizes: list[int] = []
    async with (
        chain_peer() as chain,
        compute_peer() as compute,
        listener_at(chain, compute, folder, key, PROGRAM_ID, settings) as listener,
    ):
        pin(listener.pid, [core])
        for _ in range(parts):
            rates.append(part / await _part(chain, compute, listener, key.pubkey(), part))
            sizes.append(resident_bytes(listener.pid))
    return rates, sizes


async def _part(chain: ChainPeer, compute: ComputePeer, listener: Counted, node: Pubkey, count: int) -> float:
    """The core's seconds that the listener took for so many."""
    begun_at = cpu_s(listener.pid)
    await _blast(chain, count)
    work = assigned(node, chain.slot)
    notify(chain, work)
    await compute.posted(work.key)
    return cpu_s(listener.pid) - begun_at


async def _blast(chain: ChainPeer, count: int) -> None:
    (connection,) = chain.connections
    frames = _frames(chain.slot)
    for _ in range(0, count, AT_ONCE):
        chain.notify(b"".join(next(frames) for _ in range(AT_ONCE)))
        while connection.transport.get_write_buffer_size() > WRITTEN_AHEAD:  # noqa: ASYNC110 # nothing tells of it
            await asyncio.sleep(0.0005)


def _frames(slot: int) -> Iterator[bytes]:
    """Assignments of another node, each under a signature of its own."""
    work = assigned(STRANGER, slot)
    frame = framed(logs_notification(work.signature, slot, work.logs))
    head, tail = frame.split(work.signature.encode())
    kept = work.signature[:-8].encode()
    number = 0
    while True:
        number += 1
        yield b"%b%b%b%b" % (head, kept, _base58_digits(number), tail)


_DIGITS: Final = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def _base58_digits(number: int) -> bytes:
    """The last 8 digits of a signature."""
    digits = bytearray()
    for _ in range(8):
        number, digit = divmod(number, 58)
        digits.append(_DIGITS[digit])
    return bytes(reversed(digits))


def _without_node_account() -> object:
    """The IDL of a program whose instructions do not name the node, so that the program's id is followed."""
    document = changed("instructions", "assign_task", "accounts", "assigned_node")
    return changed("instructions", "cancel_execution", "accounts", "assigned_node", document=document)
