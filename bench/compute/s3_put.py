"""Tensor to S3: a large buffer to an object, beside bare sockets to the same server."""

import asyncio
import hashlib

from bench.compute.s3 import Way, bare_put, median_gb_per_s, our_storage, serving
from bench.compute.s3_peers import Peer, beside, boto3_client
from bench.lines import Goal, Line
from bench.machine import machine
from shared.uris import parse_object_uri

SIZE, TINY_SIZE = 512 << 20, 16 << 20
ROUNDS = 5
LIMIT = (
    "One object is one PUT on one connection. On several it would have to go in parts, of which each is hashed "
    "before it is sent where no TLS keeps it whole, and hashing is slower than sending."
)


async def measure(*, is_tiny: bool) -> list[Line]:
    size = TINY_SIZE if is_tiny else SIZE
    view = memoryview(bytearray(b"\1") * size)
    # Outputs are named by their hash, which is known before they are stored: it signs the body.
    uri = parse_object_uri(f"s3://bench/out/{hashlib.sha256(view).hexdigest()}.safetensors")
    with serving({}) as port, our_storage(port) as storage:
        client = boto3_client(port)
        put_object = Peer(lambda: asyncio.to_thread(client.put_object, Bucket="bench", Key="o", Body=view.obj))
        peers = {"boto3's put_object": put_object}
        ways: dict[str, Way] = {
            "ours": lambda: storage.put_new(uri, [view]),
            "bare": lambda: asyncio.to_thread(bare_put, port, view),
            "bare one": lambda: asyncio.to_thread(bare_put, port, view, 1),
            **peers,
        }
        speeds = await median_gb_per_s(ways, size, 1 if is_tiny else ROUNDS)
    unit = f"GB/s, {size >> 20} MiB, {machine()}"
    goal = Goal("ratio", ">=", 0.8)
    line = Line("tensor to S3", unit, speeds["ours"], bare=speeds["bare"], goal=goal, limit=LIMIT)
    return [
        line,
        Line("tensor to S3 beside one bare connection", unit, speeds["ours"], bare=speeds["bare one"]),
        *beside(line, peers, speeds, {}),
    ]
