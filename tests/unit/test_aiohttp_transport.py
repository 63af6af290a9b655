"""The listener's HTTP on real connections: which are used again, which are closed, and through which way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from listener.aiohttp_transport import AiohttpTransport
from listener.daemon import rpc_http
from tests.accepting import accepting
from tests.unit.listener_world import until

PATIENCE_S = 60.0
ANSWER = b"HTTP/1.1 200 Told\r\nContent-Length: 5\r\n\r\nwhole"


@dataclass
class Server:
    """Answers each request of a connection with the same bytes."""

    answer: bytes = ANSWER
    url: str = ""
    opened: int = 0
    asked: int = 0
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.asked += 1
                writer.write(self.answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed.set()


@asynccontextmanager
async def serving(answer: bytes = ANSWER) -> AsyncIterator[tuple[Server, httpx.AsyncClient]]:
    told = Server(answer)
    async with (
        accepting(told.serve) as port,
        httpx.AsyncClient(transport=AiohttpTransport(), timeout=PATIENCE_S) as http,
    ):
        told.url = f"http://127.0.0.1:{port}"
        yield told, http


async def test_a_connection_whose_answer_was_read_is_used_again() -> None:
    async with serving() as (server, http):
        for _ in range(3):
            assert (await http.get(server.url)).content == b"whole"
    assert (server.opened, server.asked) == (1, 3)


async def test_a_url_with_name_and_password_is_asked_with_them_in_a_header() -> None:
    async with serving() as (server, http):
        answer = await http.get(server.url.replace("//", "//name:word@"))
    assert answer.content == b"whole"
    assert answer.request.headers["Authorization"] == "Basic bmFtZTp3b3Jk"


async def test_an_answer_that_is_left_half_read_closes_its_connection() -> None:
    async with serving(ANSWER.replace(b"5", b"500000")) as (server, http):
        async with http.stream("GET", server.url) as answer:
            assert answer.status_code == 200
        await asyncio.wait_for(server.closed.wait(), PATIENCE_S)


async def test_a_poll_that_is_cancelled_closes_its_connection() -> None:
    async with serving(b"") as (server, http):
        poll = asyncio.create_task(http.get(server.url))
        await until(lambda: server.asked == 1)
        poll.cancel()
        await asyncio.wait_for(server.closed.wait(), PATIENCE_S)


async def test_polls_do_not_wait_for_each_other() -> None:
    async with serving(b"") as (server, http):
        polls = [asyncio.create_task(http.get(server.url)) for _ in range(150)]
        await until(lambda: server.asked == len(polls))
        for poll in polls:
            poll.cancel()
        await asyncio.gather(*polls, return_exceptions=True)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", httpx.ReadTimeout),
        (b"HTTP/1.1 200 Told\r\n", httpx.ReadTimeout),
        (b"HTTP/1.1 200 Told\r\nContent-Length: 50\r\n\r\nhalf", httpx.ReadTimeout),
        (b"no HTTP\r\n\r\n", httpx.ReadError),
        (b"HTTP/1.1 200 Told\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", httpx.ReadError),
    ],
)
async def test_an_answer_that_does_not_come_whole_is_an_error_of_httpx(
    answer: bytes, kind: type[httpx.HTTPError]
) -> None:
    async with serving(answer) as (server, http):
        with pytest.raises(kind) as caught:
            silence_s = 0.3 if kind is httpx.ReadTimeout else PATIENCE_S
            await http.get(server.url, timeout=httpx.Timeout(PATIENCE_S, read=silence_s))
        assert caught.value.request.url.host == "127.0.0.1"


async def test_who_is_not_there_cannot_be_connected_to() -> None:
    async with httpx.AsyncClient(transport=AiohttpTransport()) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get("http://127.0.0.1:1/")


@pytest.mark.parametrize("url", ["nothing", "ftp://127.0.0.1/"])
async def test_what_is_no_url_of_http_is_an_error_of_httpx(url: str) -> None:
    async with httpx.AsyncClient(transport=AiohttpTransport()) as http:
        with pytest.raises(httpx.HTTPError):
            await http.get(url)


@pytest.mark.parametrize("is_proxied", [True, False])
async def test_endpoints_of_the_world_are_reached_through_the_proxy_that_is_set(
    monkeypatch: pytest.MonkeyPatch, is_proxied: bool
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    if is_proxied:
        monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.org:3128")
    async with rpc_http() as http:
        world, loopback = (
            http._transport_for_url(httpx.URL(url)) for url in ("https://api.example.org", "http://localhost:8899")
        )
        assert isinstance(loopback, AiohttpTransport)
        assert isinstance(world, AiohttpTransport) is not is_proxied
