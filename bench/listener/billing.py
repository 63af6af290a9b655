"""What a provider bills: requests that the listener sends, counted by a proxy before each of two RPC endpoints.

A scripted compute takes half a second to a few for each task, so that as many as wished are in flight.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from solders.pubkey import Pubkey

from bench.lines import Goal, Line
from bench.listener.compute_peer import ComputePeer, Held, compute_peer
from bench.listener.on_chain import assign, listener_on
from cli.localnet import LocalNetwork
from listener.chain.accounts import list_live
from listener.chain.idl import load_idl
from program import IDL_PATH
from shared.ids import TaskKey
from tests.faults.http_proxy import HttpProxy, http_proxy
from tests.faults.weather import Weather
from tests.faults.websocket_proxy import WebsocketProxy, websocket_proxy

ENDPOINTS: Final = 2
TASKS, IN_FLIGHT, LONE, IDLE_S = 300, 50, 5, 120.0
COMPUTES_S: Final = (0.5, 4.0)
LOOK_S: Final = 0.2
MOST_TOGETHER, MOST_LONE, MOST_IDLE = 6.0, 14.0, 12.0


@dataclass
class Meters:
    rpcs: list[HttpProxy] = field(default_factory=list)
    websockets: list[WebsocketProxy] = field(default_factory=list)

    def requests(self) -> Counter[str]:
        return sum((proxy.counts for proxy in self.rpcs), Counter())

    def notifications(self) -> int:
        return sum(proxy.counts.total() for proxy in self.websockets)


async def measure(net: LocalNetwork, *, is_tiny: bool) -> list[Line]:
    tasks, lone, idle_s = (4, 1, 2.0) if is_tiny else (TASKS, LONE, IDLE_S)
    async with _meters(net) as meters, compute_peer() as compute:
        compute.on_post = lambda held: held.done.set()
        settings = {
            "SPLITUP_RPC_URL": ",".join(proxy.url for proxy in meters.rpcs),
            "SPLITUP_WS_URL": ",".join(proxy.url for proxy in meters.websockets),
        }
        async with listener_on(net, "billed", compute.url, settings) as (_, key):
            await _finish(compute, await assign(net, key.pubkey(), 1))  # what is asked once in a life is asked
            before, notified = meters.requests(), meters.notifications()
            await asyncio.sleep(idle_s)
            idle, idle_notified = meters.requests() - before, meters.notifications() - notified
            before = meters.requests()
            for _ in range(lone):
                await _finish(compute, await assign(net, key.pubkey(), 1))
            alone = meters.requests() - before
            before = meters.requests()
            await _finish_together(net, compute, key.pubkey(), tasks)
            together = meters.requests() - before
    return [
        _line(f"RPC requests per finished task, {IN_FLIGHT} in flight", together, tasks, MOST_TOGETHER),
        _line("RPC requests for a lone task", alone, lone, MOST_LONE),
        _line("RPC requests per idle minute", idle, idle_s / 60, MOST_IDLE),
        Line("notifications per idle minute", f"messages, {ENDPOINTS} endpoints", idle_notified / idle_s * 60),
    ]


def _line(name: str, counts: Counter[str], units: float, most: float) -> Line:
    told = ", ".join(f"{method} {count / units:.2g}" for method, count in counts.most_common())
    goal = Goal("ours", "<=", most)
    return Line(
        name, f"requests, {ENDPOINTS} endpoints", counts.total() / units, goal=goal, limit=f"Of them {told}."
    )


async def _finish(compute: ComputePeer, pairs: list[TaskKey]) -> None:
    """Until each is paid, and that is final."""
    for pair in pairs:
        await (await compute.posted(pair)).acknowledged.wait()


async def _finish_together(net: LocalNetwork, compute: ComputePeer, node: Pubkey, count: int) -> None:
    """Whenever one ends on the chain another is assigned, so that as many as IN_FLIGHT are open."""
    rng, loop = random.Random(1), asyncio.get_running_loop()

    def computes(held: Held) -> None:
        loop.call_later(rng.uniform(*COMPUTES_S), held.done.set)

    compute.on_post = computes
    program = load_idl(IDL_PATH, net.program_id)
    pairs: list[TaskKey] = []
    while len(pairs) < count:
        is_open = len(await list_live(net.rpc, program, node))
        pairs += await assign(net, node, min(IN_FLIGHT - is_open, count - len(pairs)))
        await asyncio.sleep(LOOK_S)
    await _finish(compute, pairs)


@asynccontextmanager
async def _meters(net: LocalNetwork) -> AsyncIterator[Meters]:
    clear = Weather(random.Random(1))
    async with AsyncExitStack() as stack:
        meters = Meters()
        for _ in range(ENDPOINTS):
            port = urlsplit(net.rpc_url).port
            assert port is not None
            meters.rpcs.append(await stack.enter_async_context(http_proxy(port, clear)))
            meters.websockets.append(await stack.enter_async_context(websocket_proxy(net.ws_url, clear)))
        yield meters
