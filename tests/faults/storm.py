"""Faults of all kinds at random, on every link, and both processes killed again and again."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

from tests.faults.node import LINKS, POSSIBLE, FaultyNode, Process
from tests.faults.websocket_proxy import WebsocketProxy

GUST_S = (0.5, 4.0)
CALM_S = (0.2, 1.5)
SHARE = (0.05, 0.6)
LIFE_S = (2.0, 12.0)
"""Between two kills of one process, counted from when it is ready."""
DOWN_S = (0.0, 2.0)
GONE = 0.1
"""Of all gusts, in which the link is gone altogether."""


@dataclass
class Storm:
    node: FaultyNode
    rng: random.Random
    gusts: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    _is_over: asyncio.Event = field(default_factory=asyncio.Event)

    async def rage(self) -> None:
        """Until `calm` is called: then every link is whole and both processes run."""
        async with asyncio.TaskGroup() as group:
            for link in LINKS:
                for proxy in self.node.links.of(link):
                    group.create_task(self._gusts(link, proxy))
            for process in (self.node.listener, self.node.compute):
                group.create_task(self._kills(process))

    def calm(self) -> None:
        self._is_over.set()

    async def _gusts(self, link: str, proxy) -> None:
        weather = proxy.weather
        while not self._is_over.is_set():
            if self.rng.random() < GONE:
                self.gusts[f"{link} gone"] += 1
                proxy.is_gone = True
            else:
                kinds = self.rng.sample(POSSIBLE[link], 3)
                self.gusts.update(f"{link} {kind.name}" for kind in kinds)
                weather.kinds, weather.share = kinds, self.rng.uniform(*SHARE)
            if isinstance(proxy, WebsocketProxy) and self.rng.random() < 0.3:
                proxy.cut_all()
            await self._pause(GUST_S)
            proxy.is_gone = False
            weather.clear()
            await self._pause(CALM_S)

    async def _kills(self, process: Process) -> None:
        while not self._is_over.is_set():
            await self._pause(LIFE_S)
            assert process.child is not None
            process.child.check()  # it ends by our hand only
            if self._is_over.is_set():
                break
            self.kills[process.module] += 1
            await process.kill()
            await self._pause(DOWN_S)
            await process.start()
            if self.rng.random() < 0.7:  # else it may be killed while it starts
                await process.alive(self.node.http)

    async def _pause(self, between: tuple[float, float]) -> None:
        try:
            async with asyncio.timeout(self.rng.uniform(*between)):
                await self._is_over.wait()
        except TimeoutError:
            pass
