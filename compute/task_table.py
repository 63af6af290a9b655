"""The tasks that compute knows, each in its stage. All transitions stand here."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from compute.results import StoredResult
from shared.ids import Attempt, ExecutionId, Requester, TaskKey
from shared.messages import Stage, StageTime, TaskResult, TaskStatus, TaskSummary

TRANSITIONS: dict[Stage, frozenset[Stage]] = {
    # A place among the tasks in work is free: package, headers and tensors are read, the run is planned.
    Stage.QUEUED: frozenset({Stage.FETCHING, Stage.FAILED}),
    # Everything is in memory and the worker has a place.
    Stage.FETCHING: frozenset({Stage.RUNNING, Stage.FAILED}),
    # The outputs are there. From here on a cancellation without force is refused.
    Stage.RUNNING: frozenset({Stage.STORING, Stage.FAILED}),
    # The result is on disk.
    Stage.STORING: frozenset({Stage.DONE, Stage.FAILED}),
    # Ends. A cancelled task has none: it leaves the table.
    Stage.DONE: frozenset(),
    Stage.FAILED: frozenset(),
}
ENDS = frozenset({Stage.DONE, Stage.FAILED})


@dataclass(slots=True, eq=False)
class Entry:
    """One pair under one attempt. `work` is the task that carries it on, while it is unfinished."""

    key: TaskKey
    attempt: Attempt
    requester: Requester
    content: str
    run: str
    """Names this run among the pair's runs, in the list of created objects."""
    stage: Stage
    stages: list[StageTime]
    begun_s: float | None = None
    """When the first byte was asked for, on the monotonic clock."""
    compute_units: int | None = None
    reason: str | None = None
    result: TaskResult | None = None
    work: asyncio.Task[None] | None = None
    stopping: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def unfinished(self) -> bool:
        return self.stage not in ENDS

    def enter(self, stage: Stage, at: float) -> None:
        """`at` is in Unix seconds. Raises ValueError if the present stage does not lead there."""
        if stage not in TRANSITIONS[self.stage]:
            raise ValueError(f"{self.key} is {self.stage} and cannot become {stage}")
        self.stage = stage
        self.stages.append(StageTime(stage=stage, at=at))
        self.notify()

    def notify(self) -> None:
        """Wake whoever waits for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self) -> None:
        await self._changed.wait()

    def summary(self) -> TaskSummary:
        return TaskSummary(
            execution_id=self.key.execution_id,
            task_id=self.key.task_id,
            attempt=self.attempt,
            requester=self.requester,
            stage=self.stage,
        )

    def status(self) -> TaskStatus:
        return TaskStatus(
            **self.summary().model_dump(),
            stages=list(self.stages),
            compute_units=self.compute_units,
            reason=self.reason,
            result=self.result,
        )


class TaskTable:
    def __init__(self) -> None:
        self._entries: dict[TaskKey, Entry] = {}

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def get(self, key: TaskKey) -> Entry | None:
        return self._entries.get(key)

    def unfinished(self, execution_id: ExecutionId | None = None) -> list[Entry]:
        return [
            entry
            for entry in self._entries.values()
            if entry.unfinished and execution_id in (None, entry.key.execution_id)
        ]

    def add(self, entry: Entry) -> None:
        assert entry.key not in self._entries
        self._entries[entry.key] = entry

    def remove(self, entry: Entry) -> None:
        """From now on the pair is unknown; whoever waits for it learns so."""
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]
        entry.notify()


def entry_of(stored: StoredResult) -> Entry:
    """A finished task as it was before the restart."""
    status = stored.status
    return Entry(
        key=stored.key,
        attempt=status.attempt,
        requester=status.requester,
        content=stored.content,
        run="",
        stage=status.stage,
        stages=list(status.stages),
        compute_units=status.compute_units,
        reason=status.reason,
        result=status.result,
    )
