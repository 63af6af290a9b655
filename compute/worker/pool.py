"""Planner and workers that are kept warm and replaced when they die, and the tasks that share them."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress

from compute.shared_memory import SharedBuffer
from compute.worker.answers import Greeting
from compute.worker.device_room import DeviceRoom
from compute.worker.forks import ForkServer
from compute.worker.gate import Gates
from compute.worker.health import Health
from compute.worker.launcher import launch
from compute.worker.lock.sandbox import Sandbox
from compute.worker.options import WorkerOptions
from compute.worker.planner import Planner
from compute.worker.process import NotTaken, WorkerFailed, WorkerGone, WorkerProcess
from compute.worker.spare import RESTART, Spare
from compute.worker.tenancy import Tenancy
from compute.worker.tenants import Tenant
from compute.worker.wire import Job, Operation, Plan, Role, encode_job
from shared.errors import ComputationFailed, OutOfMemory, TaskError
from shared.logs import fields

log = logging.getLogger(__name__)


class WorkerPool:
    """Runs up to `max_running` tasks beside each other, those of one tenant in one worker.

    When the worker ends by itself under one request alone, that request fails. Requests that lost their worker
    while others ran in it, or because it was killed for another's sake, are done once more, alone among their
    tenant's; then they fail too.
    """

    def __init__(self, options: WorkerOptions, *, plan_limit_s: float, run_limit_s: float | None = None) -> None:
        """`run_limit_s`: how long a worker may take for one task; None sets no limit."""
        self._options = options
        self._run_limit_s = run_limit_s
        self._gates = Gates(options.max_running)
        self._runs = asyncio.Semaphore(options.max_running)
        self._spare = Spare(Role.WORKER, self._told)
        self._tenancy = Tenancy(self._spare, options.max_running)
        self._health = Health(self._spare, self._tenancy)
        self._room = DeviceRoom(lambda: self._health.free_bytes(), options.max_running)
        self._planner = Planner(plan_limit_s)
        self._greeted = asyncio.Event()
        self._rng = random.Random()  # noqa: S311 # spreads restarts, keeps no secret
        self.state = "starting"
        """For people: the device, or why there is no worker."""
        self.on_host = True
        """Whether tasks compute in this machine's own memory, as the last worker that was ready said."""
        self.sandbox: Sandbox | None = None
        """What holds the workers; None until one was ready."""

    @property
    def pid(self) -> int | None:
        """Of the worker that was used last, or of the one that waits; None while there is none that is ready."""
        return self._tenancy.pid or self._spare.pid

    async def serve(self) -> None:
        """Keeps processes ready until cancelled; none is left behind."""
        tries = 0
        while True:
            try:
                server = await launch(self._options)
            except WorkerFailed as exc:
                self._told(f"no worker: {exc}")
                log.error("the fork server did not start", extra=fields(why=str(exc)))
                await asyncio.sleep(RESTART.delay_s(tries, self._rng))
                tries += 1
                continue
            tries = 0
            await self._use(server)

    async def plan(self, job: Job, tenant: Tenant) -> Plan:
        """What a run of the package on these inputs would give and cost. Raises TaskError."""
        # What follows a plan depends on what there is to compute on.
        await self._greeted.wait()
        return await self._planner.plan(job, tenant)

    def check_room(self, device_bytes: int) -> None:
        """Raises OutOfMemory for a run that never fits on the device."""
        self._room.check(device_bytes)

    async def run(
        self,
        job: Job,
        inputs: Sequence[SharedBuffer],
        outputs: SharedBuffer,
        started: Callable[[], None],
        tenant: Tenant,
        device_bytes: int = 0,
    ) -> None:
        """Compute `outputs` (laid out as `job.outputs`) from `inputs`. Calls `started` when there is a place, and
        room for `device_bytes` on the device.

        Raises TaskError. When cancelled, it returns within STOP_S and a little, and the buffers are left alone.
        """
        data = encode_job(job)
        with closing(SharedBuffer("job", len(data))) as job_buffer:
            job_buffer.view[:] = data
            await self._twice(tenant, [job_buffer, *inputs], outputs, started, device_bytes)

    async def probe(self) -> None:
        """A small computation on the device. Raises WorkerGone, NotTaken or TaskError; see Health.check_device."""
        await self._health.check_device()

    def _told(self, told: Greeting | str) -> None:
        if isinstance(told, Greeting):
            self._room.measured(told.free_bytes)
            if told.sandbox != self.sandbox:
                if told.sandbox.core_gaps:
                    log.error("THE WORKER IS NOT LOCKED", extra=fields(sandbox=str(told.sandbox)))
                else:
                    log.info("the worker is locked", extra=fields(sandbox=str(told.sandbox)))
            self.state, self.on_host, self.sandbox = told.device, told.on_host, told.sandbox
            self._greeted.set()
        else:
            self.state = told

    async def _use(self, server: ForkServer) -> None:
        keepers = (self._spare.serve(server), self._planner.serve(server))
        try:
            async with asyncio.TaskGroup() as group:
                serving = [group.create_task(keeper) for keeper in keepers]
                how = await server.gone()
                for keeper in serving:
                    keeper.cancel()
        finally:  # also when cancelled: no worker outlives the one who watches it
            await server.kill()
        self.state = f"starting anew: the fork server ended {how}"
        log.warning("the fork server ended", extra=fields(pid=server.pid, how=how))

    async def _twice(
        self,
        tenant: Tenant,
        given: Sequence[SharedBuffer],
        filled: SharedBuffer,
        started: Callable[[], None],
        device_bytes: int,
    ) -> None:
        gate = self._gates.of(tenant)
        try:
            # The gate first: who waits at it takes no place that another tenant could use.
            async with gate.beside(), self._place(device_bytes):
                started()
                return await self._once(tenant, given, filled)
        except WorkerGone as gone:
            log.warning("a worker ended", extra=fields(how=str(gone)))
            if gone.culprit:
                raise _death(gone) from gone
        log.info("a task lost its worker and is done once more, alone")
        try:
            async with gate.alone(), self._place(device_bytes):
                await self._once(tenant, given, filled)
        except WorkerGone as gone:
            log.warning("a worker ended", extra=fields(how=str(gone)))
            raise _death(gone) from gone

    @asynccontextmanager
    async def _place(self, device_bytes: int) -> AsyncIterator[None]:
        """Among those that run at once; after a failure it is kept until the device was looked at."""
        async with self._runs, self._room.promised(device_bytes):
            try:
                yield
            except (ComputationFailed, OutOfMemory, WorkerGone):
                # The next task must not pay for what this one did to the device.
                with suppress(WorkerGone, NotTaken, TaskError):
                    await self.probe()
                raise

    async def _once(self, tenant: Tenant, given: Sequence[SharedBuffer], filled: SharedBuffer) -> None:
        while True:
            worker = await self._tenancy.worker_for(tenant)
            try:
                return await self._in(worker, given, filled)
            except NotTaken:  # it ended a moment ago; nothing was begun
                continue
            finally:
                if not worker.alive:
                    self._room.doubt()

    async def _in(self, worker: WorkerProcess, given: Sequence[SharedBuffer], filled: SharedBuffer) -> None:
        try:
            async with asyncio.timeout(self._run_limit_s):
                answer = await worker.request(Operation.RUN, given, filled)
        except TimeoutError as exc:
            raise ComputationFailed(f"the task computed for longer than {self._run_limit_s:g} s") from exc
        if isinstance(answer.error, ComputationFailed | OutOfMemory):
            # The next task of this tenant must not pay for what this one did to its worker.
            await self._health.check_worker(worker)
        if answer.error is not None:
            raise answer.error


def _death(gone: WorkerGone) -> ComputationFailed:
    return ComputationFailed(f"{gone} while it computed this task and nothing else")
