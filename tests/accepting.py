"""A TCP server for tests that leaves no connection open behind it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

STREAM_LIMIT = 1 << 20
"""Bytes that a reader holds at most."""
_TURNS = 10
"""Of the loop, from an accepted socket to its task's first step: five, whatever time they take."""


@asynccontextmanager
async def accepting(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """Serves each connection to a free port of the loopback interface, which it yields, until the block ends.

    `serve` may be cancelled at the end; its writer is closed for it.
    """
    connections: set[asyncio.Task[None]] = set()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            with suppress(asyncio.CancelledError):
                await serve(reader, writer)
        finally:
            connections.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0, limit=STREAM_LIMIT)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        # Python 3.11's server leaks what it has just accepted when it is closed, and a task that is cancelled before
        # its first step closes nothing. So no more is accepted, and what was takes that step, before either.
        asyncio.get_running_loop().remove_reader(server.sockets[0].fileno())
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await asyncio.sleep(0)  # in which what was aborted is closed
