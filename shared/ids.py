"""Names of things, each made at the boundary by one parser.

An id that has passed its parser is safe as a path segment, an object key and a log field.
"""

import re
from dataclasses import dataclass
from typing import NewType

from shared.errors import InvalidId

ExecutionId = NewType("ExecutionId", str)
TaskId = NewType("TaskId", str)
ModelId = NewType("ModelId", str)
Requester = NewType("Requester", str)
"""A public key in base58, or `OPERATOR` for a local caller that named none."""
Lamports = NewType("Lamports", int)
Slot = NewType("Slot", int)
Attempt = NewType("Attempt", int)
"""The slot in which a pair was assigned; rises with each assignment of the pair."""
UnixSeconds = NewType("UnixSeconds", int)
"""Seconds since 1970 by the chain's clock."""
Day = NewType("Day", int)
"""Days since 1970 by the chain's clock."""

OPERATOR = Requester("operator")
MAX_ID_LENGTH = 64
MAX_COUNT = 2**53 - 1
"""Largest reward (lamports) or number of compute units: what JSON's numbers hold exactly."""

SECONDS_A_DAY = 86_400

_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", re.ASCII)
_BASE58_KEY = re.compile(r"[1-9A-HJ-NP-Za-km-z]{32,44}", re.ASCII)


def parse_id(text: str, what: str) -> str:
    """Return `text` if it is 1 to 64 characters of `A-Z a-z 0-9 . _ -`, the first no dot.

    Raises InvalidId, which names `what` and the rule; the text itself is shown escaped and cut.
    """
    if not _ID.fullmatch(text):
        raise InvalidId(
            f"{what} {text[:80]!a} is not an id: 1 to {MAX_ID_LENGTH} characters of "
            "A-Z a-z 0-9 . _ - are allowed, and the first may not be a dot"
        )
    return text


def parse_execution_id(text: str) -> ExecutionId:
    return ExecutionId(parse_id(text, "executionId"))


def parse_task_id(text: str) -> TaskId:
    return TaskId(parse_id(text, "taskId"))


def parse_model_id(text: str) -> ModelId:
    return ModelId(parse_id(text, "modelId"))


def parse_requester(text: str) -> Requester:
    """Return `text` if it has the form of a public key in base58, or is `operator`."""
    if text != OPERATOR and not _BASE58_KEY.fullmatch(text):
        raise InvalidId(f"requester {text[:80]!a} is not a public key in base58")
    return Requester(text)


def day_of(at: float) -> Day:
    """The day in which this moment (Unix seconds) lies."""
    return Day(int(at // SECONDS_A_DAY))


@dataclass(frozen=True, slots=True, order=True)
class TaskKey:
    """The pair that names one piece of work, unique on the chain."""

    execution_id: ExecutionId
    task_id: TaskId

    def __str__(self) -> str:
        return f"{self.execution_id}/{self.task_id}"


def parse_task_key(text: str) -> TaskKey:
    """`executionId/taskId`, as `str` of a TaskKey writes it. Raises InvalidId."""
    execution_id, _, task_id = text.partition("/")
    return TaskKey(parse_execution_id(execution_id), parse_task_id(task_id))
