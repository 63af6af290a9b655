import asyncio

from listener.chain_clock import MAX_AGE_S, ChainClock
from shared.clock import SystemClock
from shared.errors import RpcUnavailable
from tests.unit.listener_world import FixedClock


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


async def test_while_the_chain_cannot_be_read_nobody_waits_for_it_twice_in_a_moment() -> None:
    clock, asked = FixedClock(), 0

    async def read() -> float:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise RpcUnavailable("no answer")
        return 1000.0

    chain_clock = ChainClock(read, clock)
    await chain_clock.now()
    await clock.sleep(MAX_AGE_S + 5)
    later = await asyncio.gather(*(chain_clock.now() for _ in range(20)))
    assert asked == 2
    assert min(later) >= 1000.0 + MAX_AGE_S, "what has passed since the last reading counts"
