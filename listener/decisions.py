"""What follows from what an account shows. Pure: the journal's row and a sighting in, changes of the journal out.

No function here, in computation.py or in landing.py waits, reads or sends; the shell (observe.py, tasks.py,
submission.py, lander.py) applies the changes, and the state that they lead to says what is done next.
"""

from dataclasses import dataclass
from typing import Final

from listener.alarms import Alarm
from listener.chain.accounts import LIVE_STATES, ExecutionState
from listener.journal.changes import Change, Insert, Measure, Move, PassOver, Renumber, Restart, Seen, Supersede
from listener.journal.records import Assignment, Task
from listener.journal.states import (
    COMPLETED_BEFORE,
    ENDED,
    ENDED_ELSEWHERE,
    UNSIGNED,
    Owed,
    State,
    SubmissionKind,
)
from listener.rules import DEADLINE_BELOW_ESTIMATE, Accept, Miss, Refuse, Rules, judge
from listener.standing import Standing
from shared.ids import Slot
from shared.messages import TaskResult

MAX_ERROR_MESSAGE_BYTES: Final = 256
"""What the program takes."""

CANCELLED_BY_REQUESTER: Final = "CancelledByRequester"
ACCOUNT_GONE: Final = "AccountGone"
REASSIGNED: Final = "Reassigned"
_TAKEN_BACK_BY_FORKS: Final = frozenset({CANCELLED_BY_REQUESTER, ACCOUNT_GONE, ENDED_ELSEWHERE})


@dataclass(frozen=True, slots=True)
class Sighting:
    """A verified execution account of this node, as it was read at `assignment.verified_slot`."""

    assignment: Assignment
    state: ExecutionState


@dataclass(frozen=True, slots=True)
class Decision:
    changes: tuple[Change, ...] = ()
    alarm: Alarm | None = None


NOTHING: Final = Decision()


def on_account(seen: Sighting, known: Task | None, completed: bool, rules: Rules, standing: Standing) -> Decision:
    """What a reading of the account means. `known` is the row that was seen last.

    A reading below the last one is old, or of a fork: it says nothing. A lower attempt is a fork's (forks.py).

    `completed`: a completion of this pair for this requester is finalized.
    """
    shown = seen.assignment
    if known is not None and (shown.verified_slot < known.verified_slot or shown.attempt < known.attempt):
        return NOTHING
    if known is None or shown.attempt > known.attempt:
        return _on_new_attempt(seen, known, completed, rules, standing)
    if seen.assignment.content_hash != known.content_hash:
        return Decision(alarm=Alarm.CONTENT_DIFFERS)
    match seen.state:
        case ExecutionState.ASSIGNED:
            return _on_assigned(seen.assignment, known, completed, rules, standing)
        case ExecutionState.CANCELLED:
            return _on_cancelled(seen.assignment, known)
        case _:
            return _on_ended(seen.assignment, known)


def on_gone(known: Task | None, slot: Slot) -> Decision:
    """The account does not exist at `slot`, or is no execution account any more."""
    if known is None or known.state not in UNSIGNED or slot < known.verified_slot:
        return NOTHING
    return Decision((cancelled(known, ACCOUNT_GONE, slot),))


def _on_new_attempt(
    seen: Sighting, known: Task | None, completed: bool, rules: Rules, standing: Standing
) -> Decision:
    if known is not None and known.state == State.CONFIRMED and known.ends_as is State.PAID:
        return NOTHING  # the next listing looks again, when it is finalized or was taken back
    ends = () if known is None else _over(known)
    assignment = seen.assignment
    if seen.state not in LIVE_STATES:
        return Decision(ends)
    if completed:
        reason = "the pair was completed before"
        return Decision(
            (*ends, PassOver(assignment.account, assignment.attempt, assignment.verified_slot, reason))
        )
    if seen.state is ExecutionState.CANCELLED:
        return Decision((*ends, Insert(assignment, State.CANCELLED, CANCELLED_BY_REQUESTER)))
    if known is not None and _goes_on(known) and known.content_hash == assignment.content_hash:
        return Decision((_renumbered(known, assignment),))
    return Decision((*ends, *taken_in(assignment, rules, standing)))


def _over(known: Task) -> tuple[Change, ...]:
    """The account shows a higher attempt: this one ends, if it has not ended before."""
    if known.state in ENDED:
        return ()
    if known.state == State.CONFIRMED:  # what landed freed the account to be assigned again
        over = Move(known.id, known.state, known.ends_as or State.FAILED, owed=Owed.UNPAID)
    else:
        over = cancelled(known, REASSIGNED)
    return Supersede(known.id), over


def _goes_on(known: Task) -> bool:
    """Whether its work is of use under a higher attempt. A failure that was sent is an answer: it is run again."""
    if known.state == State.SUBMITTING:
        return known.submission is SubmissionKind.COMPLETED
    return known.state in UNSIGNED


def taken_in(assignment: Assignment, rules: Rules, standing: Standing) -> tuple[Change, ...]:
    match judge(assignment, rules, standing):
        case Accept():
            return (Insert(assignment, State.ACCEPTED),)
        case Miss(reason):
            return (Insert(assignment, State.MISSED, reason),)
        case Refuse(reason, message, is_told=True):
            told = failure(assignment, message)
            return Insert(assignment, State.COMPUTED, reason, told, State.REFUSED), *_easing(
                reason, assignment, standing
            )
        case Refuse(reason):
            return (Insert(assignment, State.REFUSED, reason),)


def _easing(reason: str, assignment: Assignment, standing: Standing) -> tuple[Change, ...]:
    """The estimate falls with what it refuses: a few slow computations must not keep a package out for ever."""
    if reason != DEADLINE_BELOW_ESTIMATE:
        return ()
    half_s = max(0.0, assignment.end - standing.now) / 2
    return (Measure(assignment.model_id, assignment.compute_units, half_s),)


def is_judged(seen: Assignment, known: Task | None) -> bool:
    """Whether the rules may have a say in what a reading means."""
    if known is None or seen.attempt != known.attempt:
        return True
    return known.state in (State.CANCELLING, State.CANCELLED)


def takes_in(change: Change) -> bool:
    """Whether it puts a task into the journal that is still to be done, or to be told of."""
    return isinstance(change, Insert) and change.state not in ENDED


def _renumbered(known: Task, seen: Assignment) -> Change:
    """Compute is told the new number by a POST, which it answers with the result where it has one."""
    if known.state in (State.COMPUTED, State.SUBMITTING):
        to = State.COMPUTED if known.ends_as in (State.REFUSED, State.HANDED_BACK) else State.ACCEPTED
        return Renumber(known.id, known.state, to, seen.attempt, seen.verified_slot)
    return Restart(known.id, known.state, seen.attempt, seen.verified_slot)


def cancelled(known: Task, reason: str, slot: Slot | None = None) -> Move:
    return Move(known.id, known.state, State.CANCELLED, reason, owed=Owed.STOP, verified_slot=slot)


def _on_assigned(seen: Assignment, known: Task, completed: bool, rules: Rules, standing: Standing) -> Decision:
    is_back = known.state == State.CANCELLING or (
        known.state == State.CANCELLED and known.reason in _TAKEN_BACK_BY_FORKS
    )
    if is_back and seen.verified_slot > known.verified_slot and not completed:
        again = taken_again(seen, known, rules, standing)
        if again:
            return Decision(again)
    return NOTHING if known.state in ENDED else Decision((seen_again(seen, known),))


def taken_again(seen: Assignment, known: Task, rules: Rules, standing: Standing) -> tuple[Change, ...]:
    """Judged once more, since what was refused may have been cancelled, or gone, before that was sent."""
    restart = Restart(known.id, known.state, seen.attempt, seen.verified_slot)
    match judge(seen, rules, standing):
        case Accept():
            return (restart,)
        case Miss(reason):
            return restart, Move(known.id, State.ACCEPTED, State.MISSED, reason, owed=Owed.STOP)
        case Refuse(reason, message, is_told=True):
            told = failure(seen, message)
            return restart, Move(known.id, State.ACCEPTED, State.COMPUTED, reason, told, State.REFUSED)
        case Refuse():
            return ()


def _on_cancelled(seen: Assignment, known: Task) -> Decision:
    if known.state in (State.ACCEPTED, State.COMPUTING):
        return Decision(
            (
                Move(
                    known.id,
                    known.state,
                    State.CANCELLING,
                    CANCELLED_BY_REQUESTER,
                    refund_at=seen.refund_at,
                    verified_slot=seen.verified_slot,
                ),
            )
        )
    if known.state == State.COMPUTED and known.submission is SubmissionKind.FAILED:
        return Decision((cancelled(known, CANCELLED_BY_REQUESTER, seen.verified_slot),))
    return NOTHING if known.state in ENDED else Decision((seen_again(seen, known),))


def _on_ended(seen: Assignment, known: Task) -> Decision:
    if known.state in UNSIGNED:
        return Decision((cancelled(known, ENDED_ELSEWHERE, seen.verified_slot),))
    return NOTHING


def seen_again(seen: Assignment, known: Task) -> Seen:
    return Seen(known.id, seen.verified_slot, seen.refund_at)


def may_be_signed(seen: Sighting | None, task: Task, *, names_attempt: bool) -> bool:
    """Whether the account shows this attempt with this content, and as one that the node may still end.

    `names_attempt`: the instruction says for which attempt it is. Else it could end the next one that follows a notice.
    """
    return (
        seen is not None
        and seen.state in (LIVE_STATES if names_attempt else (ExecutionState.ASSIGNED,))
        and seen.assignment.attempt == task.attempt
        and seen.assignment.content_hash == task.content_hash
    )


def on_completed_before(task: Task) -> Decision:
    """A completion of the pair was finalized while it was computed again: it is not submitted twice."""
    return Decision((cancelled(task, COMPLETED_BEFORE),))


def failure(assignment: Assignment, message: str) -> TaskResult:
    return TaskResult(
        task_id=assignment.task_id,
        execution_id=assignment.execution_id,
        success=False,
        execution_time=0,
        error_message=cut_to_bytes(message),
    )


def cut_to_bytes(text: str, limit: int = MAX_ERROR_MESSAGE_BYTES) -> str:
    """`text` as UTF-8 in at most `limit` bytes, cut between two characters."""
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")


def is_worth_a_look(state: ExecutionState, known: Task) -> bool:
    """Whether the whole account may say more than the row of its attempt, by the head that a listing showed."""
    if state is ExecutionState.CANCELLED:
        return known.state not in ENDED and not known.refund_at
    return known.state == State.CANCELLING or known.reason in _TAKEN_BACK_BY_FORKS
