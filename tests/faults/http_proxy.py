"""A proxy for HTTP/1.1 that counts what is asked for and lets faults strike: for RPC, compute and S3 alike.

Requests and answers go through byte for byte (S3 signs its headers), each as a whole, so a fault knows where it is.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.accepting import STREAM_LIMIT, accepting
from tests.faults.weather import HTTP_FAULTS, STATUS, Fault, Weather

DRIPPED_BYTES = 600
"""So many bytes come one by one; the rest follows at once, so that a list of accounts takes no hour."""
DRIP_S = 0.002
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Gone(Exception):
    """One of the two ends closed the connection."""


@dataclass
class Http:
    """One request or answer. `raw` is all of it, as it came."""

    start: str
    headers: dict[str, str]
    head: bytes
    body: bytes = b""

    @property
    def raw(self) -> bytes:
        return self.head + self.body


@dataclass
class HttpProxy:
    target_port: int
    weather: Weather
    port: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """Requests that arrived here, by JSON-RPC method, else by HTTP method."""
    is_gone: bool = False
    """Every connection is closed at once, as where nothing runs."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = _Upstream(self.target_port)
        try:
            while not self.is_gone:
                request = await _read(reader, writer)
                name = _name(request)
                self.counts[name] += 1
                if self.is_gone:
                    break
                await self._answer(request, name, reader, writer, upstream)
        except (Gone, ConnectionError):
            pass
        finally:
            upstream.close()

    async def _answer(
        self,
        request: Http,
        name: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream: "_Upstream",
    ) -> None:
        weather = self.weather
        fault = weather.draw(name, HTTP_FAULTS)
        if fault is Fault.CUT:
            raise Gone
        if fault in STATUS:
            await _send(writer, _refusal(STATUS[fault], weather.retry_after_s))
            return
        if fault is Fault.STALL and weather.rng.random() < 0.5:
            await asyncio.sleep(weather.stall_s)
            raise Gone
        answer = (await _unless_left(upstream.ask(request), reader)).raw
        if self.is_gone or fault is Fault.LOST:
            raise Gone
        if fault is Fault.STALL:
            await asyncio.sleep(weather.stall_s)
            raise Gone
        if fault is Fault.TRUNCATE:
            await _send(writer, answer[: weather.rng.randrange(1, len(answer))])
            writer.close()
            raise Gone
        if fault is Fault.DELAY:
            await asyncio.sleep(weather.rng.uniform(0, weather.delay_s))
        if fault is Fault.DRIP:
            for place in range(min(DRIPPED_BYTES, len(answer))):
                await _send(writer, answer[place : place + 1])
                await asyncio.sleep(DRIP_S)
            answer = answer[DRIPPED_BYTES:]
        await _send(writer, answer)


class _Upstream:
    """The connection to what is proxied, opened when it is needed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: Http) -> Http:
        """Raises Gone where it does not answer. A kept connection that was closed meanwhile is opened anew."""
        for is_last in (False, True):
            try:
                if self._streams is None:
                    self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=STREAM_LIMIT)
                    is_last = True  # noqa: PLW2901 # what a fresh connection refuses is refused
                reader, writer = self._streams
                await _send(writer, request.raw)
                answer = await _read(reader, None, is_answer=True, is_to_head=request.start.startswith("HEAD "))
                if answer.headers.get("connection", "").lower() == "close":
                    self.close()
                return answer
            except (Gone, ConnectionError):
                self.close()
                if is_last:
                    break
        raise Gone

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


async def _unless_left(asking, reader: asyncio.StreamReader):
    """The answer; Gone as soon as who asked has left. Nobody here sends a request before the last was answered."""
    answer, left = asyncio.ensure_future(asking), asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait((answer, left), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise Gone
        return answer.result()
    finally:
        for one in (answer, left):
            one.cancel()
        await asyncio.gather(answer, left, return_exceptions=True)


async def _read(
    reader: asyncio.StreamReader,
    continues: asyncio.StreamWriter | None,
    *,
    is_answer: bool = False,
    is_to_head: bool = False,
) -> Http:
    """The next request or answer. `continues`: where a sender waits for leave to send its body."""
    try:
        found = await _head(reader)
        while is_answer and found.start.split(" ", 2)[1] == "100":
            found = await _head(reader)
        if continues is not None and found.headers.get("expect", "").lower() == "100-continue":
            await _send(continues, _CONTINUE)
            found.head = b"".join(
                line for line in found.head.splitlines(keepends=True) if not line.lower().startswith(b"expect:")
            )
        if is_to_head or (is_answer and found.start.split(" ", 2)[1] in ("204", "304")):
            return found
        if found.headers.get("transfer-encoding", "").lower() == "chunked":
            found.body = await _chunks(reader)
        elif "content-length" in found.headers:
            found.body = await reader.readexactly(int(found.headers["content-length"]))
        elif is_answer:
            found.body = await reader.read()
        return found
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise Gone from error


async def _head(reader: asyncio.StreamReader) -> Http:
    head = await reader.readuntil(b"\r\n\r\n")
    start, *lines = head.decode("latin-1").rstrip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Http(start, headers, head)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        body += line + await reader.readexactly(size + 2)
        if size == 0:
            return body


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


def _refusal(status: int, retry_after_s: int) -> bytes:
    body = b"the proxy's own answer"
    head = f"HTTP/1.1 {status} Fault\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
    if status != 500:
        head += f"Retry-After: {retry_after_s}\r\n"
    return head.encode("ascii") + b"\r\n" + body


def _name(request: Http) -> str:
    if request.body.startswith(b'{"jsonrpc"'):
        with suppress(ValueError, TypeError, KeyError):
            return str(json.loads(request.body)["method"])
    return request.start.split(" ", 1)[0]


@asynccontextmanager
async def http_proxy(target_port: int, weather: Weather) -> AsyncIterator[HttpProxy]:
    """On a free port of the loopback interface, until the block ends."""
    proxy = HttpProxy(target_port, weather)
    async with accepting(proxy.serve) as proxy.port:
        yield proxy
