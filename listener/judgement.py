"""What the rules judge by. Assignments are judged one after the other, so that no two take the same last place."""

import asyncio
from collections.abc import Callable

from listener.chain_clock import ChainClock
from listener.decisions import Decision, is_judged, takes_in
from listener.journal.journal import Journal
from listener.journal.records import Assignment, Task
from listener.rules import Rules
from listener.standing import Standing, is_newcomer, open_work, unpaid
from shared.ids import day_of

Judge = Callable[[Rules, Standing], Decision]


class Judgement:
    def __init__(self, journal: Journal, rules: Rules, chain_clock: ChainClock) -> None:
        self._journal = journal
        self._rules = rules
        self._chain_clock = chain_clock
        self._judging = asyncio.Lock()
        self._taking: dict[str, tuple[Assignment, bool]] = {}
        """What was let in and is not in the journal yet, by its account, and whether a newcomer assigned it."""

    async def of(self, assignment: Assignment, known: Task | None, judge: Judge) -> Decision:
        """What `judge` decides. Call `over` once that is written. Raises ChainError."""
        if not is_judged(assignment, known):
            return judge(self._rules, Standing(await self._chain_clock.now()))
        async with self._judging:
            standing = await self._standing(assignment)
            decision = judge(self._rules, standing)
            if any(takes_in(change) for change in decision.changes):
                self._taking[assignment.account] = assignment, standing.is_newcomer
        return decision

    def over(self, account: str) -> None:
        """What was decided about it is written, or will not be."""
        self._taking.pop(account, None)

    async def _standing(self, assignment: Assignment) -> Standing:
        """What is being taken counts before the journal is read, and so perhaps twice, never not at all."""
        now = await self._chain_clock.now()
        requester, being_taken = assignment.requester, list(self._taking.values())
        has_paid, in_flight, estimate, today = await asyncio.gather(
            self._journal.has_paid(requester),
            self._journal.in_flight(),
            self._journal.estimate(assignment.model_id, assignment.compute_units),
            self._journal.requester_day(requester, day_of(now)),
        )
        newcomer = is_newcomer(requester, has_paid, self._rules.allowlist)
        taking = [
            other
            for other, of_newcomer in being_taken
            if (of_newcomer if newcomer else other.requester == requester)
        ]
        tasks, units = open_work(requester, newcomer, in_flight, self._rules.allowlist)
        return Standing(
            now=now,
            is_newcomer=newcomer,
            open_tasks=tasks + len(taking),
            open_compute_units=units + sum(other.compute_units for other in taking),
            unpaid_today=unpaid(today),
            estimate_s=None if estimate is None else estimate.seconds,
        )
