"""Watches one task on the chain until it ends, checks its outputs, and reclaims what is due."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch

from listener.chain.accounts import Execution, ExecutionState
from requester.outputs import Ending, fetch_outputs, find_ending
from requester.reclaim import due_at, reclaim
from requester.session import Session
from shared.errors import RpcRateLimited, RpcUnavailable, TaskNotCompleted
from shared.ids import Attempt, Slot, TaskKey

LOOK_EVERY_S: Final = 0.4

OnState = Callable[[Execution], None]
"""Told of the account each time its state is another than before."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A task that was completed and paid. `outputs`: each output's own URI and its tensor, checked."""

    execution: Execution
    ending: Ending
    outputs: list[tuple[str, torch.Tensor]]


async def watch(
    session: Session,
    pair: TaskKey,
    *,
    attempt: Attempt | None = None,
    at_least: Slot | None = None,
    on_state: OnState | None = None,
) -> Completed:
    """Wait for the end of this attempt (the present one unless given), seen at a slot not below `at_least`.

    Raises TaskNotCompleted with the reason, after what is due was reclaimed; OutputInvalid; ChainError where
    the endpoint refuses, while one that does not answer is asked again.
    """
    last: ExecutionState | None = None
    while True:
        try:
            execution = await session.execution(pair, at_least)
            is_over = execution is None or await _is_over(session, execution)
        except (RpcUnavailable, RpcRateLimited):
            await asyncio.sleep(LOOK_EVERY_S)
            continue
        if execution is None:
            raise TaskNotCompleted(f"{pair} has no account: it was never assigned, or was reclaimed")
        attempt = attempt or execution.attempt
        if execution.attempt != attempt:
            raise TaskNotCompleted(f"{pair} was assigned again: its attempt is {execution.attempt} now")
        if execution.state is not last and on_state is not None:
            on_state(execution)
        last = execution.state
        if execution.state is ExecutionState.COMPLETED:
            return await _completed(session, pair, execution)
        if is_over:
            raise await _not_completed(session, pair, execution)
        await asyncio.sleep(LOOK_EVERY_S)


async def _completed(session: Session, pair: TaskKey, execution: Execution) -> Completed:
    ending = await find_ending(session, pair, execution.attempt, "task_completed")
    try:
        outputs = await fetch_outputs(session, pair, ending.output_uris, execution.expected_output_count)
    finally:
        await reclaim(session, pair)  # the rent; the reward is the node's
    return Completed(execution, ending, outputs)


async def _is_over(session: Session, execution: Execution) -> bool:
    if execution.state in (ExecutionState.COMPLETED, ExecutionState.FAILED):
        return True
    return await session.rpc.get_clock() >= due_at(execution)


async def _not_completed(session: Session, pair: TaskKey, execution: Execution) -> TaskNotCompleted:
    """The reason, once reward and rent are back."""
    match execution.state:
        case ExecutionState.FAILED:
            ending = await find_ending(session, pair, execution.attempt, "task_failed")
            reason = f"failed: {ending.arguments['error_message']!a}"
        case ExecutionState.CANCELLED:
            reason = "was cancelled"
        case _:
            reason = f"expired: its deadline {execution.deadline} passed"
    await reclaim(session, pair)
    return TaskNotCompleted(f"{pair} {reason}; reward and rent are back")
