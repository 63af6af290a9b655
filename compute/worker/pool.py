"""Planner and workers, kept warm and replaced when they die, and what they are asked for."""

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Sequence
from contextlib import closing

from compute.shared_memory import SharedBuffer
from compute.worker.answers import Greeting
from compute.worker.device_room import DeviceRoom
from compute.worker.forks import ForkServer
from compute.worker.health import Health
from compute.worker.launcher import launch
from compute.worker.lock.sandbox import Sandbox
from compute.worker.options import WorkerOptions
from compute.worker.planner import Planner
from compute.worker.process import WorkerFailed
from compute.worker.runs import Run, Runs
from compute.worker.spare import RESTART, Spare
from compute.worker.tenancy import Tenancy
from compute.worker.tenants import Tenant
from compute.worker.wire import Job, Plan, Role, encode_job
from shared.logs import fields

log = logging.getLogger(__name__)


class WorkerPool:
    """Plans and runs up to `max_running` tasks beside each other, of one tenant one plan at a time (`planner.py`,
    `runs.py`)."""

    def __init__(
        self,
        options: WorkerOptions,
        *,
        plan_limit_s: float,
        run_limit_s: float | None = None,
        device_weights_bytes: int | None = None,
    ) -> None:
        """`run_limit_s`: how long a worker may take for one task; None sets no limit. `device_weights_bytes`: see
        DeviceRoom."""
        self._options = options
        self._spare = Spare(Role.WORKER, self._told)
        self._tenancy = Tenancy(self._spare, options.max_running)
        self._health = Health(self._spare, self._tenancy)
        self._room = DeviceRoom(self._health.free_bytes, options.max_running, device_weights_bytes)
        self._runs = Runs(self._tenancy, self._health, self._room, options.max_running, run_limit_s)
        # As many as workers: whose worker has made room waits for a fresh one in any case.
        self._planner = Planner(plan_limit_s, options.max_running)
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

    @property
    def device_weights(self) -> str:
        """For people: what stays on a device between tasks; empty on the host."""
        return self._room.weights

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
        weights: Collection[SharedBuffer] = (),
    ) -> None:
        """Compute `outputs` (laid out as `job.outputs`) from `inputs`. Calls `started` when there is a place, a worker,
        and room for `device_bytes` on the device. Those of the inputs that are `weights` may stay there.

        Raises TaskError. When cancelled, it returns within STOP_S and a little, and the buffers are left alone.
        """
        data = encode_job(job)
        with closing(SharedBuffer("job", len(data))) as job_buffer:
            job_buffer.view[:] = data
            await self._runs.run(Run(tenant, job_buffer, inputs, outputs, device_bytes, weights), started)

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
