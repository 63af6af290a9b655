"""A scripted S3 server, for answers that no well-behaved server gives on demand."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from compute.storage.retry import RetryPolicy
from compute.storage.s3 import S3Storage
from shared.uris import parse_object_uri, parse_prefix

OBJECT = parse_object_uri("s3://tensors/public/object")
CONTENT = bytes(range(100))


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]


@dataclass
class ScriptedServer:
    answer: Callable[[Request], tuple[int, dict[str, str], bytes]]
    requests: list[Request] = field(default_factory=list)
    port: int = 0
    connections: set[asyncio.Task] = field(default_factory=set)
    cuts: list[int] = field(default_factory=list)
    """For each next request: its answer ends after so many bytes."""
    bodies: list[bytes] = field(default_factory=list)
    keeps_open: bool = False
    reads_bodies: bool = True
    waits_for: asyncio.Barrier | None = None
    """So many requests are answered at once."""
    answers_per_connection: int | None = None
    """It closes with the next request on it, as it happens to one that comes just when an idle one is closed."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(asyncio.current_task())
        # Whoever asks may leave before it is answered.
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._serve(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._answer(reader, writer)
        answered = 1
        while self.keeps_open and answered != self.answers_per_connection:
            await self._answer(reader, writer)
            answered += 1
        if self.keeps_open:
            await reader.readexactly(1)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        if self.reads_bodies:
            self.bodies.append(await reader.readexactly(int(headers.get("content-length", 0))))
        method, path, _ = first.split(" ")
        request = Request(method, path, headers)
        self.requests.append(request)
        if self.waits_for is not None:
            await self.waits_for.wait()
        status, extra, body = self.answer(request)
        fields = {
            "Content-Length": str(len(body)),
            "Connection": "keep-alive" if self.keeps_open else "close",
            **extra,
        }
        lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in fields.items() if value)]
        raw = "\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if method == "HEAD" else body)
        writer.write(raw[: self.cuts.pop(0)] if self.cuts else raw)
        await writer.drain()


@asynccontextmanager
async def scripted(answer, tls: ssl.SSLContext | None = None):
    """A scripted server and storage on it."""
    script = ScriptedServer(answer)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0, ssl=tls)
    script.port = server.sockets[0].getsockname()[1]
    storage = S3Storage(
        [parse_prefix("s3://tensors")],
        endpoint_url=f"{'https' if tls else 'http'}://127.0.0.1:{script.port}",
        region="us-east-1",
        path_style=True,
        policy=RetryPolicy(patience_s=0.5),
    )
    try:
        yield script, storage
    finally:
        storage.close()
        server.close()
        for connection in script.connections:
            connection.cancel()
        await asyncio.gather(*script.connections, return_exceptions=True)


def error(status: int, code: str, **headers: str):
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message></Error>".encode()
    return status, headers, body


def ranged(request: Request, content: bytes = CONTENT):
    first, last = map(int, request.headers["range"].removeprefix("bytes=").split("-"))
    piece = content[first : last + 1]
    return 206, {"Content-Range": f"bytes {first}-{first + len(piece) - 1}/{len(content)}"}, piece


def in_turn(*answers):
    """The answers one after the other; the last one for good."""
    left = list(answers)

    def answer(request):
        return (left.pop(0) if len(left) > 1 else left[0])(request)

    return answer
