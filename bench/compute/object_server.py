"""`python -m bench.compute.object_server BYTES`: an S3 server that costs little, so that its client is measured.

It holds one object, in memory, and sends it by sendfile(2) whatever is asked for; what is put is thrown away. It
checks no signature. The port is printed.
"""

import os
import re
import socket
import sys
import threading

CHUNK_BYTES = 1 << 20
ETAG = '"0123456789abcdef0123456789abcdef"'
_RANGE = re.compile(rb"range: bytes=(\d+)-(\d*)", re.IGNORECASE)
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_UPLOAD = b"<InitiateMultipartUploadResult><UploadId>one</UploadId></InitiateMultipartUploadResult>"
_JOINED = b"<CompleteMultipartUploadResult></CompleteMultipartUploadResult>"


def object_of(size: int) -> int:
    """A descriptor of `size` bytes of memory, each of them written."""
    held = os.memfd_create("object")
    left = size
    while left:
        left -= os.write(held, os.urandom(min(left, CHUNK_BYTES)))
    return held


def serve(connection: socket.socket, held: int, size: int) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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
            answer(connection, head, held, size)


def answer(connection: socket.socket, head: bytes, held: int, size: int) -> None:
    method = head.partition(b" ")[0]
    if method in (b"GET", b"HEAD"):
        asked = _RANGE.search(head)
        first = int(asked.group(1)) if asked else 0
        last = min(int(asked.group(2) or size), size - 1) if asked else size - 1
        status = f"206 X\r\nContent-Range: bytes {first}-{last}/{size}" if asked else "200 OK"
        connection.sendall(_head(status, last + 1 - first))
        while method == b"GET" and first <= last:
            first += os.sendfile(connection.fileno(), held, first, last + 1 - first)
        return
    text = b""
    if method == b"POST":
        text = _UPLOAD if b"?uploads" in head.partition(b"\r\n")[0] else _JOINED
    connection.sendall(_head("200 OK", len(text)) + text)


def _head(status: str, length: int) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\nETag: {ETAG}\r\n\r\n".encode()


def main() -> None:
    size = int(sys.argv[1])
    held = object_of(size)
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            connection, _ = server.accept()
            threading.Thread(target=serve, args=(connection, held, size), daemon=True).start()


if __name__ == "__main__":
    main()
