"""HTTP/1.1 connections to the hosts of one endpoint, kept open between requests. Blocking; no proxy, no redirect."""

import os
import select
import socket
import ssl
import threading
from collections import defaultdict
from http.client import HTTPConnection, HTTPSConnection

CONNECT_TIMEOUT_S = 5.0


class Connections:
    """At most `kept` wait for their next request; what is more is closed."""

    def __init__(self, *, tls: bool, kept: int) -> None:
        self._tls = _tls_context() if tls else None
        self._kept = kept
        self._lock = threading.Lock()
        self._idle: defaultdict[str, list[HTTPConnection]] = defaultdict(list)
        self._closed = False

    def take(self, host: str, connect_timeout_s: float, silence_s: float) -> HTTPConnection:
        """A connection to `host` (with its port), whose socket waits at most `silence_s` for anything."""
        while (connection := self._waiting(host)) is not None:
            if not _is_dropped(connection.sock):
                break
            connection.close()
        else:
            connection = self._made(host, connect_timeout_s)
            connection.connect()
        connection.sock.settimeout(silence_s)
        return connection

    def give_back(self, host: str, connection: HTTPConnection) -> None:
        """Of which the last answer was read to its end."""
        with self._lock:
            idle = self._idle[host]
            if not self._closed and len(idle) < self._kept:
                idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            waiting = [connection for idle in self._idle.values() for connection in idle]
            self._idle.clear()
        for connection in waiting:
            connection.close()

    def _waiting(self, host: str) -> HTTPConnection | None:
        with self._lock:
            idle = self._idle[host]
            return idle.pop() if idle else None

    def _made(self, host: str, timeout_s: float) -> HTTPConnection:
        if self._tls is None:
            return HTTPConnection(host, timeout=timeout_s)
        return HTTPSConnection(host, timeout=timeout_s, context=self._tls)


def interrupt(waited_on: socket.socket) -> None:
    """Wakes whoever waits on the socket, from another thread."""
    # The plain socket's own: TLS would take itself off first, and what is encrypted would be read as data.
    socket.socket.shutdown(waited_on, socket.SHUT_RDWR)


def _tls_context() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _is_dropped(waiting: socket.socket) -> bool:
    """Whether the other side has closed it: nothing is expected on it, so that anything to read is the end."""
    poll = select.poll()
    poll.register(waiting, select.POLLIN)
    return bool(poll.poll(0))
