"""A proxy for websockets that lets faults strike the handshake and single messages of the server."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus

from websockets import ConnectionClosed, InvalidHandshake
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response

from tests.faults.weather import HANDSHAKE_FAULTS, MESSAGE_FAULTS, STATUS, Fault, Weather

HANDSHAKE = "handshake"
HELD_S = 1.0
"""So long a message may wait for another to come before it."""


@dataclass
class WebsocketProxy:
    """Pings are answered here: a stalled connection looks alive."""

    target_url: str
    weather: Weather
    port: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """Handshakes, and the server's messages by their method (`answer` where they have none)."""
    is_gone: bool = False
    open: set[ServerConnection] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def cut_all(self) -> None:
        for connection in self.open:
            connection.transport.abort()

    async def on_handshake(self, connection: ServerConnection, _request: Request) -> Response | None:
        self.counts[HANDSHAKE] += 1
        fault = Fault.CUT if self.is_gone else self.weather.draw(HANDSHAKE, HANDSHAKE_FAULTS)
        if fault is Fault.CUT:
            connection.transport.abort()
        if fault in STATUS:
            return connection.respond(HTTPStatus(STATUS[fault]), "the proxy's own answer")
        return None

    async def serve(self, client: ServerConnection) -> None:
        self.open.add(client)
        try:
            async with connect(self.target_url, proxy=None, max_size=None) as server:
                ways = [
                    asyncio.ensure_future(self._to_server(client, server)),
                    asyncio.ensure_future(self._to_client(client, server)),
                    asyncio.ensure_future(client.wait_closed()),
                ]
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, InvalidHandshake, TimeoutError):
            pass
        finally:
            self.open.discard(client)
            client.transport.abort()

    async def _to_server(self, client, server) -> None:
        async for message in client:
            await server.send(message)

    async def _to_client(self, client, server) -> None:
        while True:
            await self._pass_on(await server.recv(), client, server)

    async def _pass_on(self, message: str, client: ServerConnection, server) -> None:
        name = str(json.loads(message).get("method", "answer"))
        self.counts[name] += 1
        weather = self.weather
        match weather.draw(name, MESSAGE_FAULTS):
            case Fault.CUT:
                raise ConnectionClosed(None, None)
            case Fault.TRUNCATE:
                frame = Frame(Opcode.TEXT, message.encode()).serialize(mask=False)
                client.transport.write(frame[: weather.rng.randrange(1, len(frame))])
                client.transport.close()
                await client.wait_closed()
            case Fault.DELAY:
                await asyncio.sleep(weather.rng.uniform(0, weather.delay_s))
                await client.send(message)
            case Fault.STALL:
                await asyncio.sleep(weather.stall_s)
                raise ConnectionClosed(None, None)
            case Fault.DRIP:
                await client.send(_characters(message))
            case Fault.DUPLICATE:
                await client.send(message)
                await client.send(message)
            case Fault.REORDER:
                with suppress(TimeoutError):
                    async with asyncio.timeout(HELD_S):
                        await client.send(await server.recv())
                await client.send(message)
            case _:
                await client.send(message)


async def _characters(message: str) -> AsyncIterator[str]:
    for character in message:
        yield character
        await asyncio.sleep(0)


@asynccontextmanager
async def websocket_proxy(target_url: str, weather: Weather) -> AsyncIterator[WebsocketProxy]:
    """On a free port of the loopback interface, until the block ends."""
    proxy = WebsocketProxy(target_url, weather)
    async with serve(
        proxy.serve, "127.0.0.1", 0, process_request=proxy.on_handshake, max_size=None, ping_interval=None
    ) as server:
        proxy.port = server.sockets[0].getsockname()[1]
        yield proxy
        proxy.cut_all()
