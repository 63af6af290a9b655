"""What follows from compute's answers, and from the time, for a task that is not signed. Pure, like decisions.py."""

from typing import Final

from listener.alarms import Alarm
from listener.decisions import CANCELLED_BY_REQUESTER, NOTHING, Decision, cancelled, cut_to_bytes, failure
from listener.journal.changes import Measure, Move, Restart
from listener.journal.records import Task
from listener.journal.states import Owed, State
from listener.rules import is_too_late
from shared.messages import TaskResult, TaskStatus

DEADLINE_PASSED: Final = "DeadlinePassed"
"""The reason of a missed task, here and in compute's answers."""


def on_time(task: Task, now: float, landing_margin_s: float) -> Decision:
    """An unsigned task whose result could not land any more is over: nothing is signed or sent."""
    if not is_too_late(task, now, landing_margin_s):
        return NOTHING
    if task.state == State.CANCELLING or task.end == task.refund_at:
        return Decision((cancelled(task, task.reason or CANCELLED_BY_REQUESTER),))
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
        computed = Move(task.id, task.state, State.COMPUTED, result=result, ends_as=State.PAID)
        return Decision((computed, Measure(task.model_id, task.compute_units, result.execution_time / 1000)))
    if task.state == State.CANCELLING:
        return Decision((cancelled(task, CANCELLED_BY_REQUESTER),))
    cut = result.model_copy(update={"error_message": cut_to_bytes(result.error_message or "failed")})
    return Decision((Move(task.id, task.state, State.COMPUTED, reason, cut, ends_as=State.FAILED),))


def on_refused_by_compute(task: Task, reason: str, message: str, *, alarm: Alarm | None = None) -> Decision:
    """Compute will not have it: the task fails with compute's words."""
    return Decision(on_result(task, failure(task, message), reason).changes, alarm)


def stopped(task: Task) -> Decision:
    """A cancelled task runs no more."""
    return Decision((cancelled(task, task.reason or CANCELLED_BY_REQUESTER),))
