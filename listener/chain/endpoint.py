"""One provider of the chain: its budget, its health, and whether it is of this cluster."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, TypeVar

import httpx

from listener.alarms import Alarm, sound
from listener.chain.budget import Budget, Urgency
from listener.chain.rpc import Rpc
from shared.backoff import Backoff
from shared.clock import Clock
from shared.errors import RpcInvalid, RpcRateLimited, RpcUnavailable, WrongCluster
from shared.logs import fields
from shared.urls import shown

MAX_PAUSE_S: Final = 60.0
"""That a provider may ask for: deadlines do not wait for it."""
TIMEOUT_S: Final = {Urgency.SUBMIT: 5.0, Urgency.WORK: 5.0, Urgency.SEARCH: 30.0}
"""For one whole answer. Where another endpoint may be asked, an early end of the wait is worth more than the answer."""
AGAIN: Final = Backoff(base_s=0.5, cap_s=30.0)
"""Until an endpoint that failed is preferred again."""
OUT_S: Final = 3_600.0
"""Until one of another cluster, or one that was outvoted, is looked at again."""

_T = TypeVar("_T")

log = logging.getLogger("listener.endpoint")


class Endpoint:
    def __init__(self, name: str, rpcs: Mapping[Urgency, Rpc], clock: Clock, rng: random.Random) -> None:
        self.name = name
        self._rpcs = rpcs
        self._clock = clock
        self._rng = rng
        self._failures = 0
        self._away_until = -1.0
        self._silent_until = -1.0
        """It asked for a pause: nothing is sent to it before."""
        self._out_until = -1.0
        self._cluster: str | None = None
        self._is_verified = False
        self._verifying = asyncio.Lock()
        self.why: str | None = None
        """Why it is not well; None where it is."""

    @classmethod
    def at(
        cls, url: str, http: httpx.AsyncClient, requests_per_s: float, clock: Clock, rng: random.Random
    ) -> "Endpoint":
        """The endpoint behind a URL, which is sent no more than `requests_per_s`."""
        budget = Budget(requests_per_s, clock)
        rpcs = {one: Rpc(url, http, partial(budget.take, one), TIMEOUT_S[one]) for one in Urgency}
        return cls(shown(url), rpcs, clock, rng)

    @property
    def is_well(self) -> bool:
        """Whether it answered the last time, or may be tried again."""
        return self._clock.monotonic() >= self._away_until

    @property
    def is_out(self) -> bool:
        """Nothing that it says counts: it is of another cluster, or was outvoted."""
        return self._clock.monotonic() < self._out_until

    async def genesis_hash(self) -> str:
        """Raises ChainError."""
        return await self._ask(lambda rpc: _genesis_hash(rpc), Urgency.SUBMIT)

    def belongs_to(self, cluster: str) -> None:
        """From now on answers count only where its genesis hash is this one."""
        self._cluster = cluster

    async def ask(self, question: Callable[[Rpc], Awaitable[_T]], urgency: Urgency) -> _T:
        """Raises ChainError: what the question raises, and WrongCluster."""
        if not self._is_verified:
            failures = self._failures
            async with self._verifying:
                if self._failures > failures:  # it failed whoever asked just before: nobody waits for it in turn
                    raise RpcUnavailable(f"{self.name}: {self.why}")
                await self._verify()
        return await self._ask(question, urgency)

    async def verify_again(self) -> None:
        """Ask for its cluster: who answers may be another than before. Raises ChainError."""
        self._is_verified = False
        async with self._verifying:
            await self._verify()

    def take_out(self, why: str) -> None:
        """For an hour."""
        sound(Alarm.ENDPOINT_OUT, endpoint=self.name, why=why)
        self.why = why
        self._is_verified = False
        self._out_until = self._clock.monotonic() + OUT_S

    async def _verify(self) -> None:
        """At the first question, and after each outage: who answers may be another."""
        if self._is_verified or self._cluster is None:
            return
        found = await self.genesis_hash()
        if found != self._cluster:
            self.take_out(f"it is of the cluster {found}, not of {self._cluster}")
            raise WrongCluster(f"{self.name}: {self.why}")
        self._is_verified = True

    async def _ask(self, question: Callable[[Rpc], Awaitable[_T]], urgency: Urgency) -> _T:
        left_s = self._silent_until - self._clock.monotonic()
        if left_s > 0.0:
            raise RpcRateLimited(f"{self.name} asked for a pause, of which {left_s:.1f} s are left", left_s)
        try:
            answer = await question(self._rpcs[urgency])
        except RpcRateLimited as error:
            asked_s = None if error.retry_after_s is None else min(error.retry_after_s, MAX_PAUSE_S)
            self._silent_until = self._clock.monotonic() + (asked_s or 0.0)
            self._failed(error, asked_s)
            raise
        except (RpcUnavailable, RpcInvalid) as error:
            self._failed(error, None)
            self._is_verified = False
            raise
        self._failures, self._away_until, self.why = 0, -1.0, None
        return answer

    def _failed(self, error: Exception, retry_after_s: float | None) -> None:
        pause_s = AGAIN.delay_s(self._failures, self._rng) if retry_after_s is None else retry_after_s
        self._failures += 1
        self._away_until = self._clock.monotonic() + pause_s
        if self.why is None:
            log.warning("the endpoint is not well", extra=fields(endpoint=self.name, error=str(error)))
        self.why = str(error)


async def _genesis_hash(rpc: Rpc) -> str:
    return str(await rpc.get_genesis_hash())
