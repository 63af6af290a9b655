"""One signed request to an S3 endpoint and its answer, of whose body no more is read than whoever asked wants."""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from urllib.parse import urlsplit

from compute.storage.body import Body
from compute.storage.connections import CONNECT_TIMEOUT_S, Connections, interrupt
from compute.storage.credentials import SdkCredentials
from compute.storage.exchange import Outgoing, exchange
from compute.storage.response import S3Response
from compute.storage.sigv4 import NO_BODY, UNSIGNED, Signer, encoded_query
from compute.storage.threads import Stop
from shared.errors import StorageUnavailable
from shared.uris import ObjectUri

SILENCE_S = 30.0
"""Longest silence of a server, also between a body and the answer to it."""
MAX_SKEW_S = 240.0
"""Servers refuse signatures from 5 to 15 minutes away from their own time."""
MOST_SKEW_S = 3e9
"""Of a machine whose clock began at 1970. A date that is farther off is no clock's, and would be beyond what can be
signed with."""
DEFAULT_PORTS = {"http": 80, "https": 443}

_CODE = re.compile(rb"<Code>([^<]{0,200})</Code>")


class Refusal(Exception):
    """The server answered with another status than 2xx."""

    def __init__(self, status: int, code: str, *, clock_corrected: bool = False) -> None:
        super().__init__(f"the server answered {status} {ascii(code)[1:81]}".rstrip("' "))
        self.status = status
        self.code = code
        self.clock_corrected = clock_corrected
        """Our time was too far off for a signature; from now on the server's is used."""


@dataclass(frozen=True, slots=True)
class S3Request:
    method: str
    uri: ObjectUri
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""
    body: Body | None = None
    body_sha256: str | None = None
    """Where it is known already."""
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    silence_s: float = SILENCE_S


@dataclass
class _Endpoint:
    is_tls: bool
    host: str
    """With its port, unless that is the scheme's own."""
    path: str
    connections: Connections = field(repr=False)


class S3Http:
    """The endpoint, its keys and its connections. Where AWS's own is meant it is looked up at the first request."""

    def __init__(self, endpoint_url: str | None, region: str, *, path_style: bool, connections: int) -> None:
        self._endpoint_url = endpoint_url
        self._region = region
        self._path_style = path_style
        self._kept = connections
        self._credentials = SdkCredentials()
        self._signer = Signer(region)
        self._lock = threading.Lock()
        self._made: _Endpoint | None = None
        self._closed = False
        self.offset_s = 0.0
        """Server's time less this machine's, once a server complained."""

    @property
    def is_tls(self) -> bool:
        return self._endpoint().is_tls

    @contextmanager
    def answered(self, request: S3Request, stop: Stop) -> Iterator[S3Response]:
        """The answer, if it is a 2xx one; else Refusal. A body left unread costs the connection."""
        endpoint = self._endpoint()
        host, path = self._place(endpoint, request.uri)
        query = encoded_query(request.query)
        offset_s = self.offset_s
        head = self._head(endpoint, request, host, path, query, offset_s, stop)
        target = f"{path}?{query}" if query else path
        outgoing = Outgoing(
            request.method, target, head, request.body, request.connect_timeout_s, request.silence_s
        )
        connection, response = exchange(endpoint.connections, host, outgoing, stop)
        try:
            with stop.interruptible(partial(interrupt, connection.sock)):
                answer = S3Response(response, connection.sock)
                if not 200 <= answer.status < 300:
                    raise self._refusal(answer, offset_s)
                yield answer
        finally:
            if response.isclosed() and not response.will_close:
                endpoint.connections.give_back(host, connection)
            else:
                # The response first: it holds the socket where the connection has let go of it.
                response.close()
                connection.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._made is not None:
                self._made.connections.close()

    def _endpoint(self) -> _Endpoint:
        with self._lock:
            if self._made is None:
                url = urlsplit(self._endpoint_url or self._credentials.endpoint_of(self._region))
                if url.scheme not in DEFAULT_PORTS or not url.hostname:
                    raise StorageUnavailable(
                        f"SPLITUP_S3_ENDPOINT_URL {url.geturl()} is no http:// or https:// URL"
                    )
                host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
                if url.port not in (None, DEFAULT_PORTS[url.scheme]):
                    host += f":{url.port}"
                is_tls = url.scheme == "https"
                connections = Connections(tls=is_tls, kept=self._kept)
                self._made = _Endpoint(is_tls, host, url.path.rstrip("/"), connections)
            return self._made

    def _place(self, endpoint: _Endpoint, uri: ObjectUri) -> tuple[str, str]:
        # An ObjectUri has no character that would have to be encoded.
        if self._path_style:
            return endpoint.host, f"{endpoint.path}/{uri.bucket}/{uri.key}"
        return f"{uri.bucket}.{endpoint.host}", f"{endpoint.path}/{uri.key}"

    def _head(
        self,
        endpoint: _Endpoint,
        request: S3Request,
        host: str,
        path: str,
        query: str,
        offset_s: float,
        stop: Stop,
    ) -> dict[str, str]:
        payload = NO_BODY
        if request.body is not None:
            payload = request.body_sha256 or (UNSIGNED if endpoint.is_tls else request.body.sha256(stop))
        now = datetime.now(UTC) + timedelta(seconds=offset_s)
        headers = {"host": host, **request.headers}
        return self._signer.signed(request.method, path, query, headers, payload, self._credentials.keys(), now)

    def _refusal(self, answer: S3Response, offset_s: float) -> Refusal:
        code = code_in(answer.text())
        corrected = answer.status == 403 and self._corrected_time(answer.headers.get("date", ""), offset_s)
        return Refusal(answer.status, code, clock_corrected=corrected)

    def _corrected_time(self, date: str, offset_s: float) -> bool:
        """Take over the server's time if the one signed with was too far off (HEAD gives no code that says so)."""
        try:
            measured_s = (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()
        except (TypeError, ValueError, OverflowError):
            return False
        # Against the request's own offset: of several at once each may be refused, and each finds the same time.
        if abs(measured_s - offset_s) < MAX_SKEW_S or abs(measured_s) > MOST_SKEW_S:
            return False
        self.offset_s = measured_s
        return True


def code_in(document: bytes) -> str:
    """The code of an error's document; empty where it has none."""
    found = _CODE.search(document)
    return found.group(1).decode("utf-8", "replace") if found else ""
