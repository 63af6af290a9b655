"""Plans: made by a process without a device, within a time limit, one at a time, and kept."""

import asyncio
import logging
from contextlib import closing

from compute.shared_memory import SharedBuffer
from compute.worker.answers import parse_plan
from compute.worker.forks import ForkServer
from compute.worker.plans import PlanCache
from compute.worker.process import NotTaken, WorkerGone, WorkerProcess
from compute.worker.spare import Spare
from compute.worker.wire import MAX_ANSWER_BYTES, Job, Operation, Plan, Role, encode_job
from shared.errors import ComputationFailed, TooLarge
from shared.logs import fields

log = logging.getLogger(__name__)


class Planner:
    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._known = PlanCache()
        self._spare = Spare(Role.PLANNER, lambda _: None)
        # They are short, and Python's lock lets only one proceed anyway.
        self._turn = asyncio.Lock()
        self._process: WorkerProcess | None = None

    async def serve(self, server: ForkServer) -> None:
        """Keeps a planner warm until cancelled."""
        await self._spare.serve(server)

    async def plan(self, job: Job) -> Plan:
        """What a run of the package on these inputs would give and cost. Raises TaskError."""
        if (known := self._known.get(job)) is not None:
            return known
        data = encode_job(job)
        with (
            closing(SharedBuffer("job", len(data))) as asked,
            closing(SharedBuffer("plan", MAX_ANSWER_BYTES)) as room,
        ):
            asked.view[:] = data
            async with self._turn:
                plan = await self._planned(asked, room)
        self._known.keep(job, plan)
        return plan

    async def _planned(self, asked: SharedBuffer, room: SharedBuffer) -> Plan:
        while True:
            if self._process is None or not self._process.alive:
                self._process = await self._spare.take()
            try:
                async with asyncio.timeout(self._limit_s):
                    answer = await self._process.request(Operation.PLAN, [asked], room)
            except NotTaken:  # it ended a moment ago; nothing was begun
                continue
            except TimeoutError as exc:
                raise TooLarge(f"planning this package took longer than {self._limit_s:g} s") from exc
            except WorkerGone as gone:
                log.warning("a planner ended", extra=fields(how=str(gone)))
                raise ComputationFailed(f"{gone} while it planned this task and nothing else") from gone
            if answer.error is not None:
                raise answer.error
            try:
                return parse_plan(room.view)
            except ValueError as exc:
                log.error(
                    "the planner says what no planner of ours says; it is killed", extra=fields(why=str(exc))
                )
                await self._process.kill()
                raise ComputationFailed("the planner gave no plan") from exc
