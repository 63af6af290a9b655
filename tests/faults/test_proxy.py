"""The proxies themselves: each fault does what it says, and without one nothing is changed."""

import asyncio
import random
import socket
import time
from contextlib import suppress

import httpx
import pytest
from websockets import ConnectionClosed, InvalidStatus
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from tests.accepting import accepting
from tests.faults.http_proxy import http_proxy
from tests.faults.weather import STATUS, Fault, Weather
from tests.faults.websocket_proxy import websocket_proxy

BODY = {"jsonrpc": "2.0", "id": 1, "method": "getSlot", "params": []}
ANSWER = b'{"jsonrpc": "2.0", "id": 1, "result": 7}'


class Server:
    """Answers every request alike and counts them."""

    def __init__(self) -> None:
        self.asked = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            assert line.startswith(b"POST")
            length = 0
            while (line := await reader.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            await reader.readexactly(length)
            self.asked += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER))


async def asked(fault: Fault | None, **weather: object) -> tuple[httpx.Response | Exception, int, float]:
    """What a client got, how often the server was asked, and how many seconds it took."""
    server = Server()
    kinds = () if fault is None else (fault,)
    sky = Weather(random.Random(1), kinds, first=1, **weather)  # type: ignore[arg-type]
    async with (
        accepting(server.serve) as port,
        http_proxy(port, sky) as proxy,
        httpx.AsyncClient(timeout=60) as http,
    ):
        begun = time.monotonic()
        try:
            got: httpx.Response | Exception = await http.post(proxy.url, json=BODY)
        except httpx.HTTPError as error:
            got = error
        took_s = time.monotonic() - begun
        assert proxy.counts == {"getSlot": 1}
        if not isinstance(got, httpx.Response):
            assert (await http.post(proxy.url, json=BODY)).content == ANSWER  # the next one goes through
            server.asked -= 1
    return got, server.asked, took_s


@pytest.mark.parametrize("fault", [None, Fault.DELAY, Fault.DRIP])
async def test_an_answer_that_is_only_late_is_whole(fault: Fault | None) -> None:
    got, count, took_s = await asked(fault)
    assert isinstance(got, httpx.Response)
    assert (got.content, count) == (ANSWER, 1)
    assert fault is not Fault.DRIP or took_s > 0.05


@pytest.mark.parametrize(("fault", "count"), [(Fault.CUT, 0), (Fault.LOST, 1), (Fault.TRUNCATE, 1)])
async def test_a_cut_loses_the_request_or_the_answer(fault: Fault, count: int) -> None:
    got, reached, _ = await asked(fault)
    assert isinstance(got, httpx.RemoteProtocolError | httpx.ReadError)
    assert reached == count


@pytest.mark.parametrize(
    ("fault", "status"), [(Fault.RATE_LIMIT, 429), (Fault.ERROR, 500), (Fault.UNAVAILABLE, 503)]
)
async def test_the_proxy_refuses_in_the_place_of_the_server(fault: Fault, status: int) -> None:
    got, reached, _ = await asked(fault, retry_after_s=3)
    assert isinstance(got, httpx.Response)
    assert (got.status_code, reached) == (status, 0)
    assert got.headers.get("Retry-After") == (None if status == 500 else "3")


async def test_a_stall_is_silent_and_ends_in_a_cut() -> None:
    got, _, took_s = await asked(Fault.STALL, stall_s=0.3)
    assert isinstance(got, httpx.HTTPError)
    assert took_s >= 0.3


def test_the_same_seed_draws_the_same_faults() -> None:
    def drawn() -> list[Fault | None]:
        weather = Weather(random.Random(5), tuple(Fault), share=0.5)
        return [weather.draw("getSlot", tuple(Fault)) for _ in range(50)]

    assert drawn() == drawn()
    assert None in drawn()


MESSAGES = [f'{{"method": "n{number}"}}' for number in range(4)]


async def received(fault: Fault, **weather: object) -> list[str]:
    """What arrives of four messages, of which the first (or the handshake) is struck, until the connection ends."""

    async def tell(connection) -> None:
        for message in MESSAGES:
            await connection.send(message)

    got: list[str] = []
    only = frozenset({"handshake"} if fault in STATUS else {"n0"})
    async with serve(tell, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        sky = Weather(random.Random(1), (fault,), first=1, only=only, **weather)  # type: ignore[arg-type]
        async with websocket_proxy(url, sky) as proxy, connect(proxy.url, proxy=None) as client:
            try:
                while True:
                    got.append(await client.recv())
            except ConnectionClosed:
                pass
    return got


@pytest.mark.parametrize(
    ("fault", "order"),
    [
        (Fault.CUT, []),
        (Fault.TRUNCATE, []),
        (Fault.DELAY, [0, 1, 2, 3]),
        (Fault.DRIP, [0, 1, 2, 3]),
        (Fault.DUPLICATE, [0, 0, 1, 2, 3]),
        (Fault.REORDER, [1, 0, 2, 3]),
    ],
)
async def test_a_message_meets_its_fault(fault: Fault, order: list[int]) -> None:
    assert await received(fault) == [MESSAGES[place] for place in order]


async def test_a_stalled_websocket_is_open_and_silent() -> None:
    begun = time.monotonic()
    assert await received(Fault.STALL, stall_s=0.3) == []
    assert time.monotonic() - begun >= 0.3


async def test_a_handshake_is_refused() -> None:
    with pytest.raises(InvalidStatus) as refused:
        await received(Fault.UNAVAILABLE)
    assert refused.value.response.status_code == 503


@pytest.mark.parametrize("turns", range(6))
async def test_a_connection_that_comes_in_the_last_moment_is_closed_as_well(turns: int) -> None:
    with socket.socket() as client:
        async with accepting(Server().serve) as port:
            client.connect(("127.0.0.1", port))
            for _ in range(turns):
                await asyncio.sleep(0)
        client.settimeout(10)
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""
