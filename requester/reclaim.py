"""Takes back what an ended task's account still holds: reward and rent, or the rent alone."""

import asyncio
from collections.abc import Callable
from typing import Final

from listener.chain.accounts import Execution, ExecutionState
from requester.sending import Landed
from requester.session import Session
from shared.ids import TaskKey, UnixSeconds

EXPIRY_GRACE_S: Final = 60
"""After the deadline a task that is still assigned may be reclaimed."""
CLOCK_INTERVAL_S: Final = 1.0

OnWait = Callable[[float], None]
"""Told the seconds that are left, about once a second."""


def due_at(execution: Execution) -> UnixSeconds:
    """From when on, by the chain's clock, its requester may reclaim it; 0: now."""
    match execution.state:
        case ExecutionState.ASSIGNED:
            return UnixSeconds(execution.deadline + EXPIRY_GRACE_S + 1)
        case ExecutionState.CANCELLED:
            return execution.refund_at
        case _:
            return UnixSeconds(0)


async def reclaim(session: Session, pair: TaskKey) -> Landed:
    """Close the account; what it holds goes to the requester. Raises TransactionRefused where it is not due."""
    return await session.send("reclaim", {"execution_id": pair.execution_id, "task_id": pair.task_id})


async def wait_until(session: Session, moment: UnixSeconds, on_wait: OnWait | None = None) -> None:
    """Until the chain's clock shows `moment`."""
    while True:
        left = moment - await session.rpc.get_clock()
        if left <= 0:
            return
        if on_wait is not None:
            on_wait(left)
        await asyncio.sleep(min(CLOCK_INTERVAL_S, left))
