"""One response's head and body. The body of a large one is read in few, large steps."""

import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPMessage, HTTPResponse
from typing import cast

from compute.storage.retry import Transient
from compute.storage.threads import CHUNK_BYTES, Stop

MAX_TEXT_BYTES = 64 << 10
"""Of an answer that is a document, such as an error's."""
AT_ONCE_BYTES = 512 << 10
"""Who waits on a fast connection is woken when so much is there. Woken for each packet, a read took a quarter longer
over loopback."""
ELSEWHERE_BYTES = 256 << 10
"""At most, of a body: what has left the socket and waits in the layers above it."""
FAST_S = 0.25
"""A connection is fast that gave a chunk in this time: it must become many times slower to be taken for silent."""


class S3Response:
    def __init__(self, response: HTTPResponse, sock: socket.socket) -> None:
        """`response`: its head is read, and nothing else. `sock`: where it comes from."""
        self._response = response
        self._sock = sock
        self._may_be_ahead = True
        self.status: int = response.status
        self.headers: HTTPMessage = response.headers

    def text(self) -> bytes:
        """The body, as far as a document goes."""
        return self._response.read(MAX_TEXT_BYTES)

    def read_into(self, view: memoryview, stop: Stop) -> None:
        """Straight from the socket into the caller's memory. Raises Transient where the body is shorter."""
        done, least = 0, 1
        while done < len(view):
            begun = time.monotonic()
            with stop.touching():
                count = self._fill(view[done : done + CHUNK_BYTES])
            if count == 0:
                raise Transient(f"the body ended after {done} of {len(view)} bytes")
            done += count
            is_fast = count == CHUNK_BYTES and time.monotonic() - begun < FAST_S
            # So much must come within and behind the next chunk, or it would be waited for in vain. The last one is
            # read without it, and so a connection that is used again is left as it was.
            is_enough = len(view) - done >= CHUNK_BYTES + AT_ONCE_BYTES + ELSEWHERE_BYTES
            wanted = AT_ONCE_BYTES if is_fast and is_enough else 1
            if wanted != least:
                least = wanted
                # Where the system does not know it, the body comes all the same.
                with suppress(OSError):
                    self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least)

    def _fill(self, chunk: memoryview) -> int:
        """As much of it as there is of the body, or of what lies in the response's own buffer."""
        response = self._response
        if response.chunked or response.length is None or response.length <= len(chunk):
            return response.readinto(chunk)  # which ends the response with the body's last byte
        if self._may_be_ahead:
            # With the head came some of the body.
            ahead = len(response.fp.peek())
            self._may_be_ahead = False
            return response.readinto(chunk[:ahead])
        count = 0
        while count < len(chunk) and (taken := self._take(chunk[count:])):
            count += taken
        response.length -= count
        return count

    def _take(self, view: memoryview) -> int:
        # By TLS that is one record of 16 KiB, and recv_into is this behind more of Python than decrypting it takes.
        if isinstance(self._sock, ssl.SSLSocket):
            read = cast("Callable[[int, memoryview], int]", self._sock.read)  # so it is with a buffer
            return read(len(view), view)
        return self._sock.recv_into(view)
