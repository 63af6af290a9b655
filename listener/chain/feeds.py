"""Which endpoint's websocket is followed: the first that stands, and the preferred one again as soon as it does.

One that is closed, refused or silent is opened anew while the next one is opened beside it. A better one is opened
while the worse is still followed, which is left only when the better stands: in between nothing is lost, and whoever
hears is told of each new one, since what was executed before it is not told.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Final

import websockets
from solders.pubkey import Pubkey

from listener.chain.endpoint import Endpoint
from listener.chain.feed import Connect, Hearer, follow
from shared.backoff import Backoff
from shared.clock import Clock
from shared.errors import ChainError, RpcInvalid, WrongCluster
from shared.ids import Slot
from shared.logs import fields
from shared.urls import shown

RECONNECT: Final = Backoff(base_s=0.2, cap_s=20.0)
STEADY_S: Final = 30.0
"""A connection that lasted so long says that the next one may be tried at once."""
OUT_PAUSE_S: Final = 5.0
"""Between two looks at whether an endpoint that is out is in again."""
PATIENCE_S: Final = 5.0
"""With the first connection to an endpoint, before the next one is opened beside it."""
MAX_RETRY_AFTER_S: Final = 300.0
BROKEN: Final = (OSError, TimeoutError, websockets.WebSocketException, ChainError)

log = logging.getLogger("listener.feed")


class _State(Enum):
    OPENING = auto()
    """For the first time: the next one is not opened beside it yet."""
    STANDS = auto()
    DOWN = auto()


class _Line:
    """One endpoint's websocket."""

    def __init__(self, rank: int, url: str, endpoint: Endpoint) -> None:
        self.rank = rank
        self.url = url
        self.endpoint = endpoint
        self.state = _State.OPENING
        self.stands_since: float | None = None


class Feeds:
    def __init__(
        self,
        urls: tuple[str, ...],
        endpoints: tuple[Endpoint, ...],
        connect: Connect,
        silence_s: float,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        """`urls` and `endpoints` are pairs, the preferred one first."""
        pairs = zip(urls, endpoints, strict=True)
        self._lines = [_Line(rank, url, endpoint) for rank, (url, endpoint) in enumerate(pairs)]
        self._connect = connect
        self._silence_s = silence_s
        self._clock = clock
        self._rng = rng
        self._changed = asyncio.Event()

    async def run(self, mentions: Pubkey, hearer: Hearer) -> None:
        """Until cancelled; it may be run again."""
        async with asyncio.TaskGroup() as group:
            for line in self._lines:
                line.state = _State.OPENING
                group.create_task(self._keep(line, mentions, hearer, group))

    @property
    def in_use(self) -> str | None:
        """The endpoint whose websocket is followed."""
        return next((line.endpoint.name for line in self._lines if line.state is _State.STANDS), None)

    async def _keep(self, line: _Line, mentions: Pubkey, hearer: Hearer, group: asyncio.TaskGroup) -> None:
        failures = 0
        while True:
            await self._until(lambda: self._is_wanted(line))
            if line.state is _State.OPENING:
                group.create_task(self._lose_patience(line))
            told = _Told(hearer, line, lambda: self._stands(line, group))
            try:
                if line.endpoint.is_out:
                    raise WrongCluster(f"{line.endpoint.name} is out: {line.endpoint.why}")
                await self._unless_better(line, self._follow(line, mentions, told))
                failures = 0
            except BROKEN as error:
                failures = 0 if self._was_steady(line) else failures
                self._note(line, _State.DOWN)
                await self._clock.sleep(self._pause_s(line, error, failures))
                failures += 1
            else:
                self._note(line, _State.DOWN)

    async def _follow(self, line: _Line, mentions: Pubkey, hearer: Hearer) -> None:
        async with self._connect(line.url) as connection:
            await follow(connection, mentions, self._silence_s, hearer)

    async def _lose_patience(self, line: _Line) -> None:
        await self._clock.sleep(PATIENCE_S)
        if line.state is _State.OPENING:
            self._note(line, _State.DOWN)

    def _stands(self, line: _Line, group: asyncio.TaskGroup) -> None:
        log.info("the websocket is open", extra=fields(url=shown(line.url)))
        line.stands_since = self._clock.monotonic()
        self._note(line, _State.STANDS)
        group.create_task(_check(line.endpoint))

    def _was_steady(self, line: _Line) -> bool:
        since, line.stands_since = line.stands_since, None
        return since is not None and self._clock.monotonic() - since >= STEADY_S

    def _pause_s(self, line: _Line, error: Exception, failures: int) -> float:
        if line.endpoint.is_out:
            return OUT_PAUSE_S
        reason = str(error) or type(error).__name__
        log.warning("the websocket is opened anew", extra=fields(url=shown(line.url), reason=reason))
        return max(_retry_after_s(error), RECONNECT.delay_s(failures, self._rng))

    def _is_wanted(self, line: _Line) -> bool:
        return all(better.state is _State.DOWN for better in self._lines[: line.rank])

    async def _unless_better(self, line: _Line, following: Awaitable[None]) -> None:
        """Raises what the following raises; returns where a better one stands."""
        work = asyncio.ensure_future(following)
        better = asyncio.ensure_future(self._until(lambda: self._is_better_standing(line)))
        try:
            await asyncio.wait((work, better), return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            better.cancel()
            await asyncio.wait((work, better))  # and not `await work`: who cancels us meanwhile must be heard
        if not work.cancelled():
            work.result()

    def _is_better_standing(self, line: _Line) -> bool:
        return any(better.state is _State.STANDS for better in self._lines[: line.rank])

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():
            await self._changed.wait()

    def _note(self, line: _Line, state: _State) -> None:
        line.state = state
        self._changed.set()
        self._changed = asyncio.Event()


class _Told:
    """Passes on what a line brings, as long as its endpoint's word counts."""

    def __init__(self, hearer: Hearer, line: _Line, stands: Callable[[], None]) -> None:
        self._hearer = hearer
        self._endpoint = line.endpoint
        self._stands = stands
        self.on_logs = hearer.on_logs

    def on_standing(self, processed: Slot) -> None:
        self._stands()
        self._hearer.on_standing(processed)

    def on_slot(self, slot: Slot, root: Slot) -> None:
        if self._endpoint.is_out:
            raise RpcInvalid(f"{self._endpoint.name} is out: {self._endpoint.why}")
        self._hearer.on_slot(slot, root)


async def _check(endpoint: Endpoint) -> None:
    """Who answers after a reconnect may be of another cluster; where it does not answer, its next answer is checked."""
    try:
        await endpoint.verify_again()
    except ChainError as error:
        log.info("the cluster was not checked", extra=fields(endpoint=endpoint.name, error=str(error)))


def _retry_after_s(error: Exception) -> float:
    """What a refused handshake asks for, in seconds; 0 where it asks for nothing that is a number."""
    if not isinstance(error, websockets.InvalidStatus):
        return 0.0
    text = error.response.headers.get("Retry-After", "")
    is_number = text.isascii() and text.isdigit() and len(text) < 6
    return min(float(text), MAX_RETRY_AFTER_S) if is_number else 0.0
