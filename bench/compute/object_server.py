"""`python -m bench.compute.object_server OBJECTS [options]`: an S3 server that costs little.

So its client is what is measured. OBJECTS is JSON: each path with the descriptor of its bytes in memory, which are
sent by sendfile(2) or, by TLS, out of their mapping. What is put is thrown away, and no signature is checked. The
port is printed.
"""

import argparse
import json
import mmap
import os
import re
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from bench.compute.link import Link

CHUNK_BYTES = 1 << 20
ETAG = '"0123456789abcdef0123456789abcdef"'
_ABSOLUTE = re.compile("^http://[^/]*")
"""The AWS SDK in C++ names the server in a request's target, as to a proxy."""
_RANGE = re.compile(rb"range: bytes=(\d+)-(\d*)", re.IGNORECASE)
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_UPLOAD = b"<InitiateMultipartUploadResult><UploadId>one</UploadId></InitiateMultipartUploadResult>"
_JOINED = b"<CompleteMultipartUploadResult></CompleteMultipartUploadResult>"


class Held:
    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        self.view = memoryview(mmap.mmap(descriptor, self.size, prot=mmap.PROT_READ) if self.size else b"")

    def send(self, connection: socket.socket, first: int, end: int, down: Link) -> None:
        while first < end:
            if isinstance(connection, ssl.SSLSocket):
                sent = down.piece(min(CHUNK_BYTES, end - first))
                connection.sendall(self.view[first : first + sent])
            else:
                sent = os.sendfile(connection.fileno(), self.descriptor, first, down.piece(end - first))
            down.passed(sent)
            first += sent


@dataclass(frozen=True, slots=True)
class Server:
    objects: Mapping[str, Held]
    tls: ssl.SSLContext | None
    down: Link
    """To the clients, all together."""
    up: Link


def serve(connection: socket.socket, server: Server) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if server.tls is not None:
        connection = server.tls.wrap_socket(connection, server_side=True)
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
            server.up.passed(len(waiting))
            waiting = b""
            while left > 0:
                received_bytes = connection.recv_into(scratch[: server.up.piece(left)])
                server.up.passed(received_bytes)
                left -= received_bytes
            answer(connection, head, server)


def answer(connection: socket.socket, head: bytes, server: Server) -> None:
    method, target, _ = head.split(b" ", 2)
    path, _, query = _ABSOLUTE.sub("", target.decode("ascii")).partition("?")
    if method in (b"GET", b"HEAD"):
        found = server.objects.get(path)
        if found is None:
            connection.sendall(_head("404 X", 0))
            return
        asked = _RANGE.search(head)
        first = int(asked.group(1)) if asked else 0
        last = min(int(asked.group(2) or found.size), found.size - 1) if asked else found.size - 1
        status = f"206 X\r\nContent-Range: bytes {first}-{last}/{found.size}" if asked else "200 OK"
        connection.sendall(_head(status, last + 1 - first))
        if method == b"GET":
            found.send(connection, first, last + 1, server.down)
        return
    text = b""
    if method == b"POST":
        text = _UPLOAD if query.startswith("uploads") else _JOINED
    connection.sendall(_head("200 OK", len(text)) + text)


def _head(status: str, length: int) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\nETag: {ETAG}\r\n\r\n".encode()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.compute.object_server", description=__doc__)
    parser.add_argument("objects", type=json.loads)
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"))
    parser.add_argument("--bytes-per-s", type=float, help="of all connections together, in each direction")
    asked = parser.parse_args()
    tls = None
    if asked.tls:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(*asked.tls)
    objects = {path: Held(descriptor) for path, descriptor in asked.objects.items()}
    serving = Server(objects, tls, Link(asked.bytes_per_s), Link(asked.bytes_per_s))
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            connection, _ = server.accept()
            threading.Thread(target=serve, args=(connection, serving), daemon=True).start()


if __name__ == "__main__":
    main()
