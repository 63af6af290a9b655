"""HTTP/1.1 connections to the hosts of one endpoint, kept open between requests. Blocking; no proxy, no redirect."""

import os
import select
import socket
import ssl
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPSConnection
from typing import Final

CONNECT_TIMEOUT_S = 5.0
IDLE_S = 4.0
"""Longer none waits for its next request: servers close idle ones, many after 5 s, and gateways forget them unsaid."""
KEEP_ALIVE: Final = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""In seconds, and how many may go unanswered: the way stays known to gateways, and a host that is gone is noticed."""


@dataclass(frozen=True, slots=True)
class Connection:
    http: HTTPConnection
    sock: socket.socket = field(repr=False)
    """Beside its connection, which lets go of it where the server means to close it behind its answer."""
    is_reused: bool
    """It has waited since an earlier request, and may have died in that time."""

    def close(self) -> None:
        self.http.close()


class Connections:
    """At most `kept` wait for their next request, for IDLE_S at most; what is more is closed."""

    def __init__(self, *, tls: bool, kept: int) -> None:
        self._tls = _tls_context() if tls else None
        self._kept = kept
        self._lock = threading.Lock()
        self._idle: defaultdict[str, list[tuple[float, Connection]]] = defaultdict(list)
        self._closed = False

    def take(self, host: str, connect_timeout_s: float, silence_s: float, *, new: bool = False) -> Connection:
        """A connection to `host` (with its port), whose socket waits at most `silence_s` for anything."""
        connection = None if new else self._waiting(host)
        if connection is None:
            connection = self._opened(host, connect_timeout_s)
        connection.sock.settimeout(silence_s)
        return connection

    def give_back(self, host: str, connection: Connection) -> None:
        """Of which the last answer was read to its end."""
        waiting = Connection(connection.http, connection.sock, is_reused=True)
        with self._lock:
            idle = self._idle[host]
            if not self._closed and len(idle) < self._kept:
                idle.append((time.monotonic(), waiting))
                return
        connection.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            waiting = [connection for idle in self._idle.values() for _, connection in idle]
            self._idle.clear()
        for connection in waiting:
            connection.close()

    def _waiting(self, host: str) -> Connection | None:
        """The one that was used last, if it is not too old and the server has not closed it."""
        while True:
            with self._lock:
                idle = self._idle[host]
                if not idle:
                    return None
                since, connection = idle.pop()
            if time.monotonic() - since < IDLE_S and not _is_dropped(connection.sock):
                return connection
            connection.close()

    def _opened(self, host: str, timeout_s: float) -> Connection:
        if self._tls is None:
            http = HTTPConnection(host, timeout=timeout_s)
        else:
            http = HTTPSConnection(host, timeout=timeout_s, context=self._tls)
        http.connect()
        http.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEP_ALIVE.items():
            if hasattr(socket, name):  # which Linux has; elsewhere the system's own times hold
                http.sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        return Connection(http, http.sock, is_reused=False)


def interrupt(waited_on: socket.socket) -> None:
    """Wakes whoever waits on the socket, from another thread."""
    # The plain socket's own: TLS would take itself off first, and what is encrypted would be read as data.
    socket.socket.shutdown(waited_on, socket.SHUT_RDWR)


def wait_until_writable(connected: socket.socket) -> None:
    """Returns once a little can be sent without waiting, or the connection is at its end. Raises TimeoutError."""
    timeout_s = connected.gettimeout()
    poll = select.poll()
    poll.register(connected, select.POLLOUT)
    if not poll.poll(None if timeout_s is None else timeout_s * 1000):
        raise TimeoutError("the server takes no more of the body")


def _tls_context() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _is_dropped(waiting: socket.socket) -> bool:
    """Whether the other side has closed it: nothing is expected on it, so that anything to read is the end."""
    poll = select.poll()
    poll.register(waiting, select.POLLIN)
    return bool(poll.poll(0))
