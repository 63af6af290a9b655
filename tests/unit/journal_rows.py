"""Rows for the journal's tests."""

from listener.journal.changes import Insert, Move, Sign
from listener.journal.journal import Journal
from listener.journal.records import Assignment, Task
from listener.journal.states import Owed, State, SubmissionKind
from shared.ids import Attempt, ExecutionId, Lamports, ModelId, Requester, Slot, TaskId, UnixSeconds
from shared.messages import TaskResult

NOW = 1_700_000_000
REQUESTER = "9xQeWvG816bUx9EPjHmaT23yvVM2ZWbrrpZb9PusVFin"


def assignment(number: int = 1, attempt: int = 100, **changed: object) -> Assignment:
    values: dict[str, object] = {
        "account": f"account-{number}",
        "attempt": Attempt(attempt),
        "execution_id": ExecutionId("execution"),
        "task_id": TaskId(f"task-{number}"),
        "requester": Requester(REQUESTER),
        "content_hash": b"content",
        "model_id": ModelId("f" * 64),
        "input_uris": ("file:///tensors/public/x.safetensors",),
        "output_count": 1,
        "compute_units": 1,
        "reward": Lamports(1_000_000),
        "deadline": UnixSeconds(NOW + 600),
        "refund_at": UnixSeconds(0),
        "verified_slot": Slot(attempt + 1),
    }
    return Assignment(**(values | changed))


def result(of: Assignment, success: bool = True) -> TaskResult:
    return TaskResult(
        task_id=of.task_id,
        execution_id=of.execution_id,
        success=success,
        output_uris=["file:///out/0.safetensors"] if success else [],
        execution_time=12,
        error_message=None if success else "no such operator",
    )


def task_row(state: State = State.ACCEPTED, of: Assignment | None = None, **changed: object) -> Task:
    """A row as the journal gives it, number 1 and with a successful result where one belongs to its state."""
    base = of or assignment()
    values: dict[str, object] = {name: getattr(base, name) for name in base.__slots__}
    has_result = state in (State.COMPUTED, State.SUBMITTING, State.CONFIRMED)
    values |= {
        "id": 1,
        "state": state,
        "ends_as": State.PAID if has_result else None,
        "reason": None,
        "result": result(base) if has_result else None,
        "owed": Owed.NOTHING,
    }
    return Task(**(values | changed))


def failed_row(state: State, **changed: object) -> Task:
    base = assignment()
    return task_row(state, base, **({"ends_as": State.FAILED, "result": result(base, success=False)} | changed))


def signature(task: Task, text: str = "signature-1", last_valid: int = 500) -> Sign:
    raw = b"raw " + text.encode()
    return Sign(task.id, SubmissionKind.COMPLETED, task.attempt, text, raw, last_valid, Lamports(5_000))


async def inserted(journal: Journal, taken: Assignment, state: State = State.ACCEPTED) -> Task:
    await journal.apply(Insert(taken, state))
    task = await journal.latest(taken.account)
    assert task is not None
    return task


async def computed(journal: Journal, number: int = 1) -> Task:
    task = await inserted(journal, assignment(number))
    await journal.apply(Move(task.id, State.ACCEPTED, State.COMPUTED, result=result(task), ends_as=State.PAID))
    return await journal.task(task.id)


async def submitting(journal: Journal, number: int = 1) -> Task:
    task = await computed(journal, number)
    await journal.apply(signature(task, f"signature-{number}"))
    return await journal.task(task.id)
