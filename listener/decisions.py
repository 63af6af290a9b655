"""What follows from what was seen. Pure: the journal's row and a message in, changes of the journal out.

No function here waits, reads or sends; the shell (intake.py, tasks.py, submission.py) applies the changes, and the
state that they lead to says what is done next.
"""

from dataclasses import dataclass
from typing import Final

from listener.chain.accounts import ExecutionState
from listener.journal.changes import Change, Insert, Move, PassOver, Renumber, Restart, Seen, Supersede
from listener.journal.records import Assignment, Task
from listener.journal.states import ENDED, UNSIGNED, Owed, State
from listener.rules import Accept, Miss, Refuse, Rules, is_too_late, judge
from shared.ids import Attempt, Slot
from shared.messages import TaskResult, TaskStatus

MAX_ERROR_MESSAGE_BYTES: Final = 256
"""What the program takes."""

CANCELLED_BY_REQUESTER: Final = "CancelledByRequester"
ACCOUNT_GONE: Final = "AccountGone"
REASSIGNED: Final = "Reassigned"
ENDED_ELSEWHERE: Final = "EndedElsewhere"
"""The account shows an end that none of this journal's signatures made; settlement finds out which."""
DEADLINE_PASSED: Final = "DeadlinePassed"
_TAKEN_BACK_BY_FORKS: Final = frozenset({CANCELLED_BY_REQUESTER, ACCOUNT_GONE, ENDED_ELSEWHERE})


@dataclass(frozen=True, slots=True)
class Sighting:
    """A verified execution account of this node, as it was read at `assignment.verified_slot`."""

    assignment: Assignment
    state: ExecutionState


@dataclass(frozen=True, slots=True)
class Decision:
    changes: tuple[Change, ...] = ()
    alarm: str | None = None


NOTHING: Final = Decision()


def on_account(seen: Sighting, known: Task | None, completed: bool, rules: Rules, now: float) -> Decision:
    """What a reading of the account means. `known` is the row with the highest attempt, `now` the chain's time.

    `completed`: a completion of this pair for this requester is finalized.
    """
    if known is None or seen.assignment.attempt > known.attempt:
        return _on_new_attempt(seen, known, completed, rules, now)
    if seen.assignment.attempt < known.attempt or seen.assignment.verified_slot < known.verified_slot:
        return NOTHING
    if seen.assignment.content_hash != known.content_hash:
        return Decision(alarm="the account shows other content under the same attempt")
    return _ON_SAME_ATTEMPT[seen.state](seen.assignment, known)


def on_gone(known: Task | None, slot: Slot) -> Decision:
    """The account does not exist at `slot`, or is no execution account any more."""
    if known is None or known.state not in UNSIGNED or slot < known.verified_slot:
        return NOTHING
    return Decision((_cancelled(known, ACCOUNT_GONE, slot),))


def _on_new_attempt(seen: Sighting, known: Task | None, completed: bool, rules: Rules, now: float) -> Decision:
    if known is not None and known.state == State.CONFIRMED:
        return NOTHING  # once it is finalized, or taken back, the account is looked at again
    ends = () if known is None or known.state in ENDED else (Supersede(known.id), _cancelled(known, REASSIGNED))
    if seen.state is not ExecutionState.ASSIGNED:
        return Decision(ends)
    if completed:
        assignment = seen.assignment
        reason = "the pair was completed before"
        return Decision(
            (*ends, PassOver(assignment.account, assignment.attempt, assignment.verified_slot, reason))
        )
    if known is not None and ends and known.content_hash == seen.assignment.content_hash:
        return Decision((_renumbered(known, seen.assignment),))
    return Decision((*ends, _taken_in(seen.assignment, rules, now)))


def _taken_in(assignment: Assignment, rules: Rules, now: float) -> Insert:
    match judge(assignment, rules, now):
        case Accept():
            return Insert(assignment, State.ACCEPTED)
        case Miss(reason):
            return Insert(assignment, State.MISSED, reason)
        case Refuse(reason, message, is_told=True):
            return Insert(assignment, State.COMPUTED, reason, failure(assignment, message), State.REFUSED)
        case Refuse(reason):
            return Insert(assignment, State.REFUSED, reason)


def _renumbered(known: Task, seen: Assignment) -> Change:
    if known.state in (State.COMPUTED, State.SUBMITTING):
        return Renumber(known.id, known.state, State.COMPUTED, seen.attempt, seen.verified_slot)
    return Restart(known.id, known.state, seen.attempt, seen.verified_slot)


def _cancelled(known: Task, reason: str, slot: Slot | None = None) -> Move:
    return Move(known.id, known.state, State.CANCELLED, reason, owed=Owed.STOP, verified_slot=slot)


def _on_assigned(seen: Assignment, known: Task) -> Decision:
    is_back = known.state == State.CANCELLING or (
        known.state == State.CANCELLED and known.reason in _TAKEN_BACK_BY_FORKS
    )
    if is_back and seen.verified_slot > known.verified_slot:
        return Decision((Restart(known.id, known.state, seen.attempt, seen.verified_slot),))
    return NOTHING if known.state in ENDED else Decision((_seen(seen, known),))


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
    return NOTHING if known.state in ENDED else Decision((_seen(seen, known),))


def _on_ended(seen: Assignment, known: Task) -> Decision:
    if known.state in UNSIGNED:
        return Decision((_cancelled(known, ENDED_ELSEWHERE, seen.verified_slot),))
    return NOTHING


def _seen(seen: Assignment, known: Task) -> Seen:
    return Seen(known.id, seen.verified_slot, seen.refund_at)


_ON_SAME_ATTEMPT: Final = {
    ExecutionState.ASSIGNED: _on_assigned,
    ExecutionState.CANCELLED: _on_cancelled,
    ExecutionState.FAILED: _on_ended,
    ExecutionState.COMPLETED: _on_ended,
}


def on_time(task: Task, now: float, landing_margin_s: float) -> Decision:
    """An unsigned task whose result could not land any more is over: nothing is signed or sent."""
    if not is_too_late(task, now, landing_margin_s):
        return NOTHING
    if task.state == State.CANCELLING or task.end == task.refund_at:
        return Decision((_cancelled(task, task.reason or CANCELLED_BY_REQUESTER),))
    return Decision((Move(task.id, task.state, State.MISSED, DEADLINE_PASSED, owed=Owed.STOP),))


def on_status(task: Task, status: TaskStatus | None) -> Decision:
    """What compute's answer about a running task means; `status` is None where compute does not know the pair."""
    if status is None or status.attempt != task.attempt:
        if task.state == State.CANCELLING:
            return stopped(task)
        return Decision((Restart(task.id, task.state, task.attempt, task.verified_slot),))
    if task.state == State.CANCELLING and status.reason == DEADLINE_PASSED:
        return stopped(task)
    if status.result is None:
        return NOTHING
    if status.reason == DEADLINE_PASSED:
        return Decision((Move(task.id, task.state, State.MISSED, DEADLINE_PASSED, owed=Owed.STOP),))
    return on_result(task, status.result, status.reason)


def on_result(task: Task, result: TaskResult, reason: str | None) -> Decision:
    """The computation ended. A failure after a cancellation is sent to nobody."""
    if (result.execution_id, result.task_id) != (task.execution_id, task.task_id):
        result, reason = failure(task, "compute answered with the result of another task"), "ResultOfAnotherTask"
    if result.success:
        return Decision((Move(task.id, task.state, State.COMPUTED, result=result, ends_as=State.PAID),))
    if task.state == State.CANCELLING:
        return Decision((_cancelled(task, CANCELLED_BY_REQUESTER),))
    cut = result.model_copy(update={"error_message": cut_to_bytes(result.error_message or "failed")})
    return Decision((Move(task.id, task.state, State.COMPUTED, reason, cut, ends_as=State.FAILED),))


def on_refused_by_compute(task: Task, reason: str, message: str) -> Decision:
    """Compute will not have it: the task fails with compute's words."""
    return on_result(task, failure(task, message), reason)


def stopped(task: Task) -> Decision:
    """A cancelled task runs no more."""
    return Decision((_cancelled(task, task.reason or CANCELLED_BY_REQUESTER),))


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


def is_worth_a_look(state: ExecutionState, attempt: Attempt, known: Task | None) -> bool:
    """Whether the whole account may say more than the row, by the head that a listing showed."""
    if known is None or attempt != known.attempt:
        return known is None or attempt > known.attempt
    if state is ExecutionState.CANCELLED:
        return known.state not in ENDED and not known.refund_at
    return known.state == State.CANCELLING or known.reason in _TAKEN_BACK_BY_FORKS
