"""`python -m bench.listener.bare_reader URL COUNT`: reads COUNT messages and parses each, and does nothing else.

Prints the CPU seconds from the first to the last. The loop is the listener's own kind.
"""

import json
import sys
import time

import uvloop
from websockets.asyncio.client import connect


async def read(url: str, count: int) -> float:
    async with connect(url, compression=None, proxy=None, ping_interval=None) as connection:
        json.loads(await connection.recv())
        begun_at = time.process_time()
        for _ in range(count - 1):
            json.loads(await connection.recv())
        return time.process_time() - begun_at


if __name__ == "__main__":
    print(uvloop.run(read(sys.argv[1], int(sys.argv[2]))))
