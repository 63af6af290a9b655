"""httpx's requests over aiohttp's connections, which cost a fraction of the CPU, however many are open."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

import aiohttp
import httpx
from yarl import URL

IDLE_S: Final = 4.0
"""How long a connection that nobody uses is kept: a little less than compute's side keeps it."""


class AiohttpTransport(httpx.AsyncBaseTransport):
    """For requests whose body is in memory. Raises what httpx's own transport raises: subclasses of HTTPError.

    A client that is given it looks for no proxy.
    """

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        limits = request.extensions["timeout"]
        with _errors_of_httpx(request):
            answer = await self._opened().request(
                request.method,
                # httpx has made a header of name and password, and aiohttp refuses both together.
                URL(str(request.url.copy_with(username=None, password=None)), encoded=True),
                headers=request.headers.multi_items(),
                data=request.content or None,
                allow_redirects=False,
                timeout=_timeout(limits["connect"], limits["read"]),
            )
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=_Body(answer, request))

    def _opened(self) -> aiohttp.ClientSession:
        """Made at the first request, in the loop that it belongs to. httpx decompresses, and trusts whom it trusts."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S, ssl=httpx.create_ssl_context())
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
            )
        return self._session

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: aiohttp.ClientResponse, request: httpx.Request) -> None:
        self._answer = answer
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _errors_of_httpx(self._request):
            async for piece in self._answer.content.iter_any():
                yield piece

    async def aclose(self) -> None:
        """What was read to its end leaves its connection to the next request; else that is closed."""
        self._answer.close()


@contextmanager
def _errors_of_httpx(request: httpx.Request) -> Iterator[None]:
    try:
        yield
    except aiohttp.ClientConnectorError as error:
        raise httpx.ConnectError(str(error), request=request) from error
    except aiohttp.ConnectionTimeoutError as error:
        raise httpx.ConnectTimeout(str(error), request=request) from error
    except TimeoutError as error:
        raise httpx.ReadTimeout(str(error), request=request) from error
    except aiohttp.ClientError as error:
        raise httpx.ReadError(f"{type(error).__name__} {error}", request=request) from error


@lru_cache(maxsize=256)
def _timeout(connect_s: float | None, read_s: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=connect_s, sock_read=read_s)
