"""A small HTTP/1.1 server whose answers a script gives: quick enough that what asks it is what is measured."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    body: bytes
    at: float
    """When the last byte of it was there, by the loop's clock, which is the monotonic one."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    document: object = None

    def __bytes__(self) -> bytes:
        body = b"" if self.document is None else json.dumps(self.document).encode()
        head = (
            f"HTTP/1.1 {self.status} Told\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode("ascii") + body


Script = Callable[[Request], Awaitable[Answer]]


class _Connection(asyncio.Protocol):
    """Requests of one connection, one after the other."""

    def __init__(self, script: Script, group: asyncio.TaskGroup, open_ones: set[asyncio.Transport]) -> None:
        self._script = script
        self._group = group
        self._open = open_ones
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._answering: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._open.add(self._transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        request = self._taken()
        if request is not None:
            self._answering = self._group.create_task(self._answer(request))

    def connection_lost(self, _error: Exception | None) -> None:
        assert self._transport is not None
        self._open.discard(self._transport)
        if self._answering is not None:
            self._answering.cancel()

    def _taken(self) -> Request | None:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return None
        start, *lines = self._received[:end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", "0"))
        if len(self._received) < end + 4 + length:
            return None
        body = bytes(self._received[end + 4 : end + 4 + length])
        del self._received[: end + 4 + length]
        method, path, _ = start.split(" ")
        return Request(method, path, body, time.monotonic())

    async def _answer(self, request: Request) -> None:
        answer = await self._script(request)
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.write(bytes(answer))


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[str]:
    """The URL of a server on a free port of the loopback interface, until the block ends."""
    open_ones: set[asyncio.Transport] = set()
    async with asyncio.TaskGroup() as group:
        server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(script, group, open_ones), "127.0.0.1", 0
        )
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for transport in list(open_ones):
                transport.abort()
