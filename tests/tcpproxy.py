"""A TCP proxy for tests that cuts, stalls or slows what goes through it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

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
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        ways = [
            asyncio.ensure_future(self._forward(reader, there_writer, None)),
            asyncio.ensure_future(self._forward(there_reader, writer, cut)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.open -= 1
            for way in ways:
                way.cancel()
            for end in (writer, there_writer):
                end.close()

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
    connections: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        writers.append(writer)
        with suppress(asyncio.CancelledError):
            await proxy.serve(reader, writer)
        connections.discard(task)

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        # What was accepted a moment ago becomes one of the connections first, or nobody would close it.
        await asyncio.sleep(0.05)
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        for writer in writers:  # what could not be forwarded is dropped, and nothing is left to the loop's end
            writer.transport.abort()
        await asyncio.sleep(0)
