"""What follows where a fork took an attempt back: the account, read at `finalized`, shows a lower one. Pure."""

from typing import Final

from listener.alarms import Alarm
from listener.chain.accounts import LIVE_STATES, ExecutionState
from listener.decisions import (
    CANCELLED_BY_REQUESTER,
    NOTHING,
    Decision,
    Sighting,
    cancelled,
    seen_again,
    taken_again,
    taken_in,
)
from listener.journal.changes import Change, Insert, PassOver, Supersede
from listener.journal.records import Assignment, Task
from listener.journal.states import ENDED, State
from listener.rules import Rules
from listener.standing import Standing

ATTEMPT_TAKEN_BACK: Final = "AttemptTakenBack"


def is_taken_back(seen: Sighting, known: Task) -> bool:
    """Whether a reading above the last one shows a lower attempt than the row that was seen last."""
    return seen.assignment.attempt < known.attempt and seen.assignment.verified_slot > known.verified_slot


def on_taken_back(
    seen: Sighting, known: Task, older: Task | None, completed: bool, rules: Rules, standing: Standing
) -> Decision:
    """The higher attempt is dropped, at compute too, and the lower taken up. `older` is its row, where it has one.

    What landed for the higher one is the lander's first: it is gone with its fork, or all of this is.
    """
    if known.state == State.CONFIRMED:
        return NOTHING
    if older is not None and older.content_hash != seen.assignment.content_hash:
        return Decision(alarm=Alarm.CONTENT_DIFFERS)
    dropped = () if known.state in ENDED else (Supersede(known.id), cancelled(known, ATTEMPT_TAKEN_BACK))
    if seen.state not in LIVE_STATES:
        return Decision(dropped)
    if older is None:
        return Decision((*dropped, *_new(seen, completed, rules, standing)))
    return Decision((*dropped, *_again(seen, older, completed, rules, standing)))


def _new(seen: Sighting, completed: bool, rules: Rules, standing: Standing) -> tuple[Change, ...]:
    shown: Assignment = seen.assignment
    if completed:
        return (PassOver(shown.account, shown.attempt, shown.verified_slot, "the pair was completed before"),)
    if seen.state is ExecutionState.CANCELLED:
        return (Insert(shown, State.CANCELLED, CANCELLED_BY_REQUESTER),)
    return taken_in(shown, rules, standing)


def _again(seen: Sighting, older: Task, completed: bool, rules: Rules, standing: Standing) -> tuple[Change, ...]:
    """One that was ended for the higher attempt starts anew; one that had ended by itself stays as it is."""
    if seen.state is ExecutionState.ASSIGNED and older.state == State.CANCELLED and not completed:
        again = taken_again(seen.assignment, older, rules, standing)
        if again:
            return again
    return (seen_again(seen.assignment, older),)
