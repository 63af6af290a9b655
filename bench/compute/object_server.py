"""`python -m bench.compute.object_server OBJECTS [CERTIFICATE KEY]`: an S3 server that costs little.

So its client is what is measured. OBJECTS is JSON: each path with the descriptor of its bytes in memory, which are
sent by sendfile(2) or, by TLS, out of their mapping. What is put is thrown away, and no signature is checked. The
port is printed.
"""

import json
import mmap
import os
import re
import socket
import ssl
import sys
import threading
from collections.abc import Mapping

CHUNK_BYTES = 1 << 20
ETAG = '"0123456789abcdef0123456789abcdef"'
_RANGE = re.compile(rb"range: bytes=(\d+)-(\d*)", re.IGNORECASE)
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_UPLOAD = b"<InitiateMultipartUploadResult><UploadId>one</UploadId></InitiateMultipartUploadResult>"
_JOINED = b"<CompleteMultipartUploadResult></CompleteMultipartUploadResult>"


class Held:
    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        self.view = memoryview(mmap.mmap(descriptor, self.size, prot=mmap.PROT_READ) if self.size else b"")

    def send(self, connection: socket.socket, first: int, end: int) -> None:
        if isinstance(connection, ssl.SSLSocket):
            for begin in range(first, end, CHUNK_BYTES):
                connection.sendall(self.view[begin : min(begin + CHUNK_BYTES, end)])
            return
        while first < end:
            first += os.sendfile(connection.fileno(), self.descriptor, first, end - first)


def serve(connection: socket.socket, objects: Mapping[str, Held], tls: ssl.SSLContext | None) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls is not None:
        connection = tls.wrap_socket(connection, server_side=True)
    scratch = memoryview(bytearray(CHUNK_BYTES))
    waiting = b""
    with connection:
        while True:
            while b"\r\n\r\n" not in waiting:
                received = connection.recv(CHUNK_BYTES)
                if not received:
                    return
                waiting += received
            head, _, waiting = waiting.partition(b"\r\n\r\n")
            length = _LENGTH.search(head)
            left = (int(length.group(1)) if length else 0) - len(waiting)
            waiting = b""
            while left > 0:
                left -= connection.recv_into(scratch[:left])
            answer(connection, head, objects)


def answer(connection: socket.socket, head: bytes, objects: Mapping[str, Held]) -> None:
    method, target, _ = head.split(b" ", 2)
    path, _, query = target.decode("ascii").partition("?")
    if method in (b"GET", b"HEAD"):
        found = objects.get(path)
        if found is None:
            connection.sendall(_head("404 X", 0))
            return
        asked = _RANGE.search(head)
        first = int(asked.group(1)) if asked else 0
        last = min(int(asked.group(2) or found.size), found.size - 1) if asked else found.size - 1
        status = f"206 X\r\nContent-Range: bytes {first}-{last}/{found.size}" if asked else "200 OK"
        connection.sendall(_head(status, last + 1 - first))
        if method == b"GET":
            found.send(connection, first, last + 1)
        return
    text = b""
    if method == b"POST":
        text = _UPLOAD if query.startswith("uploads") else _JOINED
    connection.sendall(_head("200 OK", len(text)) + text)


def _head(status: str, length: int) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\nETag: {ETAG}\r\n\r\n".encode()


def main() -> None:
    objects = {path: Held(descriptor) for path, descriptor in json.loads(sys.argv[1]).items()}
    tls = None
    if certificate_and_key := sys.argv[2:]:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(*certificate_and_key)
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            connection, _ = server.accept()
            threading.Thread(target=serve, args=(connection, objects, tls), daemon=True).start()


if __name__ == "__main__":
    main()
