"""HTTP without sockets: httpx's transports in front of the simulated provider and compute."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import httpx

from tests.simulation.faults import Fault, Faults
from tests.simulation.process import Gate
from tests.simulation.provider import Provider, RpcError

FOR_EVER_S: Final = 100_000.0
HTTP_FAULTS: Final = ("down", "hang", "slow", "busy", "error", "lost answer", "garbage")
Serve = Callable[[httpx.Request], Awaitable[httpx.Response]]


class FaultyTransport(httpx.AsyncBaseTransport):
    """Each request takes its time, may be refused, lost on the way there or back, and honours its time-outs."""

    def __init__(
        self, gate: Gate, rng: random.Random, trace: Callable[[str], None], latency_s: tuple[float, float]
    ) -> None:
        self._gate = gate
        self._rng = rng
        self._trace = trace
        self._latency_s = latency_s

    async def send(self, request: httpx.Request, name: str, faults: Faults, serve: Serve) -> httpx.Response:
        self._gate.effect(f"before {name}")
        fault = faults.strikes(HTTP_FAULTS)
        timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
        try:
            async with asyncio.timeout(timeouts.get("read")):
                response = await self._answer(request, fault, serve)
        except TimeoutError:
            self._trace(f"{name}: no answer")
            raise httpx.ReadTimeout("no answer in time", request=request) from None
        self._trace(f"{name}: {response.status_code} {fault.kind if fault else ''}")
        self._gate.effect(f"after {name}")
        return response

    async def _answer(self, request: httpx.Request, fault: Fault | None, serve: Serve) -> httpx.Response:
        kind = fault.kind if fault else ""
        await asyncio.sleep(self._rng.uniform(*self._latency_s))
        match kind:
            case "down":
                raise httpx.ConnectError("refused", request=request)
            case "hang":
                await asyncio.sleep(FOR_EVER_S)
            case "slow":
                await asyncio.sleep(self._rng.uniform(0.5, 8.0))
            case "busy":
                after = {} if self._rng.random() < 0.3 else {"Retry-After": str(self._rng.randint(0, 4))}
                return httpx.Response(429, headers=after, content=b"{}")
            case "error":
                return httpx.Response(self._rng.choice([500, 502, 503]), content=b"<html>")
        response = await serve(request)
        await asyncio.sleep(self._rng.uniform(*self._latency_s))
        if kind == "lost answer":
            raise httpx.ReadError("reset", request=request)
        if kind == "garbage":
            whole = response.content
            return httpx.Response(response.status_code, content=whole[: self._rng.randint(0, len(whole))])
        return response


class RpcTransport(FaultyTransport):
    """`providers` by the host of their URL."""

    def __init__(self, providers: Mapping[str, Provider], *args: Any) -> None:
        super().__init__(*args)
        self._providers = providers

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        provider = self._providers[request.url.host]
        asked = json.loads(request.content)
        name = f"{provider.name} {asked['method']}"

        async def serve(_: httpx.Request) -> httpx.Response:
            return httpx.Response(200, content=json.dumps(_answered(provider, asked)).encode())

        return await self.send(request, name, provider.faults, serve)


def _answered(provider: Provider, asked: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"jsonrpc": "2.0", "id": asked["id"]}
    try:
        answer["result"] = provider.answer(asked["method"], asked["params"])
    except RpcError as error:
        answer["error"] = {"code": error.code, "message": error.message}
    return answer


class ComputeTransport(FaultyTransport):
    def __init__(self, faults: Faults, serve: Serve, *args: Any) -> None:
        super().__init__(*args)
        self._faults = faults
        self._serve = serve

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        name = f"compute {request.method} {request.url.path}"
        return await self.send(request, name, self._faults, self._serve)
