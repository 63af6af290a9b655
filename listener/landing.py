"""What the status of a signature means for it and for its task. Pure, like decisions.py."""

from dataclasses import dataclass
from typing import Final

from listener.alarms import Alarm
from listener.chain.answers import TransactionError
from listener.chain.idl import Program
from listener.decisions import NOTHING, Decision, failure
from listener.journal.changes import Change, Complete, Move, Observe
from listener.journal.records import Outbox, Task
from listener.journal.states import OutboxStatus, Owed, State, SubmissionKind
from shared.ids import Slot
from shared.messages import TaskResult

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
PAID_BEFORE: Final = "PaidBeforeItWasAssignedAgain"


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
        return cls(slot, is_finalized, name or err.text, err.instruction is not None)


def on_landed(row: Outbox, task: Task | None, landed: Landed) -> Decision:
    """The chain shows the signature at `confirmed` or `finalized`. A sweep has no task."""
    observed = Observe(row.id, row.status, _status(landed), landed.slot, landed.error)
    if observed.to is row.status and landed.slot == row.slot:
        return NOTHING
    if task is None:
        return Decision((observed,))
    if row.superseded:
        return _on_superseded(row, task, landed, observed)
    return Decision((observed, *_moves(row, task, landed)))


def _on_superseded(row: Outbox, task: Task, landed: Landed, observed: Observe) -> Decision:
    """It landed before the account was assigned again: what it paid is booked, and the pair is never run again."""
    if row.kind is SubmissionKind.FAILED or landed.error is not None:
        return Decision((observed,))
    alarm = Alarm.PAID_BEFORE if row.slot is None else None
    if not landed.is_finalized:
        return Decision((observed,), alarm)
    paid = Move(task.id, State.CANCELLED, State.PAID, PAID_BEFORE, owed=Owed.PAID)
    booked = (paid,) if task.state == State.CANCELLED and task.attempt == row.attempt else ()
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
    """A completion that would be refused is not signed. NOTHING: the account explains it, or it may mend itself."""
    if landed.error is None or _may_mend(landed):
        return NOTHING
    told = _refused_by_program(task, landed)
    return Decision((Move(task.id, task.state, State.COMPUTED, landed.error, told, ends_as=State.FAILED),))


def _may_mend(landed: Landed) -> bool:
    return not landed.is_of_program or landed.error in EXPLAINED_BY_THE_ACCOUNT


def _refused_by_program(task: Task, landed: Landed) -> TaskResult:
    return failure(task, f"the program refused the result: {landed.error}")


def _status(landed: Landed) -> OutboxStatus:
    if landed.error is None:
        return OutboxStatus.FINALIZED if landed.is_finalized else OutboxStatus.CONFIRMED
    return OutboxStatus.REJECTED if landed.is_finalized else OutboxStatus.ERRED


def _moves(row: Outbox, task: Task, landed: Landed) -> tuple[Change, ...]:
    if not landed.is_finalized:
        return _on_confirmed(task, landed)
    if landed.error is not None:
        return _on_rejected(row, task, landed)
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


def _on_rejected(row: Outbox, task: Task, landed: Landed) -> tuple[Change, ...]:
    """Finalized with an error: the account explains it, or its cause may mend itself, or it is for good."""
    back = () if task.state == State.SUBMITTING else (Move(task.id, task.state, State.SUBMITTING),)
    if _may_mend(landed):
        return (*back, Move(task.id, State.SUBMITTING, State.COMPUTED))
    if row.kind is SubmissionKind.COMPLETED:
        told = _refused_by_program(task, landed)
        return (
            *back,
            Move(task.id, State.SUBMITTING, State.COMPUTED, landed.error, told, ends_as=State.FAILED),
        )
    ends_as = task.ends_as or State.FAILED
    return (*back, Move(task.id, State.SUBMITTING, ends_as, landed.error, owed=Owed.UNPAID))
