"""Cancels one task: the notice begins, is waited out, and what the account holds comes back."""

from dataclasses import dataclass

from listener.chain.accounts import Execution, ExecutionState
from requester.reclaim import OnWait, due_at, reclaim, wait_until
from requester.session import Session
from shared.errors import TaskNotCompleted, TransactionRefused
from shared.ids import Lamports, Slot, TaskKey


@dataclass(frozen=True, slots=True)
class Cancelled:
    """`state` is how the task ended: within the notice the node may still have completed it, and is then paid."""

    state: ExecutionState
    returned: Lamports


async def cancel(session: Session, pair: TaskKey, on_wait: OnWait | None = None) -> Cancelled:
    """Cancel the pair, wait out the notice, reclaim. One that is cancelled or ended already is only reclaimed.

    Raises TaskNotCompleted where there is no account, TransactionRefused, ChainError.
    """
    execution = await _existing(session, pair)
    at_least = None
    if execution.state is ExecutionState.ASSIGNED:
        at_least = await _send_cancel(session, pair, execution)
    while True:
        execution = await _existing(session, pair, at_least)
        await wait_until(session, due_at(execution), on_wait)
        ended = await _existing(session, pair, at_least)
        if ended.state is execution.state:
            await reclaim(session, pair)
            return Cancelled(ended.state, ended.lamports)


async def _send_cancel(session: Session, pair: TaskKey, execution: Execution) -> Slot | None:
    args: dict[str, object] = {"execution_id": pair.execution_id, "task_id": pair.task_id}
    try:
        landed = await session.send("cancel_execution", args, {"assigned_node": execution.assigned_node})
    except TransactionRefused:
        if (await _existing(session, pair)).state is ExecutionState.ASSIGNED:
            raise
        return None  # it ended just now
    return landed.slot


async def _existing(session: Session, pair: TaskKey, at_least: Slot | None = None) -> Execution:
    execution = await session.execution(pair, at_least)
    if execution is None:
        raise TaskNotCompleted(f"{pair} has no account: it was never assigned, or was reclaimed")
    return execution
