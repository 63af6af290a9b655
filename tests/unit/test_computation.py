import pytest

from listener.alarms import Alarm
from listener.computation import DEADLINE_PASSED, on_refused_by_compute, on_result, on_status, on_time, stopped
from listener.decisions import CANCELLED_BY_REQUESTER, NOTHING, cut_to_bytes
from listener.journal.changes import Measure, Move, Restart
from listener.journal.records import Task
from listener.journal.states import Owed, State
from shared.ids import Attempt, Slot, TaskId, UnixSeconds
from shared.messages import Stage, TaskResult, TaskStatus
from tests.unit.journal_rows import NOW, assignment, result, task_row

MARGIN_S = 15.0


def status(
    stage: Stage, ended: TaskResult | None = None, attempt: int = 100, reason: str | None = None
) -> TaskStatus:
    of = assignment()
    return TaskStatus(
        execution_id=of.execution_id,
        task_id=of.task_id,
        attempt=Attempt(attempt),
        requester=of.requester,
        stage=stage,
        reason=reason,
        result=ended,
    )


def cancelling(**changed: object) -> Task:
    return task_row(State.CANCELLING, reason=CANCELLED_BY_REQUESTER, **changed)


GIVEN_UP = Move(1, State.CANCELLING, State.CANCELLED, CANCELLED_BY_REQUESTER, owed=Owed.STOP)


@pytest.mark.parametrize("state", [State.ACCEPTED, State.COMPUTING, State.COMPUTED])
def test_within_the_landing_margin_a_task_is_missed_and_compute_is_told_to_stop(state: State) -> None:
    task = task_row(state)
    assert on_time(task, NOW + 584.9, MARGIN_S) == NOTHING
    assert on_time(task, NOW + 585.0, MARGIN_S).changes == (
        Move(1, state, State.MISSED, DEADLINE_PASSED, owed=Owed.STOP),
    )


def test_a_result_that_cannot_land_within_the_notice_is_dropped() -> None:
    task = task_row(State.COMPUTED, refund_at=UnixSeconds(NOW + 30))
    assert on_time(task, NOW + 14.9, MARGIN_S) == NOTHING
    (move,) = on_time(task, NOW + 15.0, MARGIN_S).changes
    assert isinstance(move, Move) and (move.to, move.owed) == (State.CANCELLED, Owed.STOP)


def test_without_an_answer_of_compute_a_cancelled_task_ends_by_the_time() -> None:
    task = cancelling(refund_at=UnixSeconds(NOW + 30))
    assert on_time(task, NOW + 15.0, MARGIN_S).changes == (GIVEN_UP,)


@pytest.mark.parametrize("stage", [Stage.QUEUED, Stage.FETCHING, Stage.RUNNING, Stage.STORING])
def test_a_stage_without_a_result_changes_nothing(stage: Stage) -> None:
    assert on_status(task_row(State.COMPUTING), status(stage)) == NOTHING


def test_a_result_is_kept_to_be_submitted() -> None:
    task = task_row(State.COMPUTING)
    done = result(task)
    assert on_status(task, status(Stage.DONE, done)).changes == (
        Move(1, State.COMPUTING, State.COMPUTED, result=done, ends_as=State.PAID),
        Measure(task.model_id, task.compute_units, 0.012),
    )


def test_a_failure_is_kept_to_be_told_with_its_reason() -> None:
    task = task_row(State.COMPUTING)
    failed = result(task, success=False)
    assert on_status(task, status(Stage.FAILED, failed, reason="OperatorNotAllowed")).changes == (
        Move(1, State.COMPUTING, State.COMPUTED, "OperatorNotAllowed", failed, ends_as=State.FAILED),
    )


def test_what_compute_could_not_finish_in_time_is_missed_and_told_to_nobody() -> None:
    task = task_row(State.COMPUTING)
    late = status(Stage.FAILED, result(task, success=False), reason=DEADLINE_PASSED)
    assert on_status(task, late).changes == (
        Move(1, State.COMPUTING, State.MISSED, DEADLINE_PASSED, owed=Owed.STOP),
    )
    assert on_status(cancelling(), late).changes == (GIVEN_UP,)


@pytest.mark.parametrize("unknown", [None, status(Stage.RUNNING, attempt=99), status(Stage.RUNNING, attempt=101)])
def test_what_compute_does_not_know_starts_anew_or_is_cancelled(unknown: TaskStatus | None) -> None:
    assert on_status(task_row(State.COMPUTING), unknown).changes == (
        Restart(1, State.COMPUTING, Attempt(100), Slot(101)),
    )
    assert on_status(cancelling(), unknown).changes == (GIVEN_UP,)


def test_a_cancelled_task_whose_outputs_are_stored_is_submitted() -> None:
    move, _ = on_status(cancelling(), status(Stage.DONE, result(assignment()))).changes
    assert isinstance(move, Move) and (move.to, move.ends_as) == (State.COMPUTED, State.PAID)


def test_a_cancelled_task_that_failed_is_cancelled_and_nothing_is_sent() -> None:
    assert on_result(cancelling(), result(assignment(), success=False), "ComputationFailed").changes == (GIVEN_UP,)


def test_a_cancelled_task_that_was_stopped_keeps_the_reason_it_has() -> None:
    assert stopped(cancelling()).changes == (GIVEN_UP,)
    (move,) = stopped(task_row(State.CANCELLING, reason="AccountGone")).changes
    assert isinstance(move, Move) and move.reason == "AccountGone"


def test_the_result_of_another_task_is_never_submitted() -> None:
    task = task_row(State.COMPUTING)
    other = result(task).model_copy(update={"task_id": TaskId("another")})
    (move,) = on_result(task, other, None).changes
    assert isinstance(move, Move) and move.ends_as is State.FAILED
    assert move.result is not None and move.result.task_id == task.task_id and not move.result.success


def test_what_compute_refuses_fails_with_its_words_and_an_alarm_where_there_is_one() -> None:
    task = task_row(State.ACCEPTED)
    decision = on_refused_by_compute(
        task, "input-forbidden", "not this folder", alarm=Alarm.COMPUTE_CONTENT_DIFFERS
    )
    (move,) = decision.changes
    assert isinstance(move, Move) and move.result is not None
    assert (move.to, move.ends_as, move.reason) == (State.COMPUTED, State.FAILED, "input-forbidden")
    assert move.result.error_message == "not this folder" and decision.alarm is Alarm.COMPUTE_CONTENT_DIFFERS


@pytest.mark.parametrize("letter", ["x", "\u00e9", "\u20ac", "\U0001f600"])
@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
def test_a_message_is_cut_between_two_characters_within_256_bytes(letter: str, before: str) -> None:
    text = before + letter * 300
    cut = cut_to_bytes(text)
    assert text.startswith(cut)
    assert 256 - len(letter.encode()) < len(cut.encode()) <= 256


def test_a_message_that_fits_is_left_and_half_a_surrogate_is_no_crash() -> None:
    assert cut_to_bytes("\u20ac" * 85) == "\u20ac" * 85
    assert cut_to_bytes("broken \ud800") == "broken ?"


def test_the_message_of_a_failure_is_cut_and_never_empty() -> None:
    task = task_row(State.COMPUTING)
    for told, kept in [("\u20ac" * 300, "\u20ac" * 85), ("", "failed")]:
        failed = result(task, success=False).model_copy(update={"error_message": told})
        (move,) = on_result(task, failed, None).changes
        assert isinstance(move, Move) and move.result is not None and move.result.error_message == kept
