"""Every change of the journal, as a value.

What decides returns changes; `Journal.apply` writes any number of them in one transaction, or none (writes/ says how).
Moments are not in them: the transaction has one, by the chain's clock.
"""

from dataclasses import dataclass, field
from typing import Final

from listener.journal.records import Assignment, Cursor, EventRow, Gap, PageMark
from listener.journal.states import (
    ConditionName,
    LedgerKind,
    OutboxStatus,
    Outcome,
    Owed,
    RequestState,
    State,
    SubmissionKind,
    WaitsFor,
)
from shared.ids import Attempt, Day, Lamports, ModelId, Requester, Slot, UnixSeconds
from shared.messages import TaskResult

NO_LAMPORTS: Final = Lamports(0)
GONE: Final = "missed: the account is gone"
"""Why what was told of is passed over."""


@dataclass(frozen=True, slots=True)
class Insert:
    """A new row of `tasks`, in the state that the rules gave it. What is refused is counted in `refusals`."""

    assignment: Assignment
    state: State
    reason: str | None = None
    result: TaskResult | None = None
    ends_as: State | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """From one state to another. Options that are None leave what stands there. It waits for nothing any more."""

    task: int
    origin: State
    to: State
    reason: str | None = None
    result: TaskResult | None = None
    ends_as: State | None = None
    owed: Owed | None = None
    refund_at: UnixSeconds | None = None
    verified_slot: Slot | None = None


@dataclass(frozen=True, slots=True)
class Restart:
    """Back to `accepted` as on the first day: result, reason, notice and debt are forgotten."""

    task: int
    origin: State
    attempt: Attempt
    verified_slot: Slot


@dataclass(frozen=True, slots=True)
class Renumber:
    """A higher attempt with the same content: what is computed stays, older signatures no longer count."""

    task: int
    origin: State
    to: State
    attempt: Attempt
    verified_slot: Slot


@dataclass(frozen=True, slots=True)
class Seen:
    """The account was read again and shows what the row says, perhaps with a notice."""

    task: int
    verified_slot: Slot
    refund_at: UnixSeconds


@dataclass(frozen=True, slots=True)
class Wait:
    """Why an unsigned task does not go on now; None: it does. Refused where the task is in another state."""

    task: int
    origin: State
    waits_for: WaitsFor | None


@dataclass(frozen=True, slots=True)
class PassOver:
    """What is no work of this node is not looked at again, unless it is GONE and a listing shows that it is not.

    `refused`: the requester, where the rules refuse it by what the account's head says.
    """

    account: str
    attempt: Attempt
    slot: Slot
    reason: str
    refused: Requester | None = None


@dataclass(frozen=True, slots=True)
class Sign:
    """A signed transaction, stored before its first send; the task goes from `computed` to `submitting`.

    Refused where `kind` is not what the result asks for any more.

    `fee` is what it costs where it lands, `rent` what it adds to the execution's account.
    """

    task: int
    kind: SubmissionKind
    attempt: Attempt
    signature: str
    raw: bytes = field(repr=False)
    last_valid_block_height: int
    fee: Lamports
    rent: Lamports = NO_LAMPORTS


@dataclass(frozen=True, slots=True)
class Sweep:
    """A signed transfer of `lamports` to the cold address, stored before its first send.

    Refused while another one may land, or a task waits for funds.
    """

    signature: str
    raw: bytes = field(repr=False)
    last_valid_block_height: int
    fee: Lamports
    lamports: Lamports


@dataclass(frozen=True, slots=True)
class Supersede:
    """What was signed for this task so far counts no more: watched to its end, not sent."""

    task: int


@dataclass(frozen=True, slots=True)
class Observe:
    """What became of a signature. Its bytes are dropped where it cannot land any more."""

    outbox: int
    origin: OutboxStatus
    to: OutboxStatus
    slot: Slot | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Complete:
    """The pair's completion is finalized: it is never run again."""

    pair_hash: bytes


@dataclass(frozen=True, slots=True)
class Owe:
    task: int
    origin: Owed
    to: Owed


@dataclass(frozen=True, slots=True)
class Book:
    """Lamports came (positive) or went (negative); of a loss `forgone` is the reward that was not paid.

    Refused where the signature's lamports of this kind are booked already; an attempt's second loss is left out.
    """

    kind: LedgerKind
    lamports: int
    signature: str | None = None
    about: Assignment | None = None
    forgone: Lamports = NO_LAMPORTS


@dataclass(frozen=True, slots=True)
class Spend:
    """Take `amount` (lamports, or a number) out of a daily budget. Refused where `limit` would be exceeded.

    A negative amount gives back what was not needed.
    """

    day: Day
    name: str
    amount: int
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """One more task of this requester ended so on this day."""

    requester: Requester
    day: Day
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Measure:
    """A computation of this model with these declared units took so long: it goes into the mean."""

    model_id: ModelId
    compute_units: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a command's request. Refused where it was answered before."""

    request: int
    state: RequestState
    answer: str


@dataclass(frozen=True, slots=True)
class SetCondition:
    """None: it does not hold any more. The same value again changes nothing, not even since when."""

    name: ConditionName
    value: str | None


@dataclass(frozen=True, slots=True)
class ForgetPageMark:
    """The round of the backfill is over, or begins again from the top."""


OfTask = Insert | Move | Restart | Renumber | Seen | Wait | Owe
OfOutbox = Sign | Sweep | Supersede | Observe
OfChain = PassOver | Complete | EventRow | Cursor | PageMark | ForgetPageMark | Gap
OfBooks = Book | Spend | Count | Measure | Answer | SetCondition
Change = OfTask | OfOutbox | OfChain | OfBooks
