"""The server, our storage on it, bare sockets beside it, and how ways of moving bytes are compared."""

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.compute.objects import OBJECT, Objects, path_of
from compute.storage.s3 import S3Storage
from shared.uris import parse_prefix

BARE_CONNECTIONS = 2
BARE_RANGE_BYTES = 32 << 20
MOVED_AT_ONCE = 4 << 20
Way = Callable[[], Awaitable[object]]
"""Moves all of the bytes once."""
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}


@contextmanager
def serving(
    objects: Objects, tls: tuple[Path, Path] | None = None, bytes_per_s: float | None = None
) -> Iterator[int]:
    """The port of a server that holds them; with TLS by a certificate and its key.

    `bytes_per_s`: what all its connections move together in each direction; None is no limit.
    """
    command = [sys.executable, "-m", "bench.compute.object_server", json.dumps(objects)]
    if tls is not None:
        command += ["--tls", *map(str, tls)]
    if bytes_per_s is not None:
        command += ["--bytes-per-s", str(bytes_per_s)]
    given = tuple(objects.values())
    with subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=given) as process:
        for descriptor in given:
            os.close(descriptor)
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


@contextmanager
def our_storage(port: int, scheme: str = "http") -> Iterator[S3Storage]:
    os.environ.update(CREDENTIALS)
    url = f"{scheme}://127.0.0.1:{port}"
    storage = S3Storage([parse_prefix("s3://bench")], endpoint_url=url, region="us-east-1", path_style=True)
    try:
        yield storage
    finally:
        storage.close()


def bare_get(port: int, view: memoryview, tls: ssl.SSLContext | None = None) -> None:
    """Ranges over two connections, straight into the buffer: what moving the bytes costs, and no more."""
    whole = 0 if tls else socket.MSG_WAITALL

    def take(connection: socket.socket, begin: int, end: int) -> None:
        asked = f"GET {path_of(OBJECT)} HTTP/1.1\r\nRange: bytes={begin}-{end - 1}\r\n\r\n"
        connection.sendall(asked.encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(4096)
        rest = head.partition(b"\r\n\r\n")[2]
        view[begin : begin + len(rest)] = rest
        begin += len(rest)
        while begin < end:
            begin += connection.recv_into(view[begin : min(end, begin + MOVED_AT_ONCE)], 0, whole)

    _over_connections(port, len(view), take, tls)


def bare_put(port: int, view: memoryview) -> None:
    def give(connection: socket.socket, begin: int, end: int) -> None:
        connection.sendall(f"PUT /o HTTP/1.1\r\nContent-Length: {end - begin}\r\n\r\n".encode())
        for offset in range(begin, end, MOVED_AT_ONCE):
            connection.sendall(view[offset : min(end, offset + MOVED_AT_ONCE)])
        connection.recv(4096)

    _over_connections(port, len(view), give)


def _over_connections(
    port: int, size: int, move: Callable[[socket.socket, int, int], None], tls: ssl.SSLContext | None = None
) -> None:
    ranges = [(begin, min(begin + BARE_RANGE_BYTES, size)) for begin in range(0, size, BARE_RANGE_BYTES)]
    lock = threading.Lock()

    def work() -> None:
        with socket.create_connection(("127.0.0.1", port)) as plain:
            connection = tls.wrap_socket(plain, server_hostname="127.0.0.1") if tls else plain
            while True:
                with lock:
                    if not ranges:
                        connection.close()
                        return
                    taken = ranges.pop()
                move(connection, *taken)

    threads = [threading.Thread(target=work) for _ in range(BARE_CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def best_gb_per_s(ways: Mapping[str, Way], size: int, rounds: int) -> dict[str, float]:
    """Of each way the best of its rounds, in turn: what else runs on the machine only ever takes away."""
    best = dict.fromkeys(ways, 0.0)
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.perf_counter()
            await way()
            best[name] = max(best[name], size / (time.perf_counter() - begun) / 1e9)
    return best


async def extra_memory(read: Callable[[], Awaitable[object]]) -> int:
    """Bytes that the process held at most while it read, less what it held before."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _peak_bytes()
    await read()
    return _peak_bytes() - before


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) << 10
