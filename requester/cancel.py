"""Cancels one task: the notice begins, is waited out, and what the account holds comes back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from listener.chain.accounts import Execution, ExecutionState
from requester.patience import PATIENCE_S, patiently
from requester.reclaim import look, reclaim
from requester.session import Session
from shared.errors import TaskNotCompleted, TransactionRefused
from shared.ids import Lamports, Slot, TaskKey

LOOK_EVERY_S: Final = 1.0

OnWait = Callable[[float], None]
"""Told the seconds that are left of the notice, about once a second."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """`state` is how the task ended: within the notice the node may still have completed it, and is then paid."""

    state: ExecutionState
    returned: Lamports


async def cancel(session: Session, pair: TaskKey, on_wait: OnWait | None = None) -> Cancelled:
    """Cancel the pair, wait out the notice, reclaim. One that is cancelled or ended already is only reclaimed.

    An endpoint that is away, busy or behind is asked again: for PATIENCE_S before the notice, for ever within it.
    Raises TaskNotCompleted where there is no account, TransactionRefused, ChainError.
    """
    execution = await _existing(session, pair)
    at_least = None
    if execution.state is ExecutionState.ASSIGNED:
        at_least = await _send_cancel(session, pair, execution)
    while True:
        seen = await patiently(lambda: look(session, pair, at_least), session.clock)
        if seen.execution is None:  # another command of this requester was faster
            return Cancelled(execution.state, execution.lamports)
        execution = seen.execution
        if seen.left_s <= 0:
            await reclaim(session, pair)
            return Cancelled(execution.state, execution.lamports)
        if on_wait is not None:
            on_wait(seen.left_s)
        await session.clock.sleep(min(LOOK_EVERY_S, seen.left_s))


async def _send_cancel(session: Session, pair: TaskKey, execution: Execution) -> Slot | None:
    args: dict[str, object] = {"execution_id": pair.execution_id, "task_id": pair.task_id}
    try:
        landed = await session.send("cancel_execution", args, {"assigned_node": execution.assigned_node})
    except TransactionRefused:
        if (await _existing(session, pair)).state is ExecutionState.ASSIGNED:
            raise
        return None  # it ended just now
    return landed.slot


async def _existing(session: Session, pair: TaskKey) -> Execution:
    execution = await patiently(lambda: session.execution(pair), session.clock, PATIENCE_S)
    if execution is None:
        raise TaskNotCompleted(f"{pair} has no account: it was never assigned, or was reclaimed")
    return execution
