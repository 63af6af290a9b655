"""What the status of a signature means for it and for its task. Pure, like decisions.py."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from listener.alarms import Alarm
from listener.chain.answers import TransactionError
from listener.chain.idl import Program
from listener.decisions import NOTHING, Decision, failure
from listener.failure_budget import FAILURE_BUDGET_SPENT
from listener.journal.changes import Book, Change, Complete, Move, Observe
from listener.journal.records import Outbox, Task
from listener.journal.states import LedgerKind, OutboxStatus, Owed, State, SubmissionKind
from shared.ids import Lamports, Slot

EXPLAINED_BY_THE_ACCOUNT: Final = frozenset(
    {
        "AlreadyCompleted",
        "AlreadyFailed",
        "DeadlinePassed",
        "NoticeOver",
        "UnknownLayout",
        "WrongAttempt",
        "WrongNode",
        "WrongOwner",
    }
)
"""After these errors of the program the account is read again: it tells how the task ends."""
RENT_MISSING: Final = "InsufficientFundsForRent"
"""Rent rose since the assignment: what is missing is added by the next signature."""
OUT_OF_UNITS: Final = "OutOfComputeUnits"
"""The next signature asks for more."""
NO_FUNDS: Final = frozenset({"InsufficientFundsForFee", "AccountNotFound", "NodeBelowRent"})
"""The node cannot pay: the submission waits for funds."""
PAID_BEFORE: Final = "PaidBeforeItWasAssignedAgain"
FAILED_BEFORE: Final = "FailedBeforeItWasAssignedAgain"
MAX_REJECTED: Final = 5
"""Signatures of one attempt that may land with an error before the last one's counts as final."""
_FEE_PAYER: Final = 0
_RAN_OUT: Final = re.compile(r"instruction \d+ failed with (ComputationalBudgetExceeded|ProgramFailedToComplete)")


class Sort(Enum):
    """What an error asks for."""

    FINAL = auto()
    """The same instruction would be refused again."""
    MENDED = auto()
    """A new signature is made, once the account was read again and the cause, where it is ours to mend, is mended."""
    FUNDS = auto()
    """The same, once the node has the lamports."""


@dataclass(frozen=True, slots=True)
class Landed:
    """Where a signature stands. `error` is None where it succeeded, else the program's name for it, or the runtime's.

    `is_of_program`: the program (or the runtime, while it ran) refused the instruction, so that the same one would
    be refused again.
    """

    slot: Slot
    is_finalized: bool
    error: str | None = None
    is_of_program: bool = False

    @classmethod
    def of(cls, slot: Slot, err: TransactionError | None, program: Program, *, is_finalized: bool) -> "Landed":
        if err is None:
            return cls(slot, is_finalized)
        name = None if err.code is None else program.error_name(err.code)
        return cls(slot, is_finalized, name or _runtime_error(err), err.instruction is not None)


def _runtime_error(err: TransactionError) -> str:
    if err.text == RENT_MISSING and err.account == _FEE_PAYER:
        return "NodeBelowRent"
    return OUT_OF_UNITS if _RAN_OUT.fullmatch(err.text) else err.text


def sort(landed: Landed) -> Sort:
    """Sort the error of what landed, or was simulated, with one."""
    if landed.error in NO_FUNDS:
        return Sort.FUNDS
    if landed.is_of_program and landed.error not in EXPLAINED_BY_THE_ACCOUNT | {OUT_OF_UNITS}:
        return Sort.FINAL
    return Sort.MENDED


def on_landed(row: Outbox, task: Task | None, landed: Landed) -> Decision:
    """The chain shows the signature at `confirmed` or `finalized`. A sweep has no task."""
    observed = Observe(row.id, row.status, _status(landed), landed.slot, landed.error)
    if observed.to is row.status and landed.slot == row.slot:
        return NOTHING
    booked = books(row, task, landed)
    if task is None:
        return Decision((observed, *booked))
    if row.superseded:
        superseded = _on_superseded(row, task, landed, observed)
        return Decision((*superseded.changes, *booked), superseded.alarm)
    return Decision((observed, *_moves(task, landed), *booked))


def books(row: Outbox, task: Task | None, landed: Landed) -> tuple[Book, ...]:
    """What a signature moved, once that is final. With an error it moved its fee only."""
    if not landed.is_finalized:
        return ()
    moved = [Book(LedgerKind.FEE, -row.fee, row.signature, task)]
    if landed.error is None and row.kind is SubmissionKind.COMPLETED and task is not None:
        moved.append(Book(LedgerKind.REWARD, task.reward, row.signature, task))
    if landed.error is None and row.lamports:
        kind = LedgerKind.RENT if row.kind is SubmissionKind.COMPLETED else LedgerKind.SWEEP
        moved.append(Book(kind, -row.lamports, row.signature, task))
    return tuple(moved)


def _on_superseded(row: Outbox, task: Task, landed: Landed, observed: Observe) -> Decision:
    """It landed before the account was assigned again: what it did is booked, and what is paid is never run again."""
    if landed.error is not None:
        return Decision((observed,))
    is_its_end = landed.is_finalized and task.state == State.CANCELLED and task.attempt == row.attempt
    if row.kind is SubmissionKind.FAILED:
        failed = Move(task.id, State.CANCELLED, State.FAILED, FAILED_BEFORE)
        return Decision((observed, failed) if is_its_end else (observed,))
    alarm = Alarm.PAID_BEFORE if row.slot is None else None
    if not landed.is_finalized:
        return Decision((observed,), alarm)
    paid = Move(task.id, State.CANCELLED, State.PAID, PAID_BEFORE, owed=Owed.PAID)
    booked = (paid,) if is_its_end else ()
    return Decision((observed, *booked, Complete(task.pair_hash)), alarm)


def on_lost(row: Outbox, task: Task | None) -> Decision:
    """What had landed is not known any more: a fork took it back."""
    observed = Observe(row.id, row.status, OutboxStatus.SIGNED)
    if task is not None and task.state == State.CONFIRMED and not row.superseded:
        return Decision((observed, Move(task.id, State.CONFIRMED, State.SUBMITTING)))
    return Decision((observed,))


def on_expired(row: Outbox, task: Task | None) -> Decision:
    """It cannot land any more, and has not: the account is looked at again, and perhaps a new one signed."""
    observed = Observe(row.id, OutboxStatus.SIGNED, OutboxStatus.EXPIRED)
    if task is None or row.superseded:
        return Decision((observed,))
    return Decision((observed, Move(task.id, State.SUBMITTING, State.COMPUTED)))


def on_simulated(task: Task, landed: Landed) -> Decision:
    """What would be refused is not signed. NOTHING: the account explains it, or it may mend itself."""
    if landed.error is None or sort(landed) is not Sort.FINAL:
        return NOTHING
    return Decision(_refused_for_good(task, State.COMPUTED, landed.error))


def on_rejected_too_often(task: Task, earlier: Sequence[Outbox]) -> Decision:
    """What landed with an error again and again costs a fee each time: its cause does not mend."""
    rejected = [
        row
        for row in earlier
        if row.status is OutboxStatus.REJECTED and (row.attempt, row.kind) == (task.attempt, task.submission)
    ]
    if len(rejected) < MAX_REJECTED:
        return NOTHING
    return Decision(_refused_for_good(task, State.COMPUTED, str(rejected[-1].error)))


def on_rent_above_reward(task: Task, missing: Lamports) -> Decision:
    """The rent that the account lacks is no less than the reward: being paid would cost more than it brings."""
    if not missing or missing < task.reward:
        return NOTHING
    return Decision(_refused_for_good(task, State.COMPUTED, f"{RENT_MISSING}: {missing} lamports"))


def on_untold(task: Task) -> Decision:
    """The day's budget for failures is spent: it is recorded, and nothing is sent."""
    ends_as = task.ends_as or State.FAILED
    return Decision((Move(task.id, State.COMPUTED, ends_as, FAILURE_BUDGET_SPENT, owed=Owed.UNPAID),))


def _refused_for_good(task: Task, origin: State, error: str) -> tuple[Change, ...]:
    """A result that is refused is told as a failure. A failure that is refused ends the task."""
    if task.submission is SubmissionKind.COMPLETED:
        told = failure(task, f"the program refused the result: {error}")
        return Move(task.id, origin, State.COMPUTED, error, told, ends_as=State.FAILED), loss(task)
    return (Move(task.id, origin, task.ends_as or State.FAILED, error, owed=Owed.UNPAID),)


def loss(task: Task) -> Book:
    """It was computed, and nobody pays for it."""
    return Book(LedgerKind.LOSS, 0, about=task, forgone=task.reward)


def _status(landed: Landed) -> OutboxStatus:
    if landed.error is None:
        return OutboxStatus.FINALIZED if landed.is_finalized else OutboxStatus.CONFIRMED
    return OutboxStatus.REJECTED if landed.is_finalized else OutboxStatus.ERRED


def _moves(task: Task, landed: Landed) -> tuple[Change, ...]:
    if not landed.is_finalized:
        return _on_confirmed(task, landed)
    if landed.error is not None:
        return _on_rejected(task, landed)
    ends_as = task.ends_as or State.FAILED
    owed = Owed.PAID if ends_as is State.PAID else Owed.UNPAID
    completion = (Complete(task.pair_hash),) if ends_as is State.PAID else ()
    return (Move(task.id, task.state, ends_as, owed=owed), *completion)


def _on_confirmed(task: Task, landed: Landed) -> tuple[Change, ...]:
    if landed.error is None and task.state == State.SUBMITTING:
        return (Move(task.id, State.SUBMITTING, State.CONFIRMED),)
    if landed.error is not None and task.state == State.CONFIRMED:
        return (Move(task.id, State.CONFIRMED, State.SUBMITTING),)
    return ()


def _on_rejected(task: Task, landed: Landed) -> tuple[Change, ...]:
    """Finalized with an error: the account explains it, or its cause may mend itself, or it is for good."""
    back = () if task.state == State.SUBMITTING else (Move(task.id, task.state, State.SUBMITTING),)
    if sort(landed) is not Sort.FINAL:
        return (*back, Move(task.id, State.SUBMITTING, State.COMPUTED))
    return (*back, *_refused_for_good(task, State.SUBMITTING, str(landed.error)))
