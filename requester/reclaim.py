"""Takes back what an ended task's account still holds: reward and rent, or the rent alone."""

from dataclasses import dataclass
from typing import Final

from listener.chain.accounts import Execution, ExecutionState
from requester.patience import PATIENCE_S, patiently
from requester.session import Session
from shared.errors import TransactionRefused
from shared.ids import Slot, TaskKey, UnixSeconds

EXPIRY_GRACE_S: Final = 60
"""After the deadline a task that is still assigned may be reclaimed."""


@dataclass(frozen=True, slots=True)
class Look:
    """A pair's account, and the seconds until its requester may reclaim it; 0 or less: now."""

    execution: Execution | None
    left_s: float


async def look(session: Session, pair: TaskKey, at_least: Slot | None) -> Look:
    """The account as it is at a slot not below `at_least`. Raises ChainError."""
    now = await session.rpc.get_clock()  # before the account: what is due by then can end in no other way after it
    execution = await session.execution(pair, at_least)
    return Look(execution, 0.0 if execution is None else due_at(execution) - now)


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

    Raises TransactionRefused where it is not due, TransactionExpired and ChainError.
    """
    try:
        await session.send("reclaim", {"execution_id": pair.execution_id, "task_id": pair.task_id})
    except TransactionRefused:
        if await patiently(lambda: session.execution(pair), session.clock, PATIENCE_S) is not None:
            raise


def how_to_reclaim(pair: TaskKey) -> str:
    return f"splitup-node cancel {pair.execution_id} {pair.task_id} takes it back"
