"""A task's way as the demo sees it: compute's stages by its API, the chain's by the requester's eyes."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from cli.localnet import RunningNode
from requester.assign import Assigned, Assignment
from requester.watch import Completed
from shared.ids import TaskKey
from shared.messages import Stage, StageTime, TaskStatus

WAIT_S = 5
LOOK_EVERY_S = 0.03


@dataclass
class TaskView:
    """Everything about one task that the table shows. Times are Unix seconds by this machine."""

    assigned: Assigned
    confirmed_at: float
    stages: list[StageTime] = field(default_factory=list)
    completed: Completed | None = None
    paid_at: float = 0.0

    @property
    def sent_at(self) -> float:
        return self.assigned.sent_at

    @property
    def name(self) -> str:
        return self.assigned.assignment.pair.task_id


class LiveView:
    """Shows each step as it happens: on a terminal one line per task that fills up, else one line per step."""

    def __init__(self, node: RunningNode, count: int, group: asyncio.TaskGroup) -> None:
        self.tasks: list[TaskView] = []
        self._node = node
        self._count = count
        self._group = group
        self._watching: asyncio.Task[None] | None = None

    def assigning(self, _number: int, _assignment: Assignment) -> None:
        """Shown once it stands on the chain."""

    def assigned(self, _number: int, task: Assigned) -> None:
        view = TaskView(task, time.time())
        self.tasks.append(view)
        self._show(view, "assigned", view.confirmed_at)
        self._watching = self._group.create_task(self._follow(view))

    def completed(self, number: int, task: Completed) -> None:
        view = self.tasks[number]
        view.completed, view.paid_at = task, time.time()
        if self._watching is not None:
            self._watching.cancel()
        self._show(view, "paid", view.paid_at)
        if sys.stdout.isatty():
            print()

    async def _follow(self, view: TaskView) -> None:
        """Ask compute until the task has ended there."""
        async for status in _statuses(self._node, view.assigned.assignment.pair):
            for entered in status.stages[len(view.stages) :]:
                view.stages.append(entered)
                self._show(view, entered.stage, entered.at)

    def _show(self, view: TaskView, step: str, at: float) -> None:
        place = f"[{self.tasks.index(view) + 1}/{self._count}] {view.name}"
        if not sys.stdout.isatty():
            print(f"  {place}  {step:<9} +{at - view.sent_at:5.2f} s", flush=True)
            return
        passed = ["assigned", *(entered.stage for entered in view.stages)]
        shown = " → ".join(dict.fromkeys([*passed, step]))
        print(f"\r  {place}  {shown}\x1b[K", end="", flush=True)


async def _statuses(node: RunningNode, pair: TaskKey) -> AsyncIterator[TaskStatus]:
    """Each time the stage is another one, until there is a result."""
    url = f"{node.compute_url}/api/task/{pair.execution_id}/{pair.task_id}"
    stage: Stage | None = None
    while True:
        asked = {"wait": WAIT_S, "stage": stage.value} if stage else {}
        answer = await node.http.get(url, params=asked)
        if answer.status_code == httpx.codes.OK:
            status = TaskStatus.model_validate_json(answer.content)
            yield status
            stage = status.stage
            if status.result is not None:
                return
        else:
            await asyncio.sleep(LOOK_EVERY_S)


@asynccontextmanager
async def live_view(node: RunningNode, count: int) -> AsyncIterator[LiveView]:
    async with asyncio.TaskGroup() as group:
        yield LiveView(node, count, group)
