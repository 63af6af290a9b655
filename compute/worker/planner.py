"""Plans: made by a process without a device, within a time limit, one at a time for each tenant, and kept.

A planner has one tenant for all of its life, as a worker has: whoever takes one over decides over no one else's plans.
The tenants that were served last keep theirs.
"""

import asyncio
import logging
from contextlib import closing

from compute.shared_memory import SharedBuffer
from compute.worker.answers import parse_plan
from compute.worker.forks import ForkServer
from compute.worker.gate import Gates
from compute.worker.plans import PlanCache
from compute.worker.process import NotTaken, WorkerGone
from compute.worker.spare import Spare
from compute.worker.tenancy import Tenancy
from compute.worker.tenants import Tenant
from compute.worker.wire import MAX_ANSWER_BYTES, Job, Operation, Plan, Role, encode_job
from shared.errors import ComputationFailed, TooLarge
from shared.logs import fields

log = logging.getLogger(__name__)


class Planner:
    def __init__(self, limit_s: float, places: int) -> None:
        """`limit_s`: how long one plan may take. `places`: how many tenants keep a planner, and how many plans are
        made beside each other."""
        self._limit_s = limit_s
        self._known = PlanCache()
        self._spare = Spare(Role.PLANNER, lambda _: None)
        self._tenancy = Tenancy(self._spare, places)
        # A planner makes one plan at a time, so one that takes all of its time holds up its own tenant's only.
        self._turns = Gates(1)
        # A planner that is busy makes no room. Whoever moves in has a place, so one of the others is idle then.
        self._places = asyncio.Semaphore(places)

    async def serve(self, server: ForkServer) -> None:
        """Keeps a planner warm until cancelled."""
        await self._spare.serve(server)

    async def plan(self, job: Job, tenant: Tenant) -> Plan:
        """What a run of the package on these inputs would give and cost. Raises TaskError."""
        data = encode_job(job)
        if (known := self._known.get(tenant, data)) is not None:
            return known
        # The turn first: who waits for it takes no place that another tenant could use.
        async with self._turns.of(tenant).alone():
            # Tasks of one graph come together: whoever waited finds the plan of the one before.
            plan = self._known.get(tenant, data)
            if plan is None:
                async with self._places:
                    plan = await self._made(tenant, data)
                self._known.keep(tenant, data, plan)
        return plan

    async def _made(self, tenant: Tenant, data: bytes) -> Plan:
        with (
            closing(SharedBuffer("job", len(data))) as asked,
            closing(SharedBuffer("plan", MAX_ANSWER_BYTES)) as room,
        ):
            asked.view[:] = data
            try:
                return await self._planned(tenant, asked, room)
            except WorkerGone as gone:
                log.warning("a planner ended", extra=fields(how=str(gone)))
                return await self._once_more(gone, tenant, asked, room)

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
            process = await self._tenancy.worker_for(tenant)
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
