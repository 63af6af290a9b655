"""What compute runs and the journal does not hold is stopped: a POST that came late, or a lost journal."""

import logging
from typing import Final

from listener.compute_client import ComputeClient
from listener.journal.journal import Journal
from listener.journal.states import ENDED
from shared.clock import Clock
from shared.errors import ComputeError
from shared.ids import OPERATOR, TaskKey
from shared.logs import fields
from shared.messages import Stage, TaskSummary

INTERVAL_S: Final = 60.0
RETRY_S: Final = 2.0
_FINISHED: Final = frozenset({Stage.DONE, Stage.FAILED, Stage.CANCELLED})

log = logging.getLogger("listener.reconcile")


async def reconcile_for_ever(compute: ComputeClient, journal: Journal, clock: Clock) -> None:
    """At start (call it after the listing) and every minute."""
    while True:
        try:
            await reconcile(compute, journal)
            await clock.sleep(INTERVAL_S)
        except ComputeError as error:
            log.warning("compute's tasks are not known", extra=fields(error=str(error)))
            await clock.sleep(RETRY_S)


async def reconcile(compute: ComputeClient, journal: Journal) -> None:
    """Delete by force what is unfinished at compute, came from the chain, and is no open task of the journal."""
    for summary in await compute.tasks():
        if summary.stage in _FINISHED or summary.requester == OPERATOR or await _is_held(journal, summary):
            continue
        log.warning(
            "stopped what the journal does not hold",
            extra=fields(executionId=summary.execution_id, taskId=summary.task_id, attempt=summary.attempt),
        )
        await compute.stop(TaskKey(summary.execution_id, summary.task_id), summary.attempt, force=True)


async def _is_held(journal: Journal, summary: TaskSummary) -> bool:
    tasks = await journal.tasks_of(TaskKey(summary.execution_id, summary.task_id))
    return any(task.state not in ENDED and task.requester == summary.requester for task in tasks)
