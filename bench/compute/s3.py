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
from statistics import median

from bench.compute.objects import OBJECT, Objects, path_of
from compute.storage.s3 import S3Storage
from compute.storage.store import Storage
from compute.tensors import load, read_header
from shared.uris import ObjectUri, parse_prefix

BARE_CONNECTIONS, BARE_CONNECTIONS_BY_TLS = 4, 2
BARE_RANGE_BYTES = 64 << 20
"""These move the most over loopback: by TLS more connections than cores take turns."""
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


async def our_get(storage: Storage, uri: ObjectUri, tensor: memoryview) -> None:
    """As compute reads an object's only tensor: its header first, then the bytes."""
    header = await read_header(storage, uri, max_header_bytes=1 << 20, max_tensors=1)
    await load(storage, uri, header, header.entries, [tensor])


def bare_get(port: int, view: memoryview, tls: ssl.SSLContext | None = None) -> None:
    """Ranges over a few connections, straight into the buffer: what moving the bytes costs, and no more."""
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

    _over_connections(port, len(view), take, BARE_CONNECTIONS_BY_TLS if tls else BARE_CONNECTIONS, tls)


def bare_put(port: int, view: memoryview, connections: int = BARE_CONNECTIONS) -> None:
    def give(connection: socket.socket, begin: int, end: int) -> None:
        connection.sendall(f"PUT /o HTTP/1.1\r\nContent-Length: {end - begin}\r\n\r\n".encode())
        for offset in range(begin, end, MOVED_AT_ONCE):
            connection.sendall(view[offset : min(end, offset + MOVED_AT_ONCE)])
        connection.recv(4096)

    _over_connections(port, len(view), give, connections)


def _over_connections(
    port: int,
    size: int,
    move: Callable[[socket.socket, int, int], None],
    connections: int,
    tls: ssl.SSLContext | None = None,
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

    threads = [threading.Thread(target=work) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def median_gb_per_s(ways: Mapping[str, Way], size: int, rounds: int) -> dict[str, float]:
    """Of each way the median of its rounds, in turn. The best of them is another one in each run."""
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.perf_counter()
            await way()
            speeds[name].append(size / (time.perf_counter() - begun) / 1e9)
    return {name: median(of_each) for name, of_each in speeds.items()}


async def extra_memory(read: Callable[[], Awaitable[object]]) -> int:
    """Bytes that the process held at most while it read, less what it held before."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _peak_bytes()
    await read()
    return _peak_bytes() - before


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) << 10
