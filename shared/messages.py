"""The protocol's messages. camelCase on the wire, snake_case here; unknown fields are refused."""

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from shared.ids import (
    MAX_COUNT,
    OPERATOR,
    Attempt,
    ExecutionId,
    ModelId,
    Requester,
    TaskId,
    TaskKey,
    UnixSeconds,
    parse_execution_id,
    parse_model_id,
    parse_requester,
    parse_task_id,
)
from shared.uris import MAX_URIS, parse_tensor_uri

MAX_OUTPUTS = 255


def _checked_uri(text: str) -> str:
    return str(parse_tensor_uri(text))


ExecutionIdField = Annotated[ExecutionId, AfterValidator(parse_execution_id)]
TaskIdField = Annotated[TaskId, AfterValidator(parse_task_id)]
ModelIdField = Annotated[ModelId, AfterValidator(parse_model_id)]
RequesterField = Annotated[Requester, AfterValidator(parse_requester)]
UriText = Annotated[str, AfterValidator(_checked_uri)]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT, strict=True)]
AttemptField = Annotated[Attempt, Field(ge=0, lt=2**64, strict=True)]
UnixSecondsField = Annotated[UnixSeconds, Field(ge=-(2**63), lt=2**63, strict=True)]


class Message(BaseModel):
    """Base of everything that crosses a process boundary."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )

    def to_wire(self) -> str:
        """JSON with camelCase names, absent options left out."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


class Stage(StrEnum):
    """Where a task is inside compute. `CANCELLED` stands only in the answer to DELETE."""

    QUEUED = "queued"
    FETCHING = "fetching"
    RUNNING = "running"
    STORING = "storing"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TensorMetadata(Message):
    """What a safetensors header says of one tensor. `dtype` is safetensors' name for it (F32, BF16, I64, …)."""

    shape: list[int]
    dtype: str
    name: str | None = None
    is_weights: bool | None = None


class TaskRequest(Message):
    """POST /api/task. The specification's six fields; the others are the listener's."""

    task_id: TaskIdField
    model_id: ModelIdField
    execution_id: ExecutionIdField
    input_uris: Annotated[list[UriText], Field(min_length=1, max_length=MAX_URIS)]
    output_count: Annotated[int, Field(ge=1, le=MAX_OUTPUTS, strict=True)]
    deadline: UnixSecondsField | None = None
    requester: RequesterField = OPERATOR
    compute_units: Count | None = None
    attempt: AttemptField = Attempt(0)
    chain_time: UnixSecondsField | None = None
    landing_margin: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    """Seconds before the deadline at which compute stops a run and begins no PUT."""

    @property
    def key(self) -> TaskKey:
        return TaskKey(self.execution_id, self.task_id)

    def content(self) -> dict[str, object]:
        """All that makes it this piece of work: everything but attempt, chainTime and landingMargin."""
        return self.model_dump(exclude={"attempt", "chain_time", "landing_margin"})


class TaskResult(Message):
    """How a computation ended. `execution_time` is whole milliseconds, from first input byte to last output."""

    task_id: TaskIdField
    execution_id: ExecutionIdField
    success: bool
    output_uris: list[UriText] = []
    execution_time: Count
    error_message: str | None = None


class TaskAcceptedResponse(Message):
    execution_id: ExecutionIdField
    task_id: TaskIdField
    accepted: bool


class StageTime(Message):
    """When a task entered a stage, in Unix seconds by this machine's clock (for people, never for deadlines)."""

    stage: Stage
    at: float


class TaskSummary(Message):
    """One row of GET /api/task."""

    execution_id: ExecutionIdField
    task_id: TaskIdField
    attempt: AttemptField
    requester: RequesterField
    stage: Stage


class TaskStatus(TaskSummary):
    """GET /api/task/{executionId}/{taskId}. `compute_units` is what was counted, once it was."""

    stages: list[StageTime] = []
    compute_units: Count | None = None
    reason: str | None = None
    """A stable name out of the list of errors, once the task failed."""
    result: TaskResult | None = None


class Check(Message):
    """One line of GET /ready."""

    ok: bool
    value: str
    since: float
    """Unix seconds since when it is as it is."""
    what_to_do: str | None = None


class Readiness(Message):
    ready: bool
    checks: dict[str, Check]
