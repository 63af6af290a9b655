"""A node that was off while many tasks were assigned to it, half of which expired before it came back."""

import asyncio
from dataclasses import replace

import pytest

from requester.assign import Assignment, assign
from shared.ids import UnixSeconds
from tests.e2e.desk import FEE, REWARD, journal, new_pair, until
from tests.faults.conftest import FULL, Place
from tests.faults.node import MANY, faulty_node, last_lines

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(1_800),
    pytest.mark.validator,
    pytest.mark.s3,
]

TASKS = 500 if FULL else 60
AT_ONCE = 20
EXPIRE_AFTER_S = max(TASKS // 2, 45)
"""The half that expires is assigned first, so that all of it is assigned by then."""
TIME_S = 1_800
DONE_WITHIN_S = 300.0 + TASKS


async def test_a_node_that_was_off_does_what_is_left_and_reports_the_rest_as_missed(
    place: Place, seed: str
) -> None:
    desk, rpc = place.desk, place.net.rpc
    trusted = {**MANY, "SPLITUP_REQUESTER_ALLOWLIST": desk.session.requester}
    async with faulty_node(place.net, "off", seed, trusted) as node:
        assert await node.listener.stop() == 0
        before = await rpc.get_balance(node.address)
        model = await desk.assignment(node.address)
        expires_at = UnixSeconds(await rpc.get_clock() + EXPIRE_AFTER_S)
        ends_at = UnixSeconds(expires_at + TIME_S)
        places = asyncio.Semaphore(AT_ONCE)

        async def assigned(number: int) -> Assignment:
            deadline = expires_at if number < TASKS // 2 else ends_at
            async with places:
                return (await assign(desk.session, replace(model, pair=new_pair(), deadline=deadline))).assignment

        tasks = await asyncio.gather(*(assigned(number) for number in range(TASKS)))

        async def is_expired() -> bool:
            return await rpc.get_clock() > expires_at

        await until(is_expired, "half of them expire", EXPIRE_AFTER_S + 120.0)
        await node.listener.start()

        async def all_ended() -> bool:
            sql = "SELECT count(*) FROM tasks WHERE state IN ('paid', 'missed')"
            sql = f"SELECT ({sql}) + (SELECT count(*) FROM history)"
            return journal(node, sql) == [(TASKS,)]

        try:
            await until(all_ended, "all have ended", DONE_WITHIN_S)
        except AssertionError:
            print(journal(node, "SELECT state, reason, count(*) FROM tasks GROUP BY 1, 2"), last_lines(node))
            raise
        sql = "SELECT task_id, state FROM tasks UNION ALL SELECT task_id, state FROM history"
        ends = dict(journal(node, sql))
        assert ends == {one.pair.task_id: "missed" if one.deadline == expires_at else "paid" for one in tasks}
        assert await rpc.get_balance(node.address) - before == TASKS // 2 * (REWARD - FEE)
