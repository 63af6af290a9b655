"""S3 to tensor: a large object into a touched buffer, beside bare sockets and peers on the same server."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from bench.compute.objects import OBJECT, path_of, random_object
from bench.compute.s3 import (
    bare_get,
    best_gb_per_s,
    boto3_client,
    extra_memory,
    obstore_of,
    our_storage,
    serving,
)
from bench.lines import Goal, Line
from bench.machine import machine

SIZE, TINY_SIZE = 512 << 20, 16 << 20
ROUNDS = 5
LIMIT = "Each range is a request of its own, whose head is read and signed in Python."


class _Target:
    """What boto3 writes a download to: the buffer, at the place it seeks to."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = 0

    def seek(self, offset: int, _: int = 0) -> int:
        self._at = offset
        return offset

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def write(self, data: bytes) -> int:
        self._view[self._at : self._at + len(data)] = data
        self._at += len(data)
        return len(data)


async def measure(*, is_tiny: bool) -> list[Line]:
    size = TINY_SIZE if is_tiny else SIZE
    view = memoryview(bytearray(b"\1") * size)
    with serving({path_of(OBJECT): random_object(size)}) as port, our_storage(port) as storage:
        client, store = boto3_client(port), obstore_of(port)
        ways: dict[str, Callable[[], Awaitable[object]]] = {
            "ours": lambda: storage.read_into(OBJECT, 0, view),
            "bare": lambda: asyncio.to_thread(bare_get, port, view),
            "boto3": lambda: asyncio.to_thread(client.download_fileobj, OBJECT.bucket, OBJECT.key, _Target(view)),
        }
        if store is not None:
            ways["obstore"] = lambda: asyncio.to_thread(_obstore_get, store, view)
        best = await best_gb_per_s(ways, size, 1 if is_tiny else ROUNDS)
        extra = await extra_memory(lambda: storage.read_into(OBJECT, 0, view))
    unit = f"GB/s, {size >> 20} MiB, {machine()}"
    at_least = Goal("ratio", ">=", 0.9)
    lines = [
        Line("S3 to tensor", unit, best["ours"], bare=best["bare"], goal=at_least, limit=LIMIT),
        Line(
            "S3 to tensor beside boto3's default",
            unit,
            best["ours"],
            peer=best["boto3"],
            goal=Goal("ratio", ">=", 3),
        ),
        Line("memory of S3 to tensor", "of the tensor's size", 1 + extra / size, goal=Goal("ours", "<=", 1.1)),
    ]
    if store is not None:
        lines.append(Line("S3 to tensor beside obstore", unit, best["ours"], peer=best["obstore"]))
    return lines


def _obstore_get(store: Any, view: memoryview) -> None:
    at = 0
    for chunk in store.get(OBJECT.key).stream(min_chunk_size=8 << 20):
        piece = memoryview(chunk)
        view[at : at + len(piece)] = piece
        at += len(piece)
