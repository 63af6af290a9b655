"""What an operator's request means for a task in each state, and for the intake."""

import pytest

from listener.journal.changes import Move
from listener.journal.records import Task
from listener.journal.states import ENDED, SIGNED, UNSIGNED, IntakeState, Owed, RequestState, State
from listener.landing import loss
from listener.orders import handed_back, on_drain, on_resume, on_skip
from tests.unit.journal_rows import assignment, failed_row, task_row

PAIR = assignment().key


@pytest.mark.parametrize("state", [State.ACCEPTED, State.COMPUTING, State.COMPUTED])
def test_what_is_not_signed_is_stopped_at_compute_and_handed_back(state: State) -> None:
    ruling = on_skip(PAIR, [task_row(state)])
    move, *booked = ruling.changes
    assert booked == ([loss(task_row(state))] if state is State.COMPUTED else []), "what was computed is lost"
    assert ruling.state is RequestState.DONE and isinstance(move, Move)
    assert (move.origin, move.to, move.ends_as) == (state, State.COMPUTED, State.HANDED_BACK)
    assert (move.reason, move.owed) == ("skipped", Owed.STOP)
    assert move.result is not None and (move.result.success, move.result.error_message) == (False, "skipped")


@pytest.mark.parametrize("state", sorted(SIGNED | ENDED))
def test_what_is_signed_or_over_is_refused_with_its_state(state: State) -> None:
    ruling = on_skip(PAIR, [task_row(state)])
    assert (ruling.state, ruling.changes) == (RequestState.REFUSED, ())
    assert state.value in ruling.answer


def test_a_failure_that_is_about_to_be_sent_is_not_skipped_as_well() -> None:
    ruling = on_skip(PAIR, [failed_row(State.COMPUTED, reason="input-forbidden")])
    assert (ruling.state, ruling.changes) == (RequestState.REFUSED, ()) and "input-forbidden" in ruling.answer


def test_what_its_requester_cancelled_is_stopped_and_nothing_is_sent() -> None:
    ruling = on_skip(PAIR, [task_row(State.CANCELLING, reason="CancelledByRequester")])
    assert ruling.state is RequestState.DONE
    assert ruling.changes == (Move(1, State.CANCELLING, State.CANCELLED, "skipped", owed=Owed.STOP),)


def test_the_newest_attempt_is_meant_and_an_unknown_pair_is_refused() -> None:
    older, newer = task_row(State.ACCEPTED), task_row(State.SUBMITTING, id=2)
    assert on_skip(PAIR, [older, newer]).state is RequestState.REFUSED
    unknown = on_skip(PAIR, [])
    assert unknown.state is RequestState.REFUSED and str(PAIR) in unknown.answer


def test_every_state_has_a_ruling() -> None:
    for state in UNSIGNED | SIGNED | ENDED:
        assert on_skip(PAIR, [task_row(state)]).answer


@pytest.mark.parametrize(
    ("ruling", "answered", "intake"),
    [
        (on_drain(IntakeState.OPEN, 3), RequestState.DONE, IntakeState.DRAINING),
        (on_drain(IntakeState.DRAINING, 3), RequestState.DONE, IntakeState.DRAINING),
        (on_drain(IntakeState.DRAINED, 0), RequestState.REFUSED, None),
        (on_resume(IntakeState.OPEN), RequestState.REFUSED, None),
        (on_resume(IntakeState.DRAINING), RequestState.DONE, IntakeState.OPEN),
        (on_resume(IntakeState.DRAINED), RequestState.DONE, IntakeState.OPEN),
    ],
)
def test_the_intake_is_turned_where_that_changes_anything(
    ruling: object, answered: RequestState, intake: IntakeState | None
) -> None:
    assert (ruling.state, ruling.intake) == (answered, intake)  # type: ignore[attr-defined]


def test_what_is_handed_back_says_why() -> None:
    task: Task = task_row(State.COMPUTING)
    (move,) = handed_back(task, "draining").changes
    assert isinstance(move, Move) and move.result is not None
    assert (move.reason, move.result.error_message) == ("draining", "draining")
