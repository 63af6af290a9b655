"""An RPC endpoint on the loopback interface that answers what a test tells it to."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from listener.chain.rpc import Rpc
from listener.daemon import rpc_http
from tests.accepting import accepting


@dataclass(frozen=True)
class Reply:
    """`body` as it is where it is bytes, else as JSON; `raw` replaces the whole answer, status line included."""

    body: object = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None

    def __bytes__(self) -> bytes:
        if self.raw is not None:
            return self.raw
        content = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        headers = {"content-length": str(len(content)), "connection": "close", **self.headers}
        lines = [f"HTTP/1.1 {self.status} Told", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + content


@dataclass
class RpcServer:
    rpc: Rpc
    replies: list[Reply | Any] = field(default_factory=list)
    """For each next request: a Reply, or else the result of a well-formed answer."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    """The bodies of the requests."""
    stalls_s: float = 0.0
    """Before each byte that is sent."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.split("content-length: ")[1].split("\r\n")[0])
            asked = json.loads(await reader.readexactly(length))
            self.asked.append(asked)
            reply = self.replies.pop(0)
            if not isinstance(reply, Reply):
                reply = Reply({"jsonrpc": "2.0", "id": asked["id"], "result": reply})
            await self._send(writer, bytes(reply))
            writer.close()
            await writer.wait_closed()
        except ConnectionError:
            pass  # the client had enough of it

    async def _send(self, writer: asyncio.StreamWriter, answer: bytes) -> None:
        for piece in [answer] if not self.stalls_s else [answer[at : at + 1] for at in range(len(answer))]:
            await asyncio.sleep(self.stalls_s)
            writer.write(piece)
            await writer.drain()


@asynccontextmanager
async def running_rpc() -> AsyncIterator[RpcServer]:
    async with rpc_http() as http:
        served = RpcServer(Rpc("", http))
        async with accepting(served.serve) as port:
            served.rpc = Rpc(f"http://127.0.0.1:{port}/", http)
            yield served
