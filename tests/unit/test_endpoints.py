"""Several providers: who is asked, who is asked next, which are left out, and how many requests each is sent."""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from listener.alarms import Alarm
from listener.chain.budget import Budget, Urgency
from listener.chain.endpoint import MAX_PAUSE_S, OUT_S, Endpoint
from listener.chain.endpoints import Endpoints
from listener.chain.rpc import Rpc
from shared.errors import (
    ChainError,
    RpcInvalid,
    RpcRateLimited,
    RpcRefused,
    RpcUnavailable,
    WrongCluster,
)
from tests.unit.listener_world import FixedClock


class Provider:
    """Answers with its name, or raises the next of its errors."""

    def __init__(self, name: str, cluster: str = "ours") -> None:
        self.name = name
        self.cluster = cluster
        self.errors: list[ChainError] = []
        self.asked = 0
        self.told: list[str] = []

    async def get_genesis_hash(self) -> str:
        return self.cluster

    async def get_name(self) -> str:
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.name


NAME: Callable[[Rpc], Awaitable[str]] = lambda rpc: rpc.get_name()  # type: ignore[attr-defined]  # noqa: E731


def endpoints(clock: FixedClock, *providers: Any) -> Endpoints:
    rng = random.Random(1)
    return Endpoints(
        [Endpoint(one.name, dict.fromkeys(Urgency, one), clock, rng) for one in providers], clock, rng
    )


async def name(of: Endpoints) -> str:
    return await of.ask(NAME, Urgency.WORK)


@pytest.mark.parametrize(
    "error", [RpcUnavailable("away"), RpcRateLimited("429"), RpcInvalid("odd"), RpcRefused("no", -32601)]
)
async def test_where_the_preferred_one_gives_no_answer_the_next_one_is_asked(error: ChainError) -> None:
    first, second = Provider("first"), Provider("second")
    first.errors = [error]
    assert await name(endpoints(FixedClock(), first, second)) == "second"


async def test_one_that_failed_is_not_asked_for_a_while_and_preferred_again_after_it() -> None:
    clock, first, second = FixedClock(), Provider("first"), Provider("second")
    first.errors = [RpcUnavailable("away")]
    both = endpoints(clock, first, second)
    assert [await name(both), await name(both)] == ["second", "second"]
    assert first.asked == 1
    clock.now += 1.0
    assert await name(both) == "first"


async def test_one_that_asks_for_a_pause_is_given_it() -> None:
    clock, first, second = FixedClock(), Provider("first"), Provider("second")
    first.errors = [RpcRateLimited("429", retry_after_s=40.0)]
    both = endpoints(clock, first, second)
    await name(both)
    clock.now += 39.0
    assert await name(both) == "second"
    clock.now += 2.0
    assert await name(both) == "first"


async def test_a_pause_that_the_only_one_asks_for_is_kept_but_not_for_ever() -> None:
    clock, alone = FixedClock(), Provider("alone")
    alone.errors = [RpcRateLimited("429", retry_after_s=7_200.0)]
    one = endpoints(clock, alone)
    for _ in range(3):
        with pytest.raises(RpcRateLimited):
            await name(one)
    assert alone.asked == 1
    clock.now += MAX_PAUSE_S
    assert await name(one) == "alone"


async def test_what_one_refuses_another_may_answer_and_only_all_together_refuse() -> None:
    first, second = Provider("first"), Provider("second")
    both = endpoints(FixedClock(), first, second)
    first.errors = [RpcRefused("no", -32601)]
    assert await name(both) == "second"
    first.errors, second.errors = [RpcRefused("no", -32601)], [RpcUnavailable("away")]
    with pytest.raises(RpcUnavailable):
        await name(both)
    first.errors, second.errors = [RpcRefused("no", -32601)], [RpcRefused("no", -32601)]
    with pytest.raises(RpcRefused):
        await name(both)


async def test_one_of_another_cluster_is_never_asked_for_anything_else() -> None:
    first, second = Provider("first", cluster="other"), Provider("second")
    both = endpoints(FixedClock(), first, second)
    assert await both.join("ours") == "ours"
    assert await name(both) == "second"
    assert first.asked == 0 and both.all[0].is_out
    assert "of the cluster other" in str(both.all[0].why)


async def test_the_cluster_is_compared_again_after_an_outage() -> None:
    clock, first, second = FixedClock(), Provider("first"), Provider("second")
    both = endpoints(clock, first, second)
    await both.join(None)
    assert await name(both) == "first"
    first.errors, first.cluster = [RpcUnavailable("away")], "other"
    assert await name(both) == "second"
    clock.now += 60.0
    assert await name(both) == "second"
    assert both.all[0].is_out
    clock.now += OUT_S
    first.cluster = "ours"
    assert await name(both) == "first"


async def test_where_all_are_of_another_cluster_the_node_does_not_start() -> None:
    with pytest.raises(WrongCluster, match="first is of other"):
        await endpoints(FixedClock(), Provider("first", cluster="other")).join("ours")


async def test_what_cluster_it_is_two_must_say_alike_at_the_first_start() -> None:
    clock, liar, honest, away = (
        FixedClock(),
        Provider("first", cluster="other"),
        Provider("second"),
        Provider("third"),
    )
    answering = away.get_genesis_hash

    async def silent() -> str:
        if clock.now < begun + 60.0:
            raise RpcUnavailable("away")
        return await answering()

    away.get_genesis_hash = silent  # type: ignore[method-assign]
    begun = clock.now
    assert await endpoints(clock, liar, honest, away).join(None) == "ours"
    assert clock.now >= begun + 60.0


async def test_the_only_endpoint_decides_alone_of_which_cluster_the_node_is() -> None:
    assert await endpoints(FixedClock(), Provider("first", cluster="other")).join(None) == "other"


async def test_two_endpoints_of_different_clusters_are_named_once_at_the_first_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, first, second = FixedClock(), Provider("first", cluster="other"), Provider("second")
    both = endpoints(clock, first, second)
    sleep, rounds = clock.sleep, itertools.count()

    async def corrected(seconds: float) -> None:
        await sleep(seconds)
        if next(rounds) == 2:
            first.cluster = "ours"

    clock.sleep = corrected  # type: ignore[method-assign]
    assert await both.join(None) == "ours"
    (line,) = [record for record in caplog.records if record.message == Alarm.CLUSTER_UNKNOWN]
    assert "first is of other, second is of ours" in str(vars(line))


async def test_where_all_are_out_it_is_said_why() -> None:
    only = endpoints(FixedClock(), Provider("first"))
    only.all[0].take_out("it was outvoted")
    with pytest.raises(RpcUnavailable, match="first: it was outvoted"):
        await name(only)


async def test_what_is_sent_goes_to_every_one_that_is_well() -> None:
    clock, providers = FixedClock(), [Provider("first"), Provider("second"), Provider("third")]
    all_three = endpoints(clock, *providers)
    providers[0].errors = [RpcUnavailable("away")]
    await all_three.tell_all(NAME)
    assert [one.asked for one in providers] == [1, 1, 1]
    await all_three.tell_all(NAME)
    assert [one.asked for one in providers] == [1, 2, 2]


async def test_a_send_that_nobody_took_raises() -> None:
    clock, first = FixedClock(), Provider("first")
    first.errors = [RpcUnavailable("away")]
    with pytest.raises(RpcUnavailable):
        await endpoints(clock, first).tell_all(NAME)


async def test_no_more_requests_leave_than_the_budget_allows() -> None:
    clock = FixedClock()
    budget = Budget(per_s=10.0, clock=clock)
    started = clock.now
    for _ in range(110):
        await budget.take(Urgency.WORK)
    assert clock.now - started == pytest.approx(10.0, abs=0.2)  # ten at once, a hundred at ten a second


async def test_what_is_urgent_goes_first_and_what_came_first_goes_before_its_like() -> None:
    clock, order = FixedClock(), []
    # Time passes where the test says so.
    clock.sleep = lambda seconds: asyncio.sleep(0.0 * seconds)  # type: ignore[method-assign]
    budget = Budget(per_s=20.0, clock=clock)
    for _ in range(20):
        await budget.take(Urgency.SEARCH)

    async def taking(label: str, urgency: Urgency) -> None:
        await budget.take(urgency)
        order.append(label)

    async with asyncio.TaskGroup() as group:
        for label, urgency in [
            ("page", Urgency.SEARCH),
            ("look", Urgency.WORK),
            ("second page", Urgency.SEARCH),
            ("send", Urgency.SUBMIT),
        ]:
            group.create_task(taking(label, urgency))
        while len(order) < 4:
            await asyncio.sleep(0)  # in which all of them come
            clock.now += 0.01
    assert order == ["send", "look", "page", "second page"]


async def test_who_waits_for_an_endpoint_that_fails_does_not_try_it_in_turn() -> None:
    first = Provider("first")
    only = endpoints(FixedClock(), first)
    await only.join(None)
    tries, opened = 0, asyncio.Event()

    async def away() -> str:
        nonlocal tries
        tries += 1
        await opened.wait()
        raise RpcUnavailable("no answer")

    first.get_genesis_hash = away  # type: ignore[method-assign]
    waiting = [asyncio.ensure_future(name(only)) for _ in range(20)]
    await asyncio.sleep(0)
    opened.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(answer) for answer in answers} == {RpcUnavailable}
    assert tries == 1
