"""What follows from what an operator asks for through the journal. Pure, like decisions.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from listener.decisions import Decision, cancelled, failure
from listener.journal.changes import Change, Move, SetCondition
from listener.journal.records import Task
from listener.journal.states import (
    ENDED,
    SIGNED,
    ConditionName,
    IntakeState,
    Owed,
    RequestState,
    State,
    SubmissionKind,
)
from listener.landing import loss
from shared.ids import TaskKey

SKIPPED: Final = "skipped"
DRAINING: Final = "draining"


@dataclass(frozen=True, slots=True)
class Ruling:
    """What becomes of a request, and what it changes together with its answer."""

    state: RequestState
    answer: str
    changes: tuple[Change, ...] = ()
    intake: IntakeState | None = None
    """What intake is from now on; None: as it was."""


def on_skip(pair: TaskKey, attempts: Sequence[Task]) -> Ruling:
    """`attempts` are the pair's rows, the oldest first. What is signed cannot be taken back."""
    if not attempts:
        return refused(f"the journal holds no task {pair}, or it has ended")
    task = attempts[-1]
    if task.state in ENDED:
        return refused(f"it has ended: {task.state}" + (f" ({task.reason})" if task.reason else ""))
    if task.state in SIGNED:
        return refused(f"it is {task.state}: its {task.submission} is signed, and that cannot be taken back")
    if task.state == State.CANCELLING:
        stopped = cancelled(task, SKIPPED)
        return _done("its requester has cancelled it: it is stopped, and nothing is sent", stopped)
    if task.state == State.COMPUTED and task.submission is SubmissionKind.FAILED:
        return refused(f"a task_failed is about to be signed for it already ({task.reason})")
    lost = (loss(task),) if task.state == State.COMPUTED else ()
    return _done("it is stopped, and handed back by task_failed", *handed_back(task, SKIPPED).changes, *lost)


def on_drain(now: IntakeState, unfinished: int) -> Ruling:
    """`unfinished`: how many tasks are not over yet."""
    if now is IntakeState.DRAINED:
        return refused("it is drained already; splitup-node resume opens the intake again")
    told = (
        f"the intake is closed; of {unfinished} unfinished tasks those that have not begun are handed back, the "
        "others go on to their end; then the listener stops"
    )
    return _turned(IntakeState.DRAINING, told)


def on_resume(now: IntakeState) -> Ruling:
    if now is IntakeState.OPEN:
        return refused("the intake is open already")
    return _turned(IntakeState.OPEN, "the intake is open")


def handed_back(task: Task, reason: str) -> Decision:
    """A task that is not signed yet runs no more, and the requester is told why by task_failed."""
    told = failure(task, reason)
    move = Move(task.id, task.state, State.COMPUTED, reason, told, State.HANDED_BACK, owed=Owed.STOP)
    return Decision((move,))


def intake_is(state: IntakeState) -> SetCondition:
    return SetCondition(ConditionName.INTAKE, None if state is IntakeState.OPEN else state.value)


def _done(answer: str, *changes: Change) -> Ruling:
    return Ruling(RequestState.DONE, answer, changes)


def refused(answer: str) -> Ruling:
    return Ruling(RequestState.REFUSED, answer)


def _turned(to: IntakeState, answer: str) -> Ruling:
    return Ruling(RequestState.DONE, answer, intake=to)
