"""The way to an empty node: what has not begun is handed back, what runs goes on to its end."""

import asyncio
import logging
from contextlib import suppress
from typing import Final

from listener.compute_client import ComputeClient
from listener.journal.records import Task
from listener.journal.states import OPEN, UNSIGNED, State
from listener.looks import Looks
from listener.orders import DRAINING, handed_back
from listener.steps import Steps
from shared.clock import Clock
from shared.errors import ComputeError, StateConflict
from shared.ids import Attempt, TaskKey
from shared.logs import fields
from shared.messages import Stage

EVERY_S: Final = 1.0
LOOK_EVERY_S: Final = 10.0
"""Between two looks at the accounts of what runs: with the intake closed, nothing else tells of a cancellation."""
SETTLE_S: Final = 30.0
"""So long may compute take to be told of the last ends; the next start does the rest."""

log = logging.getLogger("listener.drain")


class Drain:
    def __init__(self, steps: Steps, compute: ComputeClient, looks: Looks, clock: Clock) -> None:
        self._steps = steps
        self._compute = compute
        self._looks = looks
        self._clock = clock

    async def run(self) -> None:
        """Until every task is over, and compute knows it."""
        looked_at = self._clock.monotonic()
        while tasks := await self._steps.journal.tasks_in(OPEN):
            for task in await self._not_begun(tasks):
                await self._hand_back(task)
            if self._clock.monotonic() - looked_at >= LOOK_EVERY_S:
                looked_at = self._clock.monotonic()
                await self._look_at([task for task in tasks if task.state in UNSIGNED])
            await self._clock.sleep(EVERY_S)
        over_at = self._clock.monotonic()
        while await self._steps.journal.owing() and self._clock.monotonic() - over_at < SETTLE_S:
            await self._clock.sleep(EVERY_S)

    async def _look_at(self, tasks: list[Task]) -> None:
        async with asyncio.TaskGroup() as group:
            for task in tasks:
                group.create_task(self._looks.take(task.account))

    async def _not_begun(self, tasks: list[Task]) -> list[Task]:
        """What compute was not given, or holds in its queue."""
        queued: set[tuple[TaskKey, Attempt]] = set()
        if any(task.state == State.COMPUTING for task in tasks):
            try:
                queued = {
                    (TaskKey(one.execution_id, one.task_id), one.attempt)
                    for one in await self._compute.tasks()
                    if one.stage is Stage.QUEUED
                }
            except ComputeError as error:
                log.warning("compute's tasks are not known", extra=fields(error=str(error)))
        return [
            task
            for task in tasks
            if task.state == State.ACCEPTED
            or (task.state == State.COMPUTING and (task.key, task.attempt) in queued)
        ]

    async def _hand_back(self, task: Task) -> None:
        with suppress(StateConflict):  # it has gone on meanwhile: the next round sees how far
            await self._steps.take(task, handed_back(task, DRAINING))
