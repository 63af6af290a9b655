"""Carries one accepted task to its end: through its stages to a result on disk, or, cancelled, to no trace."""

import asyncio
import logging
from dataclasses import dataclass

from compute.admission import Admission
from compute.deadline import Deadline
from compute.leftovers import delete_leftovers
from compute.pipeline import Pipeline
from compute.results import Results, StoredResult
from compute.settings import ComputeSettings
from compute.storage.store import Storage
from compute.task_table import Entry
from shared.clock import Clock
from shared.errors import ComputationFailed, StateUnavailable, TaskError
from shared.logs import fields
from shared.messages import Stage, StageTime, TaskRequest, TaskResult

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TaskRunner:
    settings: ComputeSettings
    storage: Storage
    results: Results
    pipeline: Pipeline
    clock: Clock
    admission: Admission
    places: asyncio.Semaphore
    """Tasks that may hold tensors at once."""

    async def carry(self, entry: Entry, request: TaskRequest, deadline: Deadline) -> None:
        """The body of the entry's task. When cancelled, the pair is unknown afterwards and no object is left."""
        try:
            await self._carry(entry, request, deadline)
        except Exception as exc:
            # Nothing stands above this but the service's group, and a fault in one task must not end the others.
            # It ends with a result, though the node is at fault: a pair that is unknown is posted anew without
            # end, and what met a fault once meets it again.
            log.exception("a task met a fault of this program", extra=fields(**_names(entry)))
            fault = ComputationFailed(f"the node itself failed ({type(exc).__name__}); its log says more")
            await self._carry(entry, request, deadline, fault)

    async def _carry(
        self, entry: Entry, request: TaskRequest, deadline: Deadline, fault: TaskError | None = None
    ) -> None:
        try:
            result, reason = await self._result(entry, request, deadline, fault)
            await self._keep(entry, result, reason, deadline)
        except asyncio.CancelledError:
            await self._forget(entry)
            raise
        except StateUnavailable as exc:
            # A result that is not on disk counts for nothing; whoever asks again starts it anew.
            log.error("a task was given up", extra=fields(**_names(entry), why=str(exc)))
            self.admission.state_failure = str(exc)
            await self._forget(entry)

    async def _result(
        self, entry: Entry, request: TaskRequest, deadline: Deadline, fault: TaskError | None
    ) -> tuple[TaskResult, str | None]:
        """Of the stages, or of the fault that ended them."""
        uris: tuple[str, ...] = ()
        error = fault
        if error is None:
            try:
                uris = await self._stages(entry, request, deadline)
            except TaskError as exc:
                error = exc
        now = self.clock.monotonic()
        if error is not None and entry.stage is Stage.STORING:
            await delete_leftovers(self.results, self.storage, entry.key)
        result = TaskResult(
            task_id=request.task_id,
            execution_id=request.execution_id,
            success=error is None,
            output_uris=list(uris),
            execution_time=0 if entry.begun_s is None else round((now - entry.begun_s) * 1000),
            error_message=None if error is None else str(error),
        )
        return result, None if error is None else error.reason

    async def _stages(self, entry: Entry, request: TaskRequest, deadline: Deadline) -> tuple[str, ...]:
        def counted(compute_units: int) -> None:
            entry.compute_units = compute_units

        def started() -> None:
            self._enter(entry, Stage.RUNNING)

        async with deadline.enforce() as limit, self.places:
            deadline.check_margin()
            self._enter(entry, Stage.FETCHING)
            entry.begun_s = self.clock.monotonic()
            async with self.pipeline.computed(request, counted, started) as outputs:
                deadline.check_margin()
                deadline.storing(limit)
                self._enter(entry, Stage.STORING)
                return await self.pipeline.store(request, entry.run, outputs, deadline)

    def _enter(self, entry: Entry, stage: Stage, at: float | None = None) -> None:
        entry.enter(stage, self.clock.wall() if at is None else at)
        log.info("a task entered a stage", extra=fields(**_names(entry), stage=stage))

    async def _keep(self, entry: Entry, result: TaskResult, reason: str | None, deadline: Deadline) -> None:
        """Result to disk first, then it is told."""
        end, ended_at = Stage.DONE if result.success else Stage.FAILED, self.clock.wall()
        status = entry.status().model_copy(
            update={
                "stage": end,
                "reason": reason,
                "stages": [*entry.stages, StageTime(stage=end, at=ended_at)],
                "result": result,
            }
        )
        expires_at = ended_at + max(deadline.left_s() or 0.0, 0.0) + self.settings.result_keep_s
        await self.results.finish(entry.run, StoredResult(status, entry.content, expires_at))
        while entry.attempt != status.attempt:  # renumbered while it was being written
            status = status.model_copy(update={"attempt": entry.attempt})
            await self.results.renumber(entry.key, status)
        entry.result, entry.reason = result, reason
        self._enter(entry, end, ended_at)

    async def _forget(self, entry: Entry) -> None:
        try:
            await self.results.take_back(entry.key, entry.run)
            await delete_leftovers(self.results, self.storage, entry.key)
        except StateUnavailable as exc:
            log.error("a task's traces stay until the next start", extra=fields(**_names(entry), why=str(exc)))
        log.info("a task was stopped", extra=fields(**_names(entry), stage=entry.stage))


def _names(entry: Entry) -> dict[str, object]:
    return {"executionId": entry.key.execution_id, "taskId": entry.key.task_id, "attempt": entry.attempt}
