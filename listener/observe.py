"""From a look at an account to changes of the journal: the one way by which the chain moves a task."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from listener.chain.idl import TaskAssigned
from listener.chain.rpc import Commitment
from listener.chain_clock import ChainClock
from listener.decisions import NOTHING, Decision, on_account, on_gone, takes_in
from listener.forks import is_taken_back, on_taken_back
from listener.journal.changes import PassOver
from listener.journal.records import EventRow, Task
from listener.journal.states import ENDED
from listener.judgement import Judgement
from listener.look import Look, View
from listener.rules import Rules
from listener.steps import Steps
from shared.errors import RpcInvalid, StateConflict
from shared.ids import Attempt, Slot

MAX_CONFLICTS: Final = 20
"""Changes of one row that come first, one after the other; more is no coincidence."""


class Observer:
    def __init__(
        self, look: Look, rules: Rules, chain_clock: ChainClock, steps: Steps, takes: Callable[[], bool]
    ) -> None:
        """`takes`: whether new work is taken at this moment. While not, it is left for the next listing."""
        self._look = look
        self._chain_clock = chain_clock
        self._judgement = Judgement(steps.journal, rules, chain_clock)
        self._steps = steps
        self._takes = takes

    async def observe(
        self,
        account: str,
        at_least: Slot,
        events: tuple[EventRow, ...] = (),
        *,
        listed: Attempt | None = None,
        commitment: Commitment = "confirmed",
    ) -> View:
        """Read the account, and write what follows together with the events that told of it.

        `listed` is the attempt that a listing showed. Raises ChainError.
        """
        for _ in range(MAX_CONFLICTS):
            known = await self._steps.journal.latest(account)
            is_new = known is None or known.state in ENDED
            look = self._look.at(account, at_least, commitment, is_new=is_new, told=events)
            view, _ = await asyncio.gather(look, self._chain_clock.refresh())
            if known is not None and view.sighting is not None and is_taken_back(view.sighting, known):
                view = await self._look.at(account, Slot(known.verified_slot + 1), "finalized", is_new=True)
                decision = await self._after_a_fork(view, known)
            else:
                decision = await self._decide(view, known, account, _heard_of(events, listed))
                if not self._takes() and any(takes_in(change) for change in decision.changes):
                    self._judgement.over(account)
                    return view
            about = view.sighting.assignment if view.sighting else known
            try:
                await self._steps.take(about, Decision((*events, *decision.changes), decision.alarm))
            except StateConflict:
                continue  # another change came first: what it left decides
            finally:
                self._judgement.over(account)
            return view
        raise RpcInvalid(f"what is told of account {account} contradicts what was told of it before")

    async def look_again(self, account: str) -> None:
        """Read an account of the journal once more. Raises ChainError."""
        known = await self._steps.journal.latest(account)
        await self.observe(account, known.verified_slot if known else Slot(0))

    async def _after_a_fork(self, view: View, known: Task) -> Decision:
        """An attempt counts as taken back only where that is final."""
        if view.sighting is None or not is_taken_back(view.sighting, known):
            return NOTHING
        shown = view.sighting.assignment
        journal = self._steps.journal
        if await journal.is_over(shown.account, shown.attempt):
            return NOTHING
        rows = await journal.tasks_of(shown.key)
        older = next((row for row in rows if (row.account, row.attempt) == (shown.account, shown.attempt)), None)
        completed = await journal.is_completed(shown.pair_hash)
        judged = partial(on_taken_back, view.sighting, known, older, completed)
        return await self._judgement.of(shown, known, judged)

    async def _decide(self, view: View, known: Task | None, account: str, heard_of: Attempt | None) -> Decision:
        if view.sighting is None:
            if heard_of is not None and (known is None or (known.state in ENDED and heard_of > known.attempt)):
                return Decision((PassOver(account, heard_of, view.slot, view.why),))
            return on_gone(known, view.slot)
        shown = view.sighting.assignment
        is_over, completed = await asyncio.gather(
            self._steps.journal.is_over(account, shown.attempt), self._steps.journal.is_completed(shown.pair_hash)
        )
        if is_over:
            return NOTHING
        return await self._judgement.of(shown, known, partial(on_account, view.sighting, known, completed))


def _heard_of(events: tuple[EventRow, ...], listed: Attempt | None) -> Attempt | None:
    """The attempt that was told of; an assignment's event has none, but is written in the slot that is its attempt."""
    assigned = [Attempt(event.slot) for event in events if event.name == TaskAssigned.__name__]
    return listed if listed is not None or not assigned else assigned[0]
