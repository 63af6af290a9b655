"""What an attempt means that the journal does not know: a first one, or one above the row's."""

import pytest

from listener.chain.accounts import ExecutionState
from listener.decisions import CANCELLED_BY_REQUESTER, NOTHING, REASSIGNED, Decision, Sighting, on_account
from listener.journal.changes import Insert, Move, PassOver, Renumber, Restart, Supersede
from listener.journal.records import Task
from listener.journal.states import ENDED, UNSIGNED, Owed, State
from listener.rules import Rules
from listener.standing import Standing
from shared.ids import Attempt, Slot
from tests.unit.journal_rows import NOW, REQUESTER, assignment, failed_row, result, task_row
from tests.unit.test_rules import RULES, rules

OPEN = sorted(UNSIGNED | {State.SUBMITTING})


def seen(state: ExecutionState = ExecutionState.ASSIGNED, attempt: int = 200, **changed: object) -> Sighting:
    return Sighting(assignment(attempt=attempt, **changed), state)


def decide(
    sighting: Sighting, known: Task | None = None, completed: bool = False, by: Rules = RULES, now: float = NOW
) -> Decision:
    return on_account(sighting, known, completed, by, Standing(now))


def ended(state: State) -> tuple[object, ...]:
    return Supersede(1), Move(1, state, State.CANCELLED, REASSIGNED, owed=Owed.STOP)


def test_a_first_assignment_within_the_rules_is_accepted() -> None:
    assert decide(seen()).changes == (Insert(seen().assignment, State.ACCEPTED),)


def test_a_higher_attempt_read_below_the_last_reading_says_nothing() -> None:
    """A fork's: its row would lie below the one that was seen last, and nobody would look at it again."""
    known = task_row(State.CANCELLED, verified_slot=Slot(300))
    assert decide(seen(verified_slot=Slot(299)), known) == NOTHING
    assert decide(seen(verified_slot=Slot(300)), known).changes


def test_one_that_came_too_late_is_missed_and_nothing_is_sent() -> None:
    assert decide(seen(), now=NOW + 600.0).changes == (Insert(seen().assignment, State.MISSED, "DeadlinePassed"),)


def test_a_refusal_is_told_by_task_failed_with_its_reason() -> None:
    (insert,) = decide(seen(reward=999)).changes
    assert isinstance(insert, Insert) and insert.result is not None
    assert (insert.state, insert.ends_as, insert.reason) == (State.COMPUTED, State.REFUSED, "RewardTooLow")
    assert "999 lamports" in str(insert.result.error_message) and not insert.result.success


def test_a_requester_who_is_not_served_is_recorded_and_told_nothing() -> None:
    blocked = rules(blocklist=frozenset({REQUESTER}))
    assert decide(seen(), by=blocked).changes == (Insert(seen().assignment, State.REFUSED, "RequesterBlocked"),)


@pytest.mark.parametrize("end", [ExecutionState.FAILED, ExecutionState.COMPLETED])
def test_one_that_has_ended_before_it_was_seen_is_none_to_take(end: ExecutionState) -> None:
    assert decide(seen(end)) == NOTHING


def test_one_that_was_cancelled_before_it_was_seen_is_recorded_so_that_a_fork_may_bring_it_back() -> None:
    sighting = seen(ExecutionState.CANCELLED)
    assert decide(sighting).changes == (Insert(sighting.assignment, State.CANCELLED, CANCELLED_BY_REQUESTER),)


@pytest.mark.parametrize("live", [ExecutionState.ASSIGNED, ExecutionState.CANCELLED])
def test_a_pair_that_was_completed_is_passed_over_for_good(live: ExecutionState) -> None:
    (passed,) = decide(seen(live), completed=True).changes
    assert isinstance(passed, PassOver) and passed.attempt == 200


@pytest.mark.parametrize("state", OPEN)
def test_other_content_under_a_higher_attempt_ends_the_old_and_takes_up_the_new(state: State) -> None:
    new = seen(content_hash=b"other")
    assert decide(new, task_row(state)).changes == (*ended(state), Insert(new.assignment, State.ACCEPTED))


@pytest.mark.parametrize("state", [State.ACCEPTED, State.COMPUTING, State.CANCELLING])
def test_the_same_content_under_a_higher_attempt_goes_on_where_it_is_not_computed(state: State) -> None:
    assert decide(seen(), task_row(state)).changes == (Restart(1, state, Attempt(200), Slot(201)),)


@pytest.mark.parametrize("state", [State.COMPUTED, State.SUBMITTING])
def test_compute_is_told_the_higher_attempt_of_what_it_has_computed(state: State) -> None:
    assert decide(seen(), task_row(state)).changes == (
        Renumber(1, state, State.ACCEPTED, Attempt(200), Slot(201)),
    )


def test_a_refusal_that_was_not_sent_yet_goes_on_under_a_higher_attempt_without_compute() -> None:
    refused = failed_row(State.COMPUTED, ends_as=State.REFUSED)
    assert decide(seen(), refused).changes == (
        Renumber(1, State.COMPUTED, State.COMPUTED, Attempt(200), Slot(201)),
    )


def test_a_failure_that_was_sent_is_an_answer_so_that_the_next_attempt_is_run() -> None:
    for state, end in [
        (State.SUBMITTING, ended(State.SUBMITTING)),
        (State.CONFIRMED, (Supersede(1), Move(1, State.CONFIRMED, State.FAILED, owed=Owed.UNPAID))),
    ]:
        assert decide(seen(), failed_row(state)).changes == (*end, Insert(seen().assignment, State.ACCEPTED))


def test_a_refusal_that_was_sent_is_judged_anew_under_a_higher_attempt() -> None:
    refused = failed_row(State.CONFIRMED, ends_as=State.REFUSED)
    changes = decide(seen(reward=999), refused).changes
    assert changes[:2] == (Supersede(1), Move(1, State.CONFIRMED, State.REFUSED, owed=Owed.UNPAID))
    assert isinstance(changes[2], Insert) and changes[2].ends_as is State.REFUSED


def test_a_completion_that_landed_is_finalized_or_taken_back_before_a_higher_attempt_is_taken() -> None:
    assert decide(seen(), task_row(State.CONFIRMED)) == NOTHING


@pytest.mark.parametrize("state", sorted(ENDED))
def test_a_pair_that_ended_here_is_taken_up_under_a_higher_attempt(state: State) -> None:
    known = task_row(state, result=result(assignment()))
    assert decide(seen(), known).changes == (Insert(seen().assignment, State.ACCEPTED),)


@pytest.mark.parametrize("state", OPEN)
def test_a_completed_pair_that_is_assigned_again_ends_what_is_open(state: State) -> None:
    changes = decide(seen(), task_row(state), completed=True).changes
    assert changes[:-1] == ended(state) and isinstance(changes[-1], PassOver)


@pytest.mark.parametrize("end", [ExecutionState.FAILED, ExecutionState.COMPLETED])
def test_a_higher_attempt_that_has_ended_only_ends_the_old_one(end: ExecutionState) -> None:
    assert decide(seen(end), task_row(State.COMPUTING)).changes == ended(State.COMPUTING)
