import dataclasses

import pytest

from listener.alarms import Alarm
from listener.chain.answers import transaction_error
from listener.decisions import Decision
from listener.journal.changes import Book, Change, Complete, Move, Observe
from listener.journal.records import Outbox, Task
from listener.journal.states import LedgerKind, OutboxStatus, Owed, State, SubmissionKind
from listener.landing import (
    EXPLAINED_BY_THE_ACCOUNT,
    FAILED_BEFORE,
    OUT_OF_UNITS,
    PAID_BEFORE,
    RENT_MISSING,
    Landed,
    Sort,
    on_expired,
    on_landed,
    on_lost,
    sort,
)
from shared.ids import Attempt, Lamports, Slot
from tests.unit.chain_bytes import program
from tests.unit.journal_rows import assignment, failed_row, task_row

PROGRAM = program()
CODES = {str(PROGRAM.error_name(code)): code for code in range(6000, 6100) if PROGRAM.error_name(code)}


def task(state: State = State.SUBMITTING, success: bool = True) -> Task:
    return task_row(state) if success else failed_row(state)


def moved(decision: Decision) -> tuple[Change, ...]:
    """What changes besides the signature's row and the ledger."""
    return tuple(one for one in decision.changes if not isinstance(one, Observe | Book))


def booked(decision: Decision) -> dict[LedgerKind, int]:
    """Lamports by kind; of a loss, those that were forgone."""
    books = [one for one in decision.changes if isinstance(one, Book)]
    return {one.kind: one.lamports or one.forgone for one in books}


def row(status: OutboxStatus = OutboxStatus.SIGNED, superseded: bool = False, **changed: object) -> Outbox:
    values = 5, 1, SubmissionKind.COMPLETED, Attempt(100), "signature", 500, Lamports(5_000), Lamports(0)
    base = Outbox(*values, status, superseded, None, None)
    return dataclasses.replace(base, **changed)


def test_a_confirmed_signature_confirms_the_task() -> None:
    decision = on_landed(row(), task(), Landed(Slot(9), False))
    assert decision.changes == (
        Observe(5, OutboxStatus.SIGNED, OutboxStatus.CONFIRMED, Slot(9)),
        Move(1, State.SUBMITTING, State.CONFIRMED),
    )


@pytest.mark.parametrize("state", [State.SUBMITTING, State.CONFIRMED])
def test_only_a_finalized_signature_makes_it_paid_and_never_again_run(state: State) -> None:
    decision = on_landed(row(OutboxStatus.CONFIRMED, slot=Slot(9)), task(state), Landed(Slot(9), True))
    assert moved(decision) == (
        Move(1, state, State.PAID, owed=Owed.PAID),
        Complete(assignment().pair_hash),
    )


def test_a_confirmed_signature_that_is_seen_again_changes_nothing() -> None:
    again = on_landed(row(OutboxStatus.CONFIRMED, slot=Slot(9)), task(State.CONFIRMED), Landed(Slot(9), False))
    assert again.changes == ()


def test_a_fork_that_takes_a_confirmed_signature_back_makes_it_fly_again() -> None:
    decision = on_lost(row(OutboxStatus.CONFIRMED), task(State.CONFIRMED))
    assert decision.changes == (
        Observe(5, OutboxStatus.CONFIRMED, OutboxStatus.SIGNED),
        Move(1, State.CONFIRMED, State.SUBMITTING),
    )


def test_an_expired_signature_sends_the_task_back_to_be_looked_at() -> None:
    assert on_expired(row(), task()).changes[1:] == (Move(1, State.SUBMITTING, State.COMPUTED),)


def test_a_superseded_signature_that_expires_moves_nothing_but_itself() -> None:
    assert len(on_expired(row(superseded=True), task()).changes) == 1
    assert len(on_lost(row(OutboxStatus.CONFIRMED, superseded=True), task(State.CONFIRMED)).changes) == 1


def test_a_completion_that_was_paid_before_the_pair_was_assigned_again_is_booked_and_alarmed_once() -> None:
    superseded = row(superseded=True)
    confirmed = on_landed(superseded, task(State.CANCELLED), Landed(Slot(9), False))
    assert len(confirmed.changes) == 1 and confirmed.alarm is Alarm.PAID_BEFORE
    seen = row(OutboxStatus.CONFIRMED, superseded=True, slot=Slot(9))
    finalized = on_landed(seen, task(State.CANCELLED), Landed(Slot(9), True))
    assert finalized.alarm is None
    assert moved(finalized) == (
        Move(1, State.CANCELLED, State.PAID, PAID_BEFORE, owed=Owed.PAID),
        Complete(assignment().pair_hash),
    )


def test_a_completion_paid_under_an_older_number_leaves_the_task_alone_but_is_never_run_again() -> None:
    superseded = row(OutboxStatus.CONFIRMED, superseded=True, slot=Slot(9), attempt=Attempt(90))
    decision = on_landed(superseded, task(State.COMPUTED), Landed(Slot(9), True))
    assert moved(decision) == (Complete(assignment().pair_hash),)


def test_a_failure_that_landed_before_the_pair_was_assigned_again_is_booked_once_it_is_final() -> None:
    superseded = row(superseded=True, kind=SubmissionKind.FAILED)
    assert moved(on_landed(superseded, task(State.CANCELLED), Landed(Slot(9), False))) == ()
    finalized = on_landed(superseded, task(State.CANCELLED), Landed(Slot(9), True))
    assert moved(finalized) == (Move(1, State.CANCELLED, State.FAILED, FAILED_BEFORE),)
    older = row(superseded=True, kind=SubmissionKind.FAILED, attempt=Attempt(90))
    assert moved(on_landed(older, task(State.COMPUTED), Landed(Slot(9), True))) == ()


def test_a_superseded_signature_that_was_refused_is_only_watched_to_its_end() -> None:
    decision = on_landed(row(superseded=True), task(State.CANCELLED), Landed(Slot(9), True, "WrongAttempt", True))
    assert moved(decision) == () and decision.alarm is None


def test_an_error_is_acted_on_only_when_it_is_finalized() -> None:
    error = Landed(Slot(9), False, "NoticeOver", True)
    assert on_landed(row(), task(), error).changes == (
        Observe(5, OutboxStatus.SIGNED, OutboxStatus.ERRED, Slot(9), "NoticeOver"),
    )


def test_an_error_that_the_account_explains_is_looked_at_again() -> None:
    decision = on_landed(row(OutboxStatus.ERRED), task(), Landed(Slot(9), True, "NoticeOver", True))
    assert moved(decision) == (Move(1, State.SUBMITTING, State.COMPUTED),)


def test_a_result_that_the_program_refuses_for_good_is_told_as_a_failure() -> None:
    decision = on_landed(row(OutboxStatus.ERRED), task(), Landed(Slot(9), True, "OutputUriCount", True))
    (move,) = moved(decision)
    assert isinstance(move, Move) and move.to is State.COMPUTED and move.ends_as is State.FAILED
    assert move.result is not None and "OutputUriCount" in str(move.result.error_message)


def test_a_failure_that_the_program_refuses_for_good_ends_the_task() -> None:
    failed = row(OutboxStatus.ERRED, kind=SubmissionKind.FAILED)
    decision = on_landed(failed, task(success=False), Landed(Slot(9), True, "ErrorMessageTooLong", True))
    (move,) = moved(decision)
    assert isinstance(move, Move) and move.to is State.FAILED and move.owed is Owed.UNPAID


def test_an_error_of_the_cluster_is_tried_again() -> None:
    decision = on_landed(row(OutboxStatus.ERRED), task(), Landed(Slot(9), True, "InsufficientFundsForFee"))
    assert moved(decision) == (Move(1, State.SUBMITTING, State.COMPUTED),)


def test_what_landed_with_an_error_in_another_fork_is_no_longer_confirmed() -> None:
    decision = on_landed(
        row(OutboxStatus.CONFIRMED, slot=Slot(9)), task(State.CONFIRMED), Landed(Slot(10), False, "x")
    )
    assert decision.changes == (
        Observe(5, OutboxStatus.CONFIRMED, OutboxStatus.ERRED, Slot(10), "x"),
        Move(1, State.CONFIRMED, State.SUBMITTING),
    )


def test_an_error_that_a_fork_took_back_leaves_it_flying() -> None:
    assert on_lost(row(OutboxStatus.ERRED), task()).changes == (
        Observe(5, OutboxStatus.ERRED, OutboxStatus.SIGNED),
    )


def test_the_same_signature_in_another_slot_moves_only_its_row() -> None:
    again = on_landed(row(OutboxStatus.CONFIRMED, slot=Slot(9)), task(State.CONFIRMED), Landed(Slot(10), False))
    assert again.changes == (Observe(5, OutboxStatus.CONFIRMED, OutboxStatus.CONFIRMED, Slot(10)),)


@pytest.mark.parametrize("ends_as", [State.FAILED, State.REFUSED])
def test_a_finalized_failure_ends_the_task_as_it_was_decided_and_is_run_again_when_asked(ends_as: State) -> None:
    told = failed_row(State.CONFIRMED, ends_as=ends_as)
    decision = on_landed(row(OutboxStatus.CONFIRMED, kind=SubmissionKind.FAILED), told, Landed(Slot(9), True))
    assert moved(decision) == (Move(1, State.CONFIRMED, ends_as, owed=Owed.UNPAID),)


def test_a_sweep_is_watched_like_any_signature_and_moves_no_task() -> None:
    sweep = row(task=None, kind=SubmissionKind.SWEEP)
    landed = on_landed(sweep, None, Landed(Slot(9), True))
    assert landed.changes[0] == Observe(5, OutboxStatus.SIGNED, OutboxStatus.FINALIZED, Slot(9))
    assert moved(landed) == ()
    assert on_expired(sweep, None).changes == (Observe(5, OutboxStatus.SIGNED, OutboxStatus.EXPIRED),)
    confirmed = row(OutboxStatus.CONFIRMED, task=None, kind=SubmissionKind.SWEEP)
    assert on_lost(confirmed, None).changes == (Observe(5, OutboxStatus.CONFIRMED, OutboxStatus.SIGNED),)


@pytest.mark.parametrize(
    ("err", "name", "sorted_as"),
    [
        ({"InstructionError": [2, {"Custom": CODES["OutputUriCount"]}]}, "OutputUriCount", Sort.FINAL),
        ({"InstructionError": [2, {"Custom": CODES["WrongAttempt"]}]}, "WrongAttempt", Sort.MENDED),
        ({"InstructionError": [2, "InvalidArgument"]}, "instruction 2 failed with InvalidArgument", Sort.FINAL),
        ({"InstructionError": [2, "ComputationalBudgetExceeded"]}, OUT_OF_UNITS, Sort.MENDED),
        ({"InstructionError": [2, "ProgramFailedToComplete"]}, OUT_OF_UNITS, Sort.MENDED),
        ({"InsufficientFundsForRent": {"account_index": 1}}, RENT_MISSING, Sort.MENDED),
        ({"InsufficientFundsForRent": {"account_index": 0}}, "NodeBelowRent", Sort.FUNDS),
        ("InsufficientFundsForFee", "InsufficientFundsForFee", Sort.FUNDS),
        ("AccountNotFound", "AccountNotFound", Sort.FUNDS),
        ("BlockhashNotFound", "BlockhashNotFound", Sort.MENDED),
        ("WouldExceedMaxBlockCostLimit", "WouldExceedMaxBlockCostLimit", Sort.MENDED),
    ],
)
def test_each_error_is_named_and_sorted_by_what_it_asks_for(err: object, name: str, sorted_as: Sort) -> None:
    landed = Landed.of(Slot(9), transaction_error(err), PROGRAM, is_finalized=True)
    assert (landed.error, sort(landed)) == (name, sorted_as)


def test_every_error_of_the_program_is_final_or_explained_by_the_account() -> None:
    assert set(CODES) >= EXPLAINED_BY_THE_ACCOUNT
    for name in CODES:
        expected = Sort.MENDED if name in EXPLAINED_BY_THE_ACCOUNT else Sort.FINAL
        assert sort(Landed(Slot(9), True, name, True)) is expected


FEE = 5_000


@pytest.mark.parametrize("state", [State.SUBMITTING, State.CONFIRMED])
def test_once_it_is_final_the_reward_the_fee_and_the_rent_that_was_added_are_booked(state: State) -> None:
    flying = row(OutboxStatus.CONFIRMED, slot=Slot(9), lamports=Lamports(700))
    assert booked(on_landed(flying, task(state), Landed(Slot(9), True))) == {
        LedgerKind.FEE: -FEE,
        LedgerKind.REWARD: assignment().reward,
        LedgerKind.RENT: -700,
    }


def test_nothing_is_booked_before_it_is_final() -> None:
    assert booked(on_landed(row(lamports=Lamports(700)), task(), Landed(Slot(9), False))) == {}
    assert booked(on_landed(row(), task(), Landed(Slot(9), False, "WrongAttempt", True))) == {}
    assert booked(on_expired(row(lamports=Lamports(700)), task())) == {}


def test_what_landed_with_an_error_cost_its_fee_and_moved_nothing_else() -> None:
    erred = row(OutboxStatus.ERRED, lamports=Lamports(700))
    assert booked(on_landed(erred, task(), Landed(Slot(9), True, "WrongAttempt", True))) == {LedgerKind.FEE: -FEE}


def test_a_failure_costs_its_fee_and_earns_nothing() -> None:
    told = row(OutboxStatus.CONFIRMED, kind=SubmissionKind.FAILED)
    assert booked(on_landed(told, task(State.CONFIRMED, success=False), Landed(Slot(9), True))) == {
        LedgerKind.FEE: -FEE
    }


def test_a_superseded_completion_that_was_paid_is_booked_as_well() -> None:
    superseded = row(OutboxStatus.CONFIRMED, superseded=True, slot=Slot(9), attempt=Attempt(90))
    assert booked(on_landed(superseded, task(State.COMPUTED), Landed(Slot(9), True))) == {
        LedgerKind.FEE: -FEE,
        LedgerKind.REWARD: assignment().reward,
    }


def test_a_sweep_is_booked_with_its_fee() -> None:
    sweep = row(task=None, kind=SubmissionKind.SWEEP, lamports=Lamports(10**9))
    assert booked(on_landed(sweep, None, Landed(Slot(9), True))) == {
        LedgerKind.FEE: -FEE,
        LedgerKind.SWEEP: -(10**9),
    }


def test_a_result_that_the_program_refuses_for_good_is_a_loss() -> None:
    decision = on_landed(row(OutboxStatus.ERRED), task(), Landed(Slot(9), True, "OutputUriCount", True))
    assert booked(decision) == {LedgerKind.FEE: -FEE, LedgerKind.LOSS: assignment().reward}
