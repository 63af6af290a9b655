"""Watches one task on the chain until it ends, checks its outputs, and reclaims what is due."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch

from listener.chain.accounts import Execution, ExecutionState
from requester.outputs import Ending, fetch_outputs, find_ending
from requester.patience import patiently
from requester.reclaim import how_to_reclaim, look, reclaim
from requester.session import Session
from shared.errors import ChainError, OutputInvalid, RequesterError, TaskNotCompleted
from shared.ids import Attempt, Slot, TaskKey

LOOK_EVERY_S: Final = 0.4

log = logging.getLogger("requester")

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

    An endpoint that is away, busy or behind is asked again. Raises TaskNotCompleted with the reason, after what is due
    was reclaimed; OutputInvalid; StorageUnavailable, and ChainError where the endpoint refuses or does not list what
    a payment was for: then nothing was reclaimed, and it can be watched again.
    """
    last: ExecutionState | None = None
    while True:
        seen = await patiently(lambda: look(session, pair, at_least), session.clock)
        execution = seen.execution
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
        if seen.left_s <= 0:
            raise await _not_completed(session, pair, execution)
        await session.clock.sleep(LOOK_EVERY_S)


async def _completed(session: Session, pair: TaskKey, execution: Execution) -> Completed:
    ending = await find_ending(session, pair, execution.attempt, "task_completed")
    if ending is None:
        raise ChainError(
            f"{pair} was completed, and its node paid, but the endpoint does not list the transaction that names the "
            "outputs; watch it again, or by another endpoint"
        )
    try:
        outputs = await fetch_outputs(session, pair, ending.output_uris, execution.expected_output_count)
    except OutputInvalid:
        await _reclaim_rent(session, pair)
        raise
    await _reclaim_rent(session, pair)
    return Completed(execution, ending, outputs)


async def _reclaim_rent(session: Session, pair: TaskKey) -> None:
    """The reward is the node's. Less than the outputs: an error is only told."""
    try:
        await reclaim(session, pair)
    except (ChainError, RequesterError) as error:
        log.warning("the rent of %s could not be reclaimed: %s; %s", pair, error, how_to_reclaim(pair))


async def _not_completed(session: Session, pair: TaskKey, execution: Execution) -> TaskNotCompleted:
    """The reason, once reward and rent are back."""
    match execution.state:
        case ExecutionState.FAILED:
            reason = await _failure(session, pair, execution.attempt)
        case ExecutionState.CANCELLED:
            reason = "was cancelled"
        case _:
            reason = f"expired: its deadline {execution.deadline} passed"
    try:
        await reclaim(session, pair)
    except (ChainError, RequesterError) as error:
        return TaskNotCompleted(
            f"{pair} {reason}; reward and rent could not be reclaimed: {error}; {how_to_reclaim(pair)}"
        )
    return TaskNotCompleted(f"{pair} {reason}; reward and rent are back")


async def _failure(session: Session, pair: TaskKey, attempt: Attempt) -> str:
    """By what the node says of it; whether or not that can be found, what it holds is the requester's."""
    try:
        ending = await find_ending(session, pair, attempt, "task_failed")
    except ChainError as error:
        return f"failed; the reason was not found: {error}"
    if ending is None:
        return "failed; the reason was not found: the endpoint does not list its transaction"
    return f"failed: {ending.arguments['error_message']!a}"
