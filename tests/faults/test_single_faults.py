"""Each kind of fault on each link, one at a time: the task is paid once all the same."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from listener.chain.accounts import ExecutionState
from shared.ids import TaskKey
from tests.e2e.desk import FEE, REWARD, journal, until
from tests.faults.conftest import FULL, Place
from tests.faults.node import LINKS, POSSIBLE, FaultyNode, faulty_node, last_lines
from tests.faults.weather import HANDSHAKE_FAULTS, Fault
from tests.faults.websocket_proxy import WebsocketProxy

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
    pytest.mark.validator,
    pytest.mark.s3,
]

STALL_S = 30.0 if FULL else 4.0
"""The long one outlasts every time-out of the node's own; after the short one the connection is cut."""
PAID_WITHIN_S = 400.0 if FULL else 90.0
TIME_S = 900
FUNDED = 100_000_000_000


@dataclass
class Struck:
    """A node that meets faults on one link only, and the tasks that it was assigned."""

    node: FaultyNode
    tasks: list[TaskKey]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def struck(place: Place, fault_seed: str) -> AsyncIterator[dict[str, Struck]]:
    """For each link a node that meets faults on this one only."""
    async with AsyncExitStack() as stack:
        nodes = await asyncio.gather(
            *(stack.enter_async_context(faulty_node(place.net, f"on-{link}", fault_seed)) for link in LINKS)
        )
        yield {link: Struck(node, []) for link, node in zip(LINKS, nodes, strict=True)}


def strike(node: FaultyNode, link: str, fault: Fault, seed: str) -> None:
    for place, proxy in enumerate(node.links.of(link)):
        weather = proxy.weather
        weather.rng.seed(f"{seed}/{link}{place}")
        weather.kinds, weather.stall_s = (fault,), STALL_S
        weather.first = 1 if fault is Fault.STALL else 2
        if isinstance(proxy, WebsocketProxy) and fault in HANDSHAKE_FAULTS:
            proxy.cut_all()


async def is_open(node: FaultyNode, link: str) -> bool:
    """Whether messages can come; a link of requests always is."""
    return any(not isinstance(proxy, WebsocketProxy) or proxy.open for proxy in node.links.of(link))


async def was_struck(node: FaultyNode, link: str) -> bool:
    return any(proxy.weather.struck for proxy in node.links.of(link))


async def paid_once(place: Place, struck: Struck, link: str, fault: Fault, seed: str) -> float:
    """Seconds from the assignment to the payment while the fault strikes the link."""
    node, desk = struck.node, place.desk
    await until(lambda: is_open(node, link), f"the last fault on {link} is passed")
    before = await place.net.rpc.get_balance(node.address)
    strike(node, link, fault, seed)
    begun = time.monotonic()
    pair = (await desk.assign(node.address, time_s=TIME_S)).assignment.pair
    struck.tasks.append(pair)

    async def is_over() -> bool:
        execution = await desk.session.execution(pair)
        return execution is not None and execution.state in (ExecutionState.COMPLETED, ExecutionState.FAILED)

    try:
        await until(is_over, "the task ends", PAID_WITHIN_S)
        took_s = time.monotonic() - begun
        assert await place.net.rpc.get_balance(node.address) - before == REWARD - FEE
    except AssertionError:
        ended = journal(node, "SELECT state, reason, result FROM tasks WHERE task_id = ?", pair.task_id)
        print(f"{fault.name} on {link}: {ended}\n{last_lines(node)}")
        raise
    # The lists of signatures are as good as the websocket, and the task may have been paid by them alone.
    await until(lambda: was_struck(node, link), f"{fault.name} strikes {link}")
    for proxy in node.links.of(link):
        proxy.weather.clear()
    return took_s


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.name.lower())
async def test_a_task_is_paid_once_whichever_link_meets(
    fault: Fault, place: Place, struck: dict[str, Struck], seed: str
) -> None:
    links = [link for link in LINKS if fault in POSSIBLE[link]]
    took: list[str] = []
    failed: list[Exception] = []

    async def on(link: str) -> None:
        try:
            took.append(f"{link} {await paid_once(place, struck[link], link, fault, seed):.1f} s")
        except Exception as error:  # noqa: BLE001 # told below, when no other link's task is under way any more
            failed.append(error)

    await asyncio.gather(*(on(link) for link in links))
    print(", ".join(took))
    if failed:
        raise ExceptionGroup(f"{fault.name}", failed)


async def test_at_the_end_each_of_these_tasks_has_one_signature_and_no_debt(
    place: Place, struck: dict[str, Struck]
) -> None:
    for link, one in struck.items():
        await until(lambda: settled(one), f"all tasks on {link} are settled")  # noqa: B023 # awaited here
        signed = "SELECT task, count(*) FROM outbox GROUP BY task"
        assert [count for _, count in journal(one.node, signed)] == [1] * len(one.tasks), link
        earned = len(one.tasks) * (REWARD - FEE)
        assert await place.net.rpc.get_balance(one.node.address) == FUNDED + earned, link


async def settled(struck: Struck) -> bool:
    rows = journal(struck.node, "SELECT state, owed FROM tasks")
    return rows == [("paid", "nothing")] * len(struck.tasks)
