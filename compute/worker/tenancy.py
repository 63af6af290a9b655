"""Which process of a role serves whom: a worker, and a planner too, has one tenant for all of its life."""

import asyncio
import logging
from collections import OrderedDict

from compute.worker.process import WorkerProcess
from compute.worker.spare import Spare
from compute.worker.tenants import Tenant
from shared.logs import fields

log = logging.getLogger(__name__)


class Tenancy:
    """At most `places` in use, at least as many as are ever busy; another tenant's task ends the oldest idle one."""

    def __init__(self, spare: Spare, places: int) -> None:
        self._spare = spare
        self._places = places
        self._workers: OrderedDict[Tenant, WorkerProcess] = OrderedDict()
        self._moving_in = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """Of the worker that was asked for last and lives."""
        living = [worker for worker in self._workers.values() if worker.alive]
        return living[-1].pid if living else None

    async def worker_for(self, tenant: Tenant) -> WorkerProcess:
        """Its own, or the warm spare, which is its own from now on."""
        if (worker := self._living(tenant)) is not None:
            return worker
        async with self._moving_in:
            if (worker := self._living(tenant)) is None:
                worker = await self._spare.take()
                self._workers[tenant] = worker
                await self._make_room()
        return worker

    async def end_idle(self) -> None:
        """Those that run something stay."""
        for worker in list(self._workers.values()):
            if worker.idle:
                await worker.kill()

    async def end_all(self) -> None:
        for worker in list(self._workers.values()):
            await worker.kill()
        await self._spare.drop()

    def _living(self, tenant: Tenant) -> WorkerProcess | None:
        worker = self._workers.get(tenant)
        if worker is None:
            return None
        if not worker.alive:
            del self._workers[tenant]
            return None
        self._workers.move_to_end(tenant)
        return worker

    async def _make_room(self) -> None:
        for tenant in [tenant for tenant, worker in self._workers.items() if not worker.alive]:
            del self._workers[tenant]
        for tenant, worker in list(self._workers.items())[:-1]:
            if len(self._workers) <= self._places:
                return
            if worker.idle and self._workers.get(tenant) is worker:
                del self._workers[tenant]
                await worker.kill()
                log.info(
                    "a worker made room for another requester's",
                    extra=fields(role=self._spare.role, pid=worker.pid),
                )
