"""One request on one connection, and the head of its answer."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException, HTTPResponse

from compute.storage.body import Body
from compute.storage.connections import Connection, Connections, interrupt, wait_until_writable
from compute.storage.threads import Stop

_GONE = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""The other side closed the connection, or does not know it any more."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request as it is sent."""

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    body: Body | None
    connect_timeout_s: float
    silence_s: float


def exchange(
    connections: Connections, host: str, request: Outgoing, stop: Stop
) -> tuple[Connection, HTTPResponse]:
    """The answer, whose head is read, and its connection. Every request of ours may be sent twice.

    One that waited may have been closed by the server in the moment in which it is used: then the request goes over
    a new one, and counts as the same attempt.
    """
    connection = connections.take(host, request.connect_timeout_s, request.silence_s)
    try:
        return connection, _answer(connection, request, stop)
    except _GONE:
        stop.check()  # else it was not the server that closed it
        if not connection.is_reused:
            raise
    stop.unstoppable = False
    connection = connections.take(host, request.connect_timeout_s, request.silence_s, new=True)
    return connection, _answer(connection, request, stop)


def _answer(connection: Connection, request: Outgoing, stop: Stop) -> HTTPResponse:
    """Closes the connection if it raises."""
    try:
        with stop.interruptible(partial(interrupt, connection.sock)):
            return _sent(connection, request, stop)
    except BaseException:  # whatever it is goes on; half an exchange is of no use to the next request
        connection.close()
        raise


def _sent(connection: Connection, request: Outgoing, stop: Stop) -> HTTPResponse:
    http, body = connection.http, request.body
    http.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
    for name, value in request.headers.items():
        http.putheader(name, value)
    if body is None:
        http.endheaders()
        return http.getresponse()
    http.putheader("content-length", str(body.size))
    if not body.size:
        stop.commit()
    http.endheaders()
    try:
        _send(connection, body, stop)
    except (BrokenPipeError, ConnectionResetError) as broken:
        # A server that refuses may say why before it has read all of the body.
        stop.check()
        try:
            return http.getresponse()
        except (OSError, HTTPException):
            raise broken from None
    return http.getresponse()


def _send(connection: Connection, body: Body, stop: Stop) -> None:
    left = body.size
    for piece in body.pieces():
        left -= len(piece)
        if not left:
            # With the last piece the server may hold all of it, and only the answer can tell. The piece is small and
            # is sent once there is room for it: up to here a server that takes nothing can be left at once.
            wait_until_writable(connection.sock)
            stop.commit()
        with stop.touching():
            connection.http.send(piece)
