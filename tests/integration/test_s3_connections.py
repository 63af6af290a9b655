"""S3 storage's connections: kept between requests, given up before a server closes them, left at once when asked."""

import asyncio
import socket
import threading
import time

import pytest

from compute.storage import body, connections
from compute.storage.connections import KEEP_ALIVE, Connections
from compute.storage.retry import RetryPolicy
from compute.storage.s3 import S3Storage
from shared.errors import StorageUnavailable
from shared.uris import parse_prefix
from tests.scripted_s3 import CONTENT, OBJECT, ranged, scripted

NO_RETRY = RetryPolicy(patience_s=0.0, missing_retries=0)


@pytest.fixture(autouse=True)
def _credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")


def answer(request):
    return ranged(request) if request.method == "GET" else (200, {}, b"")


async def test_a_connection_that_the_server_closes_just_as_it_is_used_fails_no_request():
    async with scripted(answer) as (script, storage):
        storage._policy = NO_RETRY
        script.keeps_open, script.answers_per_connection = True, 1
        for _ in range(3):
            assert await storage.read_range(OBJECT, 3, 4) == CONTENT[3:7]
            assert await storage.put_new(OBJECT, [b"x" * 100_000]) is True
            await storage.delete(OBJECT)
            await storage.probe()
        assert len(script.requests) == len(script.connections) == 12


async def test_a_server_that_closes_every_new_connection_is_not_asked_without_end():
    async with scripted(answer) as (script, storage):
        script.cuts = [0] * 100
        storage._policy = NO_RETRY
        with pytest.raises(StorageUnavailable, match="after 1 attempts"):
            await storage.read_range(OBJECT, 0, 1)
        assert len(script.requests) == 1


async def test_what_waited_for_too_long_is_not_used_again(monkeypatch):
    async with scripted(answer) as (script, storage):
        script.keeps_open = True
        for _ in range(3):
            await storage.read_range(OBJECT, 0, 1)
        assert len(script.connections) == 1
        monkeypatch.setattr(connections, "IDLE_S", 0.0)
        for _ in range(2):
            await storage.read_range(OBJECT, 0, 1)
        assert len(script.connections) == 3


def test_a_connection_asks_now_and_then_whether_the_other_side_is_still_there():
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"
        made = Connections(tls=False, kept=1).take(host, 5.0, 30.0)
        assert made.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        for name, value in KEEP_ALIVE.items():
            assert made.sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value
        made.close()


@pytest.mark.parametrize("is_answered_late", [False, True])
async def test_a_put_that_is_cancelled_on_its_last_piece_ends_at_once(monkeypatch, is_answered_late):
    """One piece alone fills the server's and our buffers; or all of it is sent, and the answer does not come."""
    monkeypatch.setattr(body, "CHUNK_BYTES", 64 << 20)
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        server.bind(("127.0.0.1", 0))
        server.listen()
        storage = S3Storage(
            [parse_prefix("s3://tensors")],
            endpoint_url=f"http://127.0.0.1:{server.getsockname()[1]}",
            region="us-east-1",
            path_style=True,
        )
        size = 100 if is_answered_late else 32 << 20
        putting = asyncio.create_task(storage.put_new(OBJECT, [bytes(size)]))
        connection, _ = await asyncio.to_thread(server.accept)
        with connection:
            await asyncio.to_thread(connection.recv, 1)
            await asyncio.sleep(0.5)
            begun = time.monotonic()
            putting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await putting
            # Of what is all sent the answer is waited for, so that a delete comes after it; of other things nothing.
            assert time.monotonic() - begun < (20.0 if is_answered_late else 4.0)
            until = time.monotonic() + 60.0
            while any(thread.name.startswith("s3") for thread in threading.enumerate()):
                assert time.monotonic() < until, "the thread still waits for the server"
                storage.close()
                await asyncio.sleep(0.05)
