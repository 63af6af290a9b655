"""S3 to tensor where the name is the object's SHA-256: read, hashed and compared, beside the hash alone."""

import asyncio
import hashlib

from bench.compute.objects import hashed_object, path_of
from bench.compute.s3 import extra_memory, median_gb_per_s, our_get, our_storage, serving
from bench.lines import Goal, Line
from bench.machine import machine

SIZE, TINY_SIZE = 512 << 20, 16 << 20
ROUNDS = 5


async def measure(*, is_tiny: bool) -> list[Line]:
    size = TINY_SIZE if is_tiny else SIZE
    view = memoryview(bytearray(b"\1") * size)
    uri, descriptor = hashed_object(size)
    with serving({path_of(uri): descriptor}) as port, our_storage(port) as storage:
        speeds = await median_gb_per_s(
            {"ours": lambda: our_get(storage, uri, view), "bare": lambda: asyncio.to_thread(hashlib.sha256, view)},
            size,
            1 if is_tiny else ROUNDS,
        )
        extra = await extra_memory(lambda: our_get(storage, uri, view))
    unit = f"GB/s, {size >> 20} MiB, {machine()}"
    at_most = Goal("ours", "<=", 1.1)
    return [
        Line("S3 to tensor with SHA-256, beside the hash alone", unit, speeds["ours"], bare=speeds["bare"]),
        Line("memory of S3 to tensor with SHA-256", "of the tensor's size", 1 + extra / size, goal=at_most),
    ]
