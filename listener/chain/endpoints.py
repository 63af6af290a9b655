"""The providers of the chain in the operator's order: who is asked, and who is asked next where one does not answer."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import httpx

from listener.alarms import Alarm, sound
from listener.chain.budget import Urgency
from listener.chain.endpoint import Endpoint
from listener.chain.rpc import Rpc
from shared.backoff import Backoff
from shared.clock import Clock
from shared.errors import ChainError, RpcInvalid, RpcRateLimited, RpcRefused, RpcUnavailable, WrongCluster

RETRY: Final = Backoff(base_s=0.5, cap_s=15.0)
NEXT_ONE: Final = (RpcUnavailable, RpcRateLimited, RpcInvalid, RpcRefused, WrongCluster)
"""After these another endpoint may know better."""

_T = TypeVar("_T")


class Endpoints:
    def __init__(self, endpoints: Sequence[Endpoint], clock: Clock, rng: random.Random) -> None:
        self.all = tuple(endpoints)
        self._clock = clock
        self._rng = rng

    @classmethod
    def at(
        cls, urls: Sequence[str], http: httpx.AsyncClient, requests_per_s: float, clock: Clock, rng: random.Random
    ) -> "Endpoints":
        """Those behind these URLs, each of which is sent no more than `requests_per_s`."""
        return cls([Endpoint.at(url, http, requests_per_s, clock, rng) for url in urls], clock, rng)

    async def join(self, expected: str | None) -> str:
        """The genesis hash of the cluster: `expected`, or what two endpoints say alike where there are two.

        Asked until they do, for they may start after us, and what is taken here is kept for good. Raises WrongCluster
        where all of them are of another than `expected`.
        """
        failures, last_told = 0, ""
        while True:
            found = await self._genesis_hashes()
            cluster = expected or self._agreed(list(found.values()))
            if cluster in found.values():
                for endpoint in self.all:
                    endpoint.belongs_to(str(cluster))
                return str(cluster)
            told = ", ".join(f"{endpoint.name} is of {cluster}" for endpoint, cluster in found.items())
            if expected and len(found) == len(self.all):
                raise WrongCluster(f"no endpoint is of the cluster {expected}: {told}")
            if failures and told != last_told:
                sound(Alarm.CLUSTER_UNKNOWN, told=told)
                last_told = told
            await self._clock.sleep(RETRY.delay_s(failures, self._rng))
            failures += 1

    def _agreed(self, hashes: Sequence[str]) -> str | None:
        """What most say, and at least two of them where there are two."""
        votes = Counter(hashes)
        most = max(votes.values(), default=0)
        leaders = [cluster for cluster, count in votes.items() if count == most]
        return leaders[0] if len(leaders) == 1 and most >= min(2, len(self.all)) else None

    async def _genesis_hashes(self) -> dict[Endpoint, str]:
        answers = await asyncio.gather(*(endpoint.genesis_hash() for endpoint in self.all), return_exceptions=True)
        found: dict[Endpoint, str] = {}
        for endpoint, answer in zip(self.all, answers, strict=True):
            if isinstance(answer, str):
                found[endpoint] = answer
            elif not isinstance(answer, ChainError):
                raise answer
        return found

    def usable(self) -> list[Endpoint]:
        """Those whose word counts: the well ones first, each group in the operator's order."""
        return sorted((one for one in self.all if not one.is_out), key=lambda one: not one.is_well)

    def well(self) -> list[Endpoint]:
        """Those of them that answered the last time, or may be tried again."""
        return [one for one in self.usable() if one.is_well]

    async def ask(self, question: Callable[[Rpc], Awaitable[_T]], urgency: Urgency) -> _T:
        """The answer of the first that gives one.

        A question of several calls is put to one endpoint. Raises RpcRefused where every endpoint refused it, else the
        error of the first that did not answer.
        """
        errors: list[ChainError] = []
        for endpoint in self.usable():
            try:
                return await endpoint.ask(question, urgency)
            except NEXT_ONE as error:
                errors.append(error)
        raise self._worst(errors)

    async def tell_all(self, message: Callable[[Rpc], Awaitable[object]]) -> None:
        """To every one that is well (to all, where none is). Raises ChainError where nobody took it."""
        told = self.well() or self.usable()
        answers = await asyncio.gather(*(one.ask(message, Urgency.SUBMIT) for one in told), return_exceptions=True)
        errors: list[ChainError] = []
        for answer in answers:
            if isinstance(answer, ChainError):
                errors.append(answer)
            elif isinstance(answer, BaseException):
                raise answer
        if len(errors) == len(answers):
            raise self._worst(errors)

    def _worst(self, errors: Sequence[ChainError]) -> ChainError:
        if not errors:
            told = "; ".join(f"{one.name}: {one.why}" for one in self.all)
            return RpcUnavailable(f"no endpoint may be asked: {told}")
        return next((error for error in errors if not isinstance(error, RpcRefused)), errors[0])
