"""What two endpoints say alike: no single provider can make the node take, sign or drop anything by a lie.

One gives no answer: the other decides alone. They disagree: both are asked once more at the higher slot, then at
`finalized`; then a third decides, and who is outvoted is taken out. Without a third the question is disputed.
"""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from listener.chain.budget import Urgency
from listener.chain.endpoint import Endpoint
from listener.chain.endpoints import NEXT_ONE, Endpoints
from listener.chain.rpc import Commitment, Rpc
from shared.clock import Clock
from shared.errors import Disputed
from shared.ids import Slot
from shared.logs import fields

FINALITY_LIMIT_S: Final = 60.0
"""How long `finalized` may take to reach a slot, before endpoints that disagree about it are given up for now."""
FINALITY_PAUSE_S: Final = 2.0

_T = TypeVar("_T")

log = logging.getLogger("listener.agreement")


@dataclass(frozen=True, slots=True)
class Question(Generic[_T]):
    """What is asked.

    `ask` reads at a slot not below the one given, or raises ChainError; `same` is what answers must agree in.
    `patience_s` is how long those that disagree are waited for at `finalized`; 0 asks there once, for what is itself
    asked again soon.
    """

    about: str
    ask: Callable[[Rpc, Slot, Commitment], Awaitable[_T]]
    same: Callable[[_T], object]
    slot: Callable[[_T], Slot]
    patience_s: float = FINALITY_LIMIT_S


class Agreement:
    def __init__(self, endpoints: Endpoints, clock: Clock) -> None:
        self._endpoints = endpoints
        self._clock = clock
        self.alone: str | None = None
        """The endpoint that decided the last question alone where two should have, and why."""

    async def on(
        self, question: Question[_T], at_least: Slot, commitment: Commitment, urgency: Urgency = Urgency.WORK
    ) -> _T:
        """What two endpoints agree on. Raises Disputed, or ChainError where none answers."""
        answers = await self._of_two(question, at_least, commitment, urgency)
        if len(answers) < 2:
            return await self._by_one(answers, question, at_least, commitment, urgency)
        agreed = _agreed(question, answers)
        return await self._once_more(question, answers, commitment, urgency) if agreed is None else agreed

    async def each(self, ask: Callable[[Rpc], Awaitable[_T]], urgency: Urgency = Urgency.WORK) -> list[_T]:
        """What two endpoints say where there are two, for the caller to choose from; at least one answer.

        Raises ChainError where none answers.
        """

        async def read(rpc: Rpc, _: Slot, __: Commitment) -> _T:
            return await ask(rpc)

        question = Question("a value", read, same=lambda _: None, slot=lambda _: Slot(0))
        answers = await self._of_two(question, Slot(0), "confirmed", urgency)
        if len(answers) < 2:
            return [await self._by_one(answers, question, Slot(0), "confirmed", urgency)]
        return list(answers.values())

    async def _of_two(
        self, question: Question[_T], at_least: Slot, commitment: Commitment, urgency: Urgency
    ) -> dict[Endpoint, _T]:
        """Two answers, the next endpoint's in place of one that gives none. Fewer where fewer are well, or answer."""
        two = self._endpoints.well()[:2]
        if len(two) < 2:
            return {}
        answers = await _ask(two, question, at_least, commitment, urgency)
        if len(answers) < 2:
            others = [one for one in self._endpoints.well() if one not in two]
            answers |= await _ask(others[: 2 - len(answers)], question, at_least, commitment, urgency)
        if len(answers) == 2:
            self.alone = None
        return answers

    async def _by_one(
        self,
        answers: dict[Endpoint, _T],
        question: Question[_T],
        at_least: Slot,
        commitment: Commitment,
        urgency: Urgency,
    ) -> _T:
        """The only answer there is, else that of the first endpoint that gives one, be it well or not."""
        if answers:
            ((endpoint, answer),) = answers.items()
            told_by = [endpoint]
        else:
            answer = await self._endpoints.ask(lambda rpc: question.ask(rpc, at_least, commitment), urgency)
            told_by = self._endpoints.well()
        self.alone = _alone(told_by) if len(self._endpoints.all) > 1 else None
        return answer

    async def _once_more(
        self, question: Question[_T], answers: dict[Endpoint, _T], commitment: Commitment, urgency: Urgency
    ) -> _T:
        """They disagreed, most often since one is ahead: at the higher slot both see the same."""
        two, higher = list(answers), max(question.slot(answer) for answer in answers.values())
        again = await _ask(two, question, higher, commitment, urgency)
        agreed = _agreed(question, again)
        return await self._finally(question, two, higher, urgency) if agreed is None else agreed

    async def _finally(self, question: Question[_T], two: list[Endpoint], higher: Slot, urgency: Urgency) -> _T:
        """By what stands at `finalized`, once that has reached the slot: the two alike, or a third with one of them."""
        log.warning("two endpoints disagree", extra=fields(about=question.about, slot=higher))
        jury = two + [one for one in self._endpoints.well() if one not in two][:1]
        patience_ends = self._clock.monotonic() + question.patience_s
        answers = await _ask(jury, question, higher, "finalized", urgency)
        while len(answers) < len(jury) and self._clock.monotonic() < patience_ends:
            await self._clock.sleep(FINALITY_PAUSE_S)
            answers = await _ask(jury, question, higher, "finalized", urgency)
        for one, other in itertools.combinations(answers, 2):
            agreed = _agreed(question, {one: answers[one], other: answers[other]})
            if agreed is not None:
                _take_out_liars(question, answers, question.same(agreed), f"{one.name} and {other.name}")
                return agreed
        raise Disputed(f"{' and '.join(one.name for one in two)} disagree on {question.about} at slot {higher}")


def _take_out_liars(question: Question[_T], answers: dict[Endpoint, _T], truth: object, witnesses: str) -> None:
    for one, answer in answers.items():
        if question.same(answer) != truth:
            one.take_out(f"{witnesses} agree against it on {question.about}")


async def _ask(
    endpoints: list[Endpoint], question: Question[_T], at_least: Slot, commitment: Commitment, urgency: Urgency
) -> dict[Endpoint, _T]:
    """All at once; those that give no answer are left out."""
    answers = await asyncio.gather(
        *(one.ask(lambda rpc: question.ask(rpc, at_least, commitment), urgency) for one in endpoints),
        return_exceptions=True,
    )
    found: dict[Endpoint, _T] = {}
    for endpoint, answer in zip(endpoints, answers, strict=True):
        if not isinstance(answer, BaseException):
            found[endpoint] = answer
        elif not isinstance(answer, NEXT_ONE):
            raise answer
    return found


def _alone(endpoints: list[Endpoint]) -> str:
    name = endpoints[0].name if endpoints else "one endpoint"
    return f"{name} decides alone: the others do not answer, or are left out"


def _agreed(question: Question[_T], answers: dict[Endpoint, _T]) -> _T | None:
    """Of two that agree the answer of the higher slot."""
    if len(answers) < 2 or len({question.same(answer) for answer in answers.values()}) > 1:
        return None
    return max(answers.values(), key=question.slot)
