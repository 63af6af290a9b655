"""Two endpoints, and a third: whose answer counts where one is silent, late, or lies."""

import random
from typing import Any

import pytest

from listener.chain.agreement import Agreement, Question
from listener.chain.answers import Commitment
from listener.chain.budget import Urgency
from listener.chain.endpoint import Endpoint
from listener.chain.endpoints import Endpoints
from shared.errors import ChainError, Disputed, RpcRefused, RpcUnavailable
from shared.ids import Slot
from tests.unit.listener_world import FixedClock


class Witness:
    """Shows `then` from slot `turns` on, and `first` before it. Without a word it does not answer."""

    def __init__(self, first: str, then: str = "", turns: int = 10**9, slot: int = 100) -> None:
        self.first, self.then, self.turns, self.slot = first, then, turns, slot
        self.is_silent = False
        self.asked: list[tuple[int, Commitment]] = []

    async def told(self, at_least: Slot, commitment: Commitment) -> tuple[Slot, str]:
        self.asked.append((at_least, commitment))
        if self.is_silent:
            raise RpcUnavailable("no answer")
        slot = self.slot if commitment == "confirmed" else self.slot - 30
        if slot < at_least:
            if commitment == "finalized":
                self.slot += 10
            raise RpcRefused("the slot is not reached", -32016)
        return Slot(slot), self.then if slot >= self.turns else self.first


class Court:
    def __init__(self, *witnesses: Witness) -> None:
        self.clock = FixedClock()
        rng = random.Random(1)
        anyone: list[Any] = list(witnesses)
        self.endpoints = Endpoints(
            [
                Endpoint(f"endpoint {n}", dict.fromkeys(Urgency, one), self.clock, rng)
                for n, one in enumerate(anyone)
            ],
            self.clock,
            rng,
        )
        self.agreement = Agreement(self.endpoints, self.clock)

    async def hears(self, at_least: int = 50) -> str:
        async def ask(rpc: Any, at_least: Slot, commitment: Commitment) -> tuple[Slot, str]:
            told: tuple[Slot, str] = await rpc.told(at_least, commitment)
            return told

        question = Question("the account", ask, same=lambda told: told[1], slot=lambda told: told[0])
        return (await self.agreement.on(question, Slot(at_least), "confirmed"))[1]


async def test_a_single_endpoint_decides() -> None:
    assert await Court(Witness("assigned")).hears() == "assigned"


async def test_two_that_agree_are_asked_once_each() -> None:
    one, other = Witness("assigned"), Witness("assigned", slot=120)
    court = Court(one, other)
    assert await court.hears() == "assigned"
    assert one.asked == other.asked == [(50, "confirmed")]
    assert court.agreement.alone is None


async def test_where_one_is_silent_the_other_decides_alone_and_that_is_told() -> None:
    one, other = Witness("assigned"), Witness("assigned")
    one.is_silent = True
    court = Court(one, other)
    assert await court.hears() == "assigned"
    assert court.agreement.alone is not None and court.agreement.alone.startswith("endpoint 1 decides alone")
    asked = len(one.asked)
    await court.hears()
    assert len(one.asked) == asked, "nobody waits for one that was silent a moment ago"
    one.is_silent = False
    court.clock.now += 60
    await court.hears()
    assert court.agreement.alone is None


async def test_where_one_of_three_is_silent_the_other_two_decide() -> None:
    one, two, three = Witness("assigned"), Witness("assigned"), Witness("assigned")
    one.is_silent = True
    court = Court(one, two, three)
    assert await court.hears() == "assigned"
    assert court.agreement.alone is None


async def test_once_a_third_answers_in_a_silent_one_s_place_nobody_decides_alone() -> None:
    one, two, three = Witness("assigned"), Witness("assigned"), Witness("assigned")
    one.is_silent = two.is_silent = True
    court = Court(one, two, three)
    await court.hears()
    assert court.agreement.alone is not None and court.agreement.alone.startswith("endpoint 2 decides alone")
    two.is_silent = False
    court.clock.now += 60
    await court.hears()
    assert court.agreement.alone is None


async def test_a_single_endpoint_that_refuses_is_asked_once() -> None:
    only = Witness("assigned", slot=40)
    court = Court(only)
    with pytest.raises(RpcRefused):
        await court.hears()
    with pytest.raises(RpcRefused):
        await court.agreement.each(lambda rpc: rpc.told(Slot(50), "confirmed"))  # type: ignore[attr-defined]
    assert len(only.asked) == 2


async def test_where_both_are_silent_the_question_has_no_answer() -> None:
    one, other = Witness("assigned"), Witness("assigned")
    one.is_silent = other.is_silent = True
    with pytest.raises(RpcUnavailable):
        await Court(one, other).hears()


async def test_one_that_is_only_behind_sees_the_same_at_the_higher_slot() -> None:
    ahead, behind = Witness("assigned", "cancelled", turns=110, slot=120), Witness("assigned", "cancelled", 110)
    real = behind.told

    async def catches_up(at_least: Slot, commitment: Commitment) -> tuple[Slot, str]:
        found = await real(at_least, commitment)
        behind.slot = 120
        return found

    behind.told = catches_up  # type: ignore[method-assign]
    court = Court(ahead, behind)
    assert await court.hears() == "cancelled"
    assert not any(one.is_out for one in court.endpoints.all)


async def test_a_lie_is_outvoted_by_a_third_and_the_liar_is_taken_out() -> None:
    honest, liar, third = Witness("assigned"), Witness("gone"), Witness("assigned")
    court = Court(honest, liar, third)
    assert await court.hears() == "assigned"
    assert [one.is_out for one in court.endpoints.all] == [False, True, False]


async def test_without_a_third_the_question_is_disputed() -> None:
    with pytest.raises(Disputed, match="endpoint 0 and endpoint 1 disagree on the account at slot 100"):
        await Court(Witness("assigned"), Witness("gone")).hears()


async def test_endpoints_that_agree_at_finalized_decide_there_once_it_has_reached_the_slot() -> None:
    one, other = Witness("assigned"), Witness("assigned")
    real = other.told

    async def confused(at_least: Slot, commitment: Commitment) -> tuple[Slot, str]:
        slot, told = await real(at_least, commitment)
        return slot, told if commitment == "finalized" else "gone"

    other.told = confused  # type: ignore[method-assign]
    assert await Court(one, other).hears() == "assigned"
    assert (100, "finalized") in other.asked


async def test_what_is_no_answer_of_the_endpoint_is_not_swallowed() -> None:
    class Wrong(ChainError): ...

    court = Court(Witness("assigned"), Witness("assigned"))

    async def ask(_: Any, __: Slot, ___: Commitment) -> tuple[Slot, str]:
        raise Wrong

    question = Question("the account", ask, same=lambda told: told[1], slot=lambda told: told[0])
    with pytest.raises(Wrong):
        await court.agreement.on(question, Slot(0), "confirmed")


async def test_each_of_two_is_heard_and_where_one_is_silent_the_next_one() -> None:
    one, other, third = Witness("10"), Witness("20"), Witness("30")
    court = Court(one, other, third)

    async def ask(rpc: Any) -> int:
        return int((await rpc.told(0, "confirmed"))[1])

    assert await court.agreement.each(ask) == [10, 20]
    one.is_silent = True
    assert await court.agreement.each(ask) == [20, 30]
    assert court.agreement.alone is None
    third.is_silent = True
    assert await court.agreement.each(ask) == [20]
    assert court.agreement.alone is not None
