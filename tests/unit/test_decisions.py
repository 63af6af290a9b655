"""What a reading of the account means for a task that the journal holds under the same attempt."""

import pytest

from listener.alarms import Alarm
from listener.chain.accounts import ExecutionState
from listener.decisions import (
    ACCOUNT_GONE,
    CANCELLED_BY_REQUESTER,
    NOTHING,
    REASSIGNED,
    Decision,
    Sighting,
    is_worth_a_look,
    may_be_signed,
    on_account,
    on_completed_before,
    on_gone,
)
from listener.journal.changes import Move, Restart, Seen
from listener.journal.records import Task
from listener.journal.states import ENDED, ENDED_ELSEWHERE, SIGNED, UNSIGNED, Owed, State
from listener.standing import Standing
from shared.ids import Slot, UnixSeconds
from tests.unit.journal_rows import NOW, assignment, failed_row, task_row
from tests.unit.test_rules import RULES, rules

ASSIGNED, CANCELLED = ExecutionState.ASSIGNED, ExecutionState.CANCELLED
LATER = Slot(150)
NOTICE = UnixSeconds(NOW + 30)


def seen(state: ExecutionState = ASSIGNED, **changed: object) -> Sighting:
    return Sighting(assignment(**({"verified_slot": LATER} | changed)), state)


def cancelled(**changed: object) -> Sighting:
    return seen(CANCELLED, **({"refund_at": NOTICE} | changed))


def decide(sighting: Sighting, known: Task | None, completed: bool = False) -> Decision:
    return on_account(sighting, known, completed, RULES, Standing(NOW))


@pytest.mark.parametrize("state", sorted(UNSIGNED - {State.CANCELLING} | SIGNED))
def test_an_account_that_still_shows_the_assignment_is_noted_with_its_slot(state: State) -> None:
    assert decide(seen(), task_row(state)).changes == (Seen(1, LATER, UnixSeconds(0)),)


@pytest.mark.parametrize("state", [State.ACCEPTED, State.COMPUTING])
def test_a_cancellation_stops_what_is_not_computed(state: State) -> None:
    assert decide(cancelled(), task_row(state)).changes == (
        Move(1, state, State.CANCELLING, CANCELLED_BY_REQUESTER, refund_at=NOTICE, verified_slot=LATER),
    )


@pytest.mark.parametrize("state", [State.CANCELLING, State.COMPUTED, State.SUBMITTING, State.CONFIRMED])
def test_a_cancellation_gives_what_is_computed_or_cancelled_already_the_end_of_its_notice(state: State) -> None:
    assert decide(cancelled(), task_row(state)).changes == (Seen(1, LATER, NOTICE),)


def test_a_failure_that_is_not_signed_when_the_requester_cancels_is_sent_to_nobody() -> None:
    assert decide(cancelled(), failed_row(State.COMPUTED)).changes == (
        Move(1, State.COMPUTED, State.CANCELLED, CANCELLED_BY_REQUESTER, owed=Owed.STOP, verified_slot=LATER),
    )


@pytest.mark.parametrize("end", [ExecutionState.FAILED, ExecutionState.COMPLETED])
@pytest.mark.parametrize("state", sorted(UNSIGNED))
def test_an_end_that_nothing_of_ours_made_stops_what_is_not_signed(state: State, end: ExecutionState) -> None:
    (move,) = decide(seen(end), task_row(state)).changes
    assert move == Move(1, state, State.CANCELLED, ENDED_ELSEWHERE, owed=Owed.STOP, verified_slot=LATER)


@pytest.mark.parametrize("end", [ExecutionState.FAILED, ExecutionState.COMPLETED])
@pytest.mark.parametrize("state", sorted(SIGNED | ENDED))
def test_what_is_signed_is_ended_by_its_own_signature_not_by_the_account(
    state: State, end: ExecutionState
) -> None:
    assert decide(seen(end), task_row(state)) == NOTHING


@pytest.mark.parametrize("state", sorted(UNSIGNED))
def test_an_account_that_is_gone_stops_what_is_not_signed(state: State) -> None:
    assert on_gone(task_row(state), LATER).changes == (
        Move(1, state, State.CANCELLED, ACCOUNT_GONE, owed=Owed.STOP, verified_slot=LATER),
    )


@pytest.mark.parametrize("state", sorted(SIGNED | ENDED))
def test_an_account_that_is_gone_leaves_what_is_signed_to_its_signature(state: State) -> None:
    assert on_gone(task_row(state), LATER) == NOTHING


def test_a_reading_older_than_the_last_one_says_nothing() -> None:
    known = task_row(State.COMPUTING, verified_slot=Slot(200))
    assert decide(cancelled(), known) == NOTHING
    assert on_gone(known, LATER) == NOTHING
    assert on_gone(None, LATER) == NOTHING


def test_a_lower_attempt_says_nothing() -> None:
    assert decide(seen(attempt=99), task_row(State.COMPUTING)) == NOTHING


@pytest.mark.parametrize("state", list(ExecutionState))
def test_other_content_under_the_same_attempt_changes_nothing_and_is_alarmed(state: ExecutionState) -> None:
    decision = decide(seen(state, content_hash=b"other"), task_row(State.COMPUTING))
    assert decision.changes == () and decision.alarm is Alarm.CONTENT_DIFFERS


@pytest.mark.parametrize(
    "known",
    [
        task_row(State.CANCELLING),
        task_row(State.CANCELLED, reason=CANCELLED_BY_REQUESTER),
        task_row(State.CANCELLED, reason=ACCOUNT_GONE),
        task_row(State.CANCELLED, reason=ENDED_ELSEWHERE),
    ],
)
def test_what_a_fork_took_back_starts_anew(known: Task) -> None:
    assert decide(seen(), known).changes == (Restart(1, known.state, known.attempt, LATER),)
    assert is_worth_a_look(ASSIGNED, known)


def test_a_reading_in_the_slot_of_the_cancellation_itself_is_no_fork() -> None:
    known = task_row(State.CANCELLED, reason=CANCELLED_BY_REQUESTER, verified_slot=LATER)
    assert decide(seen(), known) == NOTHING


@pytest.mark.parametrize("state", sorted(ENDED))
def test_what_ended_for_another_reason_stays_ended(state: State) -> None:
    assert decide(seen(), task_row(state, reason=REASSIGNED)) == NOTHING
    assert decide(cancelled(), task_row(state, reason=REASSIGNED)) == NOTHING


def test_a_completed_pair_does_not_start_anew_after_a_fork() -> None:
    known = task_row(State.CANCELLED, reason=ACCOUNT_GONE)
    assert decide(seen(), known, completed=True) == NOTHING


def test_what_comes_back_from_a_fork_is_judged_like_anything_new() -> None:
    known = task_row(State.CANCELLED, reason=ACCOUNT_GONE)
    refused = decide(seen(reward=1), known)
    assert refused.changes[0] == Restart(1, State.CANCELLED, known.attempt, LATER)
    (told,) = refused.changes[1:]
    assert isinstance(told, Move) and (told.to, told.ends_as) == (State.COMPUTED, State.REFUSED)
    late = on_account(seen(), known, False, RULES, Standing(NOW + 590.0))
    assert late.changes[1:] == (Move(1, State.ACCEPTED, State.MISSED, "DeadlineTooNear", owed=Owed.STOP),)
    blocked = rules(blocklist=frozenset({known.requester}))
    assert on_account(seen(), known, False, blocked, Standing(NOW)) == NOTHING


def test_only_an_account_that_shows_this_attempt_as_open_is_signed_for() -> None:
    task = task_row(State.COMPUTED)
    assert may_be_signed(seen(), task, names_attempt=True) and may_be_signed(cancelled(), task, names_attempt=True)
    assert not may_be_signed(None, task, names_attempt=True)
    assert not may_be_signed(seen(attempt=99), task, names_attempt=True)
    assert not may_be_signed(seen(attempt=101), task, names_attempt=True)
    assert not may_be_signed(seen(content_hash=b"other"), task, names_attempt=True)
    assert not may_be_signed(seen(ExecutionState.FAILED), task, names_attempt=True)
    assert not may_be_signed(seen(ExecutionState.COMPLETED), task, names_attempt=True)


def test_what_was_completed_before_is_not_submitted_twice() -> None:
    (move,) = on_completed_before(task_row(State.COMPUTED)).changes
    assert isinstance(move, Move) and move.to is State.CANCELLED


def test_a_listing_looks_only_where_the_head_may_say_more_than_the_row() -> None:
    assert is_worth_a_look(CANCELLED, task_row(State.COMPUTING))
    assert not is_worth_a_look(CANCELLED, task_row(State.COMPUTING, refund_at=NOTICE))
    assert not is_worth_a_look(CANCELLED, task_row(State.CANCELLED, reason=CANCELLED_BY_REQUESTER))
    assert not is_worth_a_look(ASSIGNED, task_row(State.COMPUTING))
    assert not is_worth_a_look(ASSIGNED, task_row(State.MISSED, reason="DeadlinePassed"))
