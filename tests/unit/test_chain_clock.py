import asyncio

from listener.chain_clock import ChainClock
from shared.clock import SystemClock


def test_one_question_for_the_chains_time_serves_all_who_ask_at_once() -> None:
    asked = 0

    async def read() -> float:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return 1000.0

    async def ask() -> list[float]:
        clock = ChainClock(read, SystemClock())
        return await asyncio.gather(*(clock.now() for _ in range(20)))

    assert all(1000.0 <= moment < 1001.0 for moment in asyncio.run(ask()))
    assert asked == 1
