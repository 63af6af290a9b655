"""Takes back what an ended task's account still holds: reward and rent, or the rent alone."""

from typing import Final

from listener.chain.accounts import Execution, ExecutionState
from requester.session import Session
from shared.errors import TransactionRefused
from shared.ids import TaskKey, UnixSeconds

EXPIRY_GRACE_S: Final = 60
"""After the deadline a task that is still assigned may be reclaimed."""


def due_at(execution: Execution) -> UnixSeconds:
    """From when on, by the chain's clock, its requester may reclaim it; 0: now."""
    match execution.state:
        case ExecutionState.ASSIGNED:
            return UnixSeconds(execution.deadline + EXPIRY_GRACE_S + 1)
        case ExecutionState.CANCELLED:
            return execution.refund_at
        case _:
            return UnixSeconds(0)


async def reclaim(session: Session, pair: TaskKey) -> None:
    """Close the account; what it holds goes to the requester, unless another command of theirs was faster.

    Raises TransactionRefused where it is not due.
    """
    try:
        await session.send("reclaim", {"execution_id": pair.execution_id, "task_id": pair.task_id})
    except TransactionRefused:
        if await session.execution(pair) is not None:
            raise
