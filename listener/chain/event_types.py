"""The program's events as values, and which fields an IDL must give them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from solders.pubkey import Pubkey

from listener.chain.idl_layout import Struct
from shared.errors import IdlInvalid
from shared.ids import ExecutionId, ModelId, TaskId, UnixSeconds, parse_execution_id, parse_model_id, parse_task_id

_STRING: Final = "a string"
_STRINGS: Final = "a list of strings"
_KEY: Final = "a public key"
_INTEGER: Final = "an integer"

TASK_ASSIGNED_FIELDS: Final = {
    "execution_id": _STRING,
    "task_id": _STRING,
    "model_id": _STRING,
    "input_uris": _STRINGS,
    "expected_output_count": _INTEGER,
    "deadline": _INTEGER,
    "compute_units": _INTEGER,
    "assigned_node": _KEY,
}
STATE: Final = "state"
REWARD_FIELD: Final = {"reward": _INTEGER}
EXECUTION_FIELDS: Final = TASK_ASSIGNED_FIELDS | REWARD_FIELD | {"requester": _KEY, "attempt": _INTEGER}
"""What an execution account must have, besides its state."""
OPTIONAL_EXECUTION_FIELDS: Final = {"layout": _INTEGER, "refund_at": _INTEGER}
EVENT_FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "TaskAssigned": TASK_ASSIGNED_FIELDS,
    "ExecutionCancelled": {"execution_id": _STRING, "assigned_node": _KEY},
    "TaskCompleted": {
        "execution_id": _STRING,
        "task_id": _STRING,
        "output_uris": _STRINGS,
        "execution_time": _INTEGER,
        "node_address": _KEY,
    },
    "TaskFailed": {
        "execution_id": _STRING,
        "task_id": _STRING,
        "node_address": _KEY,
        "error_message": _STRING,
    },
}
OPTIONAL_EVENT_FIELDS: Final = {"ExecutionCancelled": {"task_id": _STRING, "refund_at": _INTEGER}}


@dataclass(frozen=True, slots=True)
class TaskAssigned:
    execution_id: ExecutionId
    task_id: TaskId
    model_id: ModelId
    input_uris: tuple[str, ...]
    expected_output_count: int
    deadline: UnixSeconds
    compute_units: int
    assigned_node: Pubkey


@dataclass(frozen=True, slots=True)
class ExecutionCancelled:
    """`task_id` None: every task of the execution on this node. `refund_at` None: it takes effect at once."""

    execution_id: ExecutionId
    task_id: TaskId | None
    assigned_node: Pubkey
    refund_at: UnixSeconds | None


@dataclass(frozen=True, slots=True)
class TaskCompleted:
    """`execution_time` in milliseconds."""

    execution_id: ExecutionId
    task_id: TaskId
    output_uris: tuple[str, ...]
    execution_time: int
    node_address: Pubkey


@dataclass(frozen=True, slots=True)
class TaskFailed:
    execution_id: ExecutionId
    task_id: TaskId
    node_address: Pubkey
    error_message: str


Event = TaskAssigned | ExecutionCancelled | TaskCompleted | TaskFailed


def check_fields(struct: Struct, wanted: Mapping[str, str], optional: Mapping[str, str]) -> None:
    """Raise IdlInvalid where a field that is wanted is missing, or any of them is of another kind."""
    kinds = {field.name: _kind(field.type) for field in struct.fields}
    for name, kind in {**optional, **wanted}.items():
        if name in wanted and name not in kinds:
            raise IdlInvalid(f"the IDL's {struct.name} has no field {name}")
        if kinds.get(name, kind) != kind:
            raise IdlInvalid(f"the field {name} of the IDL's {struct.name} should be {kind}, but is {kinds[name]}")


def _kind(kind: object) -> str:
    match kind:
        case "string":
            return _STRING
        case {"vec": "string"}:
            return _STRINGS
        case "publicKey":
            return _KEY
        case "u8" | "u16" | "u32" | "u64" | "i8" | "i16" | "i32" | "i64":
            return _INTEGER
        case _:
            return f"{kind!a:.60}"


def typed_event(name: str, fields: Mapping[str, object]) -> Event:
    """The event of this name in the IDL. Raises InvalidId; the kinds were checked when the IDL was read."""
    values = dict(fields)
    values["execution_id"] = parse_execution_id(str(values["execution_id"]))
    if "task_id" in values:
        values["task_id"] = parse_task_id(str(values["task_id"]))
    if name == "TaskAssigned":
        values["model_id"] = parse_model_id(str(values["model_id"]))
    kinds: dict[str, type[Event]] = {
        "TaskAssigned": TaskAssigned,
        "ExecutionCancelled": ExecutionCancelled,
        "TaskCompleted": TaskCompleted,
        "TaskFailed": TaskFailed,
    }
    made = kinds[name]
    return made(**{field: values.get(field) for field in made.__slots__})  # type: ignore[arg-type] # kinds checked
