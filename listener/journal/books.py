"""What the journal keeps beside tasks and signatures: money, requesters, commands, as values."""

import sqlite3
from dataclasses import dataclass

from listener.journal.states import ConditionName, LedgerKind, RequestName, RequestState, State
from shared.ids import Attempt, ExecutionId, Lamports, ModelId, Requester, TaskId, TaskKey, UnixSeconds


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """Lamports that came (positive) or went (negative). Without a task: a sweep, or old rows added up."""

    at: UnixSeconds | None
    key: TaskKey | None
    attempt: Attempt | None
    requester: Requester | None
    kind: LedgerKind
    lamports: int
    forgone: Lamports
    signature: str | None


@dataclass(frozen=True, slots=True)
class LedgerSum:
    """All rows of one kind."""

    entries: int
    lamports: int
    forgone: Lamports


@dataclass(frozen=True, slots=True)
class RequesterDay:
    """How many of one requester's tasks ended how, in one day or in several."""

    paid: int = 0
    failed: int = 0
    expired: int = 0
    cancelled: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class InFlight:
    """The tasks of one requester that are not signed yet."""

    tasks: int
    compute_units: int
    reward: Lamports
    has_paid: bool = False
    """For any task, in the days that are kept."""


@dataclass(frozen=True, slots=True)
class Refusal:
    reason: str
    requester: Requester
    count: int
    last_at: UnixSeconds | None


@dataclass(frozen=True, slots=True)
class TimesRefused:
    """How often the rules refused for one reason, to how many requesters."""

    reason: str
    count: int
    requesters: int
    last_at: UnixSeconds | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """The mean time of `count` computations of this model with these declared units."""

    model_id: ModelId
    compute_units: int
    seconds: float
    count: int


@dataclass(frozen=True, slots=True)
class Request:
    """What a command asked for. `asked_at` is Unix seconds by the machine's clock."""

    id: int
    name: RequestName
    argument: str
    asked_at: int
    state: RequestState
    answer: str | None


@dataclass(frozen=True, slots=True)
class Condition:
    name: ConditionName
    value: str
    since: UnixSeconds | None


@dataclass(frozen=True, slots=True)
class Finished:
    """A task that has moved to `history`."""

    account: str
    attempt: Attempt
    execution_id: ExecutionId
    task_id: TaskId
    requester: Requester
    model_id: ModelId
    compute_units: int
    reward: Lamports
    state: State
    reason: str | None
    signature: str | None
    fees: Lamports
    started_at: UnixSeconds | None
    ended_at: UnixSeconds


def ledger_row_from_row(row: sqlite3.Row) -> LedgerRow:
    values = dict(row)
    pair = values.pop("execution_id"), values.pop("task_id")
    values["key"] = TaskKey(*pair) if pair[0] is not None else None
    values["kind"] = LedgerKind(values["kind"])
    return LedgerRow(**values)


def request_from_row(row: sqlite3.Row) -> Request:
    values = dict(row)
    return Request(**values | {"name": RequestName(values["name"]), "state": RequestState(values["state"])})


def condition_from_row(row: sqlite3.Row) -> Condition:
    return Condition(ConditionName(row["name"]), row["value"], row["since"])


def finished_from_row(row: sqlite3.Row) -> Finished:
    return Finished(**dict(row) | {"state": State(row["state"])})
