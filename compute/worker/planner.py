"""Plans: made by a process without a device, within a time limit, one at a time, and kept.

A planner has one tenant for all of its life, as a worker has: whoever takes one over decides over no one else's plans.
"""

import asyncio
import logging
from contextlib import closing

from compute.shared_memory import SharedBuffer
from compute.worker.answers import parse_plan
from compute.worker.forks import ForkServer
from compute.worker.plans import PlanCache
from compute.worker.process import NotTaken, WorkerGone, WorkerProcess
from compute.worker.spare import Spare
from compute.worker.tenants import Tenant
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
        self._tenant: Tenant | None = None
        """Whose the process is."""

    async def serve(self, server: ForkServer) -> None:
        """Keeps a planner warm until cancelled."""
        await self._spare.serve(server)

    async def plan(self, job: Job, tenant: Tenant) -> Plan:
        """What a run of the package on these inputs would give and cost. Raises TaskError."""
        data = encode_job(job)
        if (known := self._known.get(tenant, data)) is not None:
            return known
        with (
            closing(SharedBuffer("job", len(data))) as asked,
            closing(SharedBuffer("plan", MAX_ANSWER_BYTES)) as room,
        ):
            asked.view[:] = data
            async with self._turn:
                try:
                    plan = await self._planned(tenant, asked, room)
                except WorkerGone as gone:
                    log.warning("a planner ended", extra=fields(how=str(gone)))
                    plan = await self._once_more(gone, tenant, asked, room)
        self._known.keep(tenant, data, plan)
        return plan

    async def _once_more(self, gone: WorkerGone, tenant: Tenant, asked: SharedBuffer, room: SharedBuffer) -> Plan:
        """Where the planner was lost by no fault of this package."""
        try:
            if gone.culprit:
                raise gone
            return await self._planned(tenant, asked, room)
        except WorkerGone as last:
            raise ComputationFailed(f"{last} while it planned this task and nothing else") from last

    async def _planned(self, tenant: Tenant, asked: SharedBuffer, room: SharedBuffer) -> Plan:
        while True:
            process = await self._planner_for(tenant)
            try:
                async with asyncio.timeout(self._limit_s):
                    answer = await process.request(Operation.PLAN, [asked], room)
            except NotTaken:  # it ended a moment ago; nothing was begun
                continue
            except TimeoutError as exc:
                raise TooLarge(f"planning this package took longer than {self._limit_s:g} s") from exc
            if answer.error is not None:
                raise answer.error
            try:
                return parse_plan(room.view)
            except ValueError as exc:
                log.error(
                    "the planner says what no planner of ours says; it is killed", extra=fields(why=str(exc))
                )
                await process.kill()
                raise ComputationFailed("the planner gave no plan") from exc

    async def _planner_for(self, tenant: Tenant) -> WorkerProcess:
        """Its own, or the warm spare, which is its own from now on; the one before ends."""
        if self._process is not None and self._process.alive and self._tenant == tenant:
            return self._process
        taken = await self._spare.take()
        before, self._process, self._tenant = self._process, taken, tenant
        if before is not None:
            await before.kill()
        return taken
