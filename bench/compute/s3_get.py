"""S3 to tensor: a large object into a task's buffer, beside bare sockets and peers on the same server."""

import asyncio
import os
from contextlib import ExitStack

from bench.compute.objects import OBJECT, path_of, weights_object
from bench.compute.s3 import Way, bare_get, extra_memory, median_gb_per_s, our_get, our_storage, serving
from bench.compute.s3_peers import beside, readers
from bench.lines import Goal, Line
from bench.machine import machine
from compute.buffer_pool import BufferPool, Wanted
from compute.shared_memory import SharedBuffer
from compute.specs import DType, TensorSpec

SIZE, TINY_SIZE = 512 << 20, 16 << 20
ROUNDS = 10
LIMIT = "Each range is a request of its own, whose head is read and signed in Python."


async def measure(*, is_tiny: bool) -> list[Line]:
    tensor_bytes = TINY_SIZE if is_tiny else SIZE
    descriptor = weights_object(TensorSpec(DType.UINT8, (tensor_bytes,)))
    size = os.fstat(descriptor).st_size
    view = memoryview(bytearray(b"\1") * size)
    wanted = Wanted(tensor_bytes, "a requester")
    with (
        serving({path_of(OBJECT): descriptor}) as port,
        our_storage(port) as storage,
        readers(port, view) as peers,
        ExitStack() as stack,
    ):

        async def read(pool: BufferPool) -> None:
            buffer = pool.take(wanted) or SharedBuffer("tensors", tensor_bytes)
            try:
                await our_get(storage, OBJECT, buffer.view)
            finally:
                pool.give(buffer, wanted)

        pool = BufferPool(tensor_bytes)
        stack.callback(pool.reclaim, tensor_bytes)
        ways: dict[str, Way] = {
            "ours": lambda: read(pool),
            "fresh": lambda: read(BufferPool(0)),
            "bare": lambda: asyncio.to_thread(bare_get, port, view),
            **peers,
        }
        speeds = await median_gb_per_s(ways, size, 1 if is_tiny else ROUNDS)
        extra = await extra_memory(lambda: our_get(storage, OBJECT, view[:tensor_bytes]))
    unit = f"GB/s, {tensor_bytes >> 20} MiB, {machine()}"
    goal = Goal("ratio", ">=", 0.9)
    line = Line("S3 to tensor", unit, speeds["ours"], bare=speeds["bare"], goal=goal, limit=LIMIT)
    return [
        line,
        Line("S3 to tensor, into memory that no task used before", unit, speeds["fresh"], bare=speeds["bare"]),
        *beside(line, peers, speeds, {"boto3's default": Goal("ratio", ">=", 3)}),
        Line("memory of S3 to tensor", "of the tensor's size", 1 + extra / size, goal=Goal("ours", "<=", 1.1)),
    ]
