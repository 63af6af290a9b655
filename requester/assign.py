"""Assigns one task to a node: the reward is locked in the task's account until it ends."""

import secrets
import string
import uuid
from dataclasses import dataclass
from typing import Final

from solders.pubkey import Pubkey

from requester.patience import PATIENCE_S, patiently
from requester.sending import Landed
from requester.session import Session
from shared.errors import ChainError, TransactionTooLarge
from shared.ids import (
    Attempt,
    ExecutionId,
    Lamports,
    ModelId,
    TaskId,
    TaskKey,
    UnixSeconds,
    parse_execution_id,
    parse_task_id,
)

RANDOM_CHARACTERS: Final = 8
"""At the end of each taskId: nobody can take the account of what comes next."""
_ALPHABET: Final = string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True)
class Assignment:
    """The arguments of assign_task. `deadline` is by the chain's clock."""

    pair: TaskKey
    node: Pubkey
    model_id: ModelId
    input_uris: tuple[str, ...]
    expected_output_count: int
    deadline: UnixSeconds
    compute_units: int
    reward: Lamports


@dataclass(frozen=True, slots=True)
class Assigned:
    assignment: Assignment
    attempt: Attempt
    landed: Landed
    sent_at: float
    """Unix seconds by this machine."""


def new_execution_id() -> ExecutionId:
    return parse_execution_id(str(uuid.uuid4()))


def new_task_id(label: str) -> TaskId:
    """`label-` and 8 random characters. Raises InvalidId where the label is no beginning of an id."""
    return parse_task_id(f"{label}-{''.join(secrets.choice(_ALPHABET) for _ in range(RANDOM_CHARACTERS))}")


async def assign(session: Session, assignment: Assignment) -> Assigned:
    """Send assign_task and wait until it is confirmed.

    Its pair should be known to somebody before: whatever is raised once it was sent, the reward may be locked under it.

    Raises TransactionTooLarge (with what would help), TransactionRefused, TransactionExpired, ChainError.
    """
    sent_at = session.clock.wall()
    try:
        landed = await session.send("assign_task", _arguments(assignment), {"assigned_node": assignment.node})
    except TransactionTooLarge as error:
        raise TransactionTooLarge(f"{error}; {_what_helps(assignment)}") from error
    execution = await patiently(lambda: session.execution(assignment.pair, landed.slot), session.clock, PATIENCE_S)
    if execution is None:
        raise ChainError(f"{assignment.pair} was assigned by {landed.signature}, but its account is gone")
    return Assigned(assignment, execution.attempt, landed, sent_at)


def _arguments(assignment: Assignment) -> dict[str, object]:
    return {
        "execution_id": assignment.pair.execution_id,
        "task_id": assignment.pair.task_id,
        "model_id": assignment.model_id,
        "input_uris": list(assignment.input_uris),
        "expected_output_count": assignment.expected_output_count,
        "deadline": assignment.deadline,
        "compute_units": assignment.compute_units,
        "reward": assignment.reward,
    }


def _what_helps(assignment: Assignment) -> str:
    uris = assignment.input_uris
    return (
        f"its {len(uris)} input URIs take {sum(map(len, uris))} bytes: put tensors that are used together into "
        "one object and name them all by #*, or use a shorter prefix"
    )
