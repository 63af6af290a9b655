"""From a notification to the POST: how long the listener itself takes, besides the commit that must come first.

One process plays the chain (a websocket and two RPC endpoints that answer at once) and compute; the listener is its own
process with its journal on the disk. The time runs from the write of the notification to the last byte of the POST.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from solders.keypair import Keypair

from bench.lines import Goal, Line, percentile
from bench.listener.chain_peer import ChainPeer, chain_peer, framed, logs_notification
from bench.listener.compute_peer import compute_peer
from bench.listener.process import listener_at
from bench.listener.work import PROGRAM_ID, Work, assigned
from bench.machine import machine

TASKS: Final = 500
WARM_UP: Final = 20
MEAN_PAUSE_S: Final = 0.08
"""Between two notifications, drawn: the rest of a task's life goes on while the next one is notified."""
P50_MS, P99_MS = 5.0, 20.0


async def measure(*, is_tiny: bool) -> list[Line]:
    count = 5 if is_tiny else TASKS
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        took = await _took(Path(folder), count)
    own = [(total - commit) * 1000 for total, commit in took]
    commits = [commit * 1000 for _, commit in took]
    unit = f"ms, {machine()}"
    why = "Two answers of the peer, two parses of what it sent and a dozen questions to the journal are in it."
    return [
        Line(
            "notification to POST, our own time, p50",
            unit,
            percentile(own, 50),
            goal=Goal("ours", "<=", P50_MS),
            limit=why,
        ),
        Line(
            "notification to POST, our own time, p99",
            unit,
            percentile(own, 99),
            goal=Goal("ours", "<=", P99_MS),
            limit=why,
        ),
        Line("the commit before the POST, p50", unit, percentile(commits, 50)),
        Line("the commit before the POST, p99", unit, percentile(commits, 99)),
    ]


async def _took(folder: Path, count: int) -> list[tuple[float, float]]:
    """For each task the seconds from notification to POST, and how many of them passed in commits."""
    rng, key = random.Random(1), Keypair()
    spans: list[tuple[float, float]] = []
    async with (
        chain_peer() as chain,
        compute_peer() as compute,
        listener_at(chain, compute, folder, key, PROGRAM_ID, endpoints=2) as listener,
    ):
        for _ in range(WARM_UP + count):
            await asyncio.sleep(rng.expovariate(1 / MEAN_PAUSE_S))
            work = assigned(key.pubkey(), chain.slot)
            begun_at = notify(chain, work)
            held = await compute.posted(work.key)
            spans.append((begun_at, held.posted_at))
    commits = listener.commits()
    return [(end - begin, _within(commits, begin, end)) for begin, end in spans[WARM_UP:]]


def notify(chain: ChainPeer, work: Work) -> float:
    """The chain holds the work from now on, and tells of it. Returns when it told."""
    chain.accounts[work.address] = work.held
    frame = framed(logs_notification(work.signature, chain.slot, work.logs))
    now = time.monotonic()  # a loop's own time is that of its turn's begin, and uvloop's counts whole milliseconds
    chain.notify(frame)
    return now


def _within(commits: Sequence[Sequence[float]], begin: float, end: float) -> float:
    return sum(max(0.0, min(end, to) - max(begin, since)) for since, to in commits)
