"""The one way by which tasks change: written to the journal, then logged, then told to whoever goes on with them."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from listener.alarms import sound
from listener.decisions import Decision
from listener.journal.changes import Change, Insert, Move, Owe, PassOver, Renumber, Restart, Sign, Sweep
from listener.journal.journal import Journal
from listener.journal.records import Assignment
from listener.journal.states import State
from shared.ids import UnixSeconds
from shared.logs import fields

log = logging.getLogger("listener.task")

Wake = Callable[[int | None], None]
"""Called with the id of the task that changed, or None where rows are new."""

Concerns = Callable[[Change], bool]

_WAKING: Final = (Insert, Move, Restart, Renumber, Sign, Sweep, Owe)
"""After these somebody has something else to do. A reading that only confirms a row interrupts nobody."""


class Steps:
    def __init__(self, journal: Journal, chain_time: Callable[[], UnixSeconds | None]) -> None:
        """`chain_time`: this moment by the chain's clock, where it is known."""
        self.journal = journal
        self._chain_time = chain_time
        self._wakes: list[tuple[Wake, Concerns]] = []

    def tell(self, wake: Wake, concerns: Concerns = lambda _: True) -> None:
        """Call `wake` after each commit of a change that concerns it."""
        self._wakes.append((wake, concerns))

    async def take(self, about: Assignment | None, decision: Decision) -> bool:
        """Write what was decided; whether there was anything. Raises StateConflict, and then nothing is written."""
        if decision.alarm is not None:
            sound(decision.alarm, **_about(about))
        if not decision.changes:
            return False
        try:
            await self.journal.apply(*decision.changes, at=self._chain_time())
        except asyncio.CancelledError:
            self._wake(decision)  # it may be written all the same, and somebody must go on with it
            raise
        for change in decision.changes:
            _log(about, change)
        self._wake(decision)
        return True

    def _wake(self, decision: Decision) -> None:
        changes = [change for change in decision.changes if isinstance(change, _WAKING)]
        for wake, concerns in self._wakes:
            for task in {_changed_task(change) for change in changes if concerns(change)}:
                wake(task)


def signs(change: Change) -> bool:
    return isinstance(change, Sign | Sweep)


def owes(change: Change) -> bool:
    return isinstance(change, Owe) or (isinstance(change, Move) and change.owed is not None)


def _changed_task(change: Insert | Move | Restart | Renumber | Sign | Sweep | Owe) -> int | None:
    return None if isinstance(change, Insert | Sweep) else change.task


def _log(about: Assignment | None, change: Change) -> None:
    """One line for each step of a task."""
    match change:
        case Insert(taken, state, reason):
            log.info(state.value, extra=fields(**_about(taken), reason=reason, reward=taken.reward))
        case Move(to=to, reason=reason):
            log.info(to.value, extra=fields(**_about(about), reason=reason))
        case Restart(attempt=attempt) | Renumber(attempt=attempt):
            log.info("goes on", extra=fields(**_about(about) | {"attempt": attempt}))
        case Sign(kind=kind, signature=signature):
            log.info(State.SUBMITTING.value, extra=fields(**_about(about), kind=kind.value, signature=signature))
        case Sweep(signature=signature, lamports=lamports):
            log.info("swept", extra=fields(signature=signature, lamports=lamports))
        case PassOver(account, attempt, slot, reason):
            log.info("passed over", extra=fields(account=account, attempt=attempt, slot=slot, reason=reason))
        case _:
            pass


def _about(about: Assignment | None) -> dict[str, object]:
    if about is None:
        return {}
    return {"executionId": about.execution_id, "taskId": about.task_id, "attempt": about.attempt}
