"""A TCP proxy for tests that cuts, stalls or slows what goes through it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.accepting import accepting

PIECE_BYTES = 16 << 10


@dataclass
class Proxy:
    """Faults may be changed at any time; they hold for what is forwarded from then on."""

    target_port: int
    cuts: list[int] = field(default_factory=list)
    """For each next connection: it is closed after so many bytes of the server's."""
    bytes_per_s: float | None = None
    """Speed of each connection, in each direction; None forwards as fast as it goes."""
    stalled: bool = False
    """Nothing is forwarded while this is set."""
    port: int = 0
    connections: int = 0
    open: int = 0
    """Connections that neither side has closed."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        cut = self.cuts.pop(0) if self.cuts else None
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
            await self._both_ways(reader, writer, there_reader, there_writer, cut)
        except ConnectionError:
            pass  # nothing listens there
        finally:
            self.open -= 1

    async def _both_ways(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there_reader: asyncio.StreamReader,
        there_writer: asyncio.StreamWriter,
        cut: int | None,
    ) -> None:
        """Until one side closes; what came before that is still passed on."""
        ways = [
            asyncio.ensure_future(self._forward(reader, there_writer, None)),
            asyncio.ensure_future(self._forward(there_reader, writer, cut)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for end in (writer, there_writer):
                end.close()
            await asyncio.gather(writer.wait_closed(), there_writer.wait_closed(), return_exceptions=True)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            there_writer.transport.abort()

    async def _forward(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, cut: int | None) -> None:
        with suppress(ConnectionError):
            while piece := await source.read(PIECE_BYTES if cut is None else min(cut, PIECE_BYTES)):
                while self.stalled:  # noqa: ASYNC110 # a test flips a plain flag
                    await asyncio.sleep(0.01)
                if self.bytes_per_s is not None:
                    await asyncio.sleep(len(piece) / self.bytes_per_s)
                target.write(piece)
                await target.drain()
                if cut is not None:
                    cut -= len(piece)


@asynccontextmanager
async def running_proxy(target_port: int) -> AsyncIterator[Proxy]:
    """Forwards a free port of the loopback interface to `target_port` until the block ends."""
    proxy = Proxy(target_port)
    async with accepting(proxy.serve) as proxy.port:
        yield proxy
