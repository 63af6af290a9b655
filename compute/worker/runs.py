"""Tasks that run beside each other in the workers of their tenants, and what becomes of those that lose theirs."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from compute.shared_memory import SharedBuffer
from compute.worker.device_room import DeviceRoom
from compute.worker.device_weights import Key
from compute.worker.gate import Gates
from compute.worker.health import Health
from compute.worker.process import NotTaken, WorkerGone, WorkerProcess
from compute.worker.tenancy import Tenancy
from compute.worker.tenants import Tenant
from compute.worker.wire import Operation
from shared.errors import ComputationFailed, OutOfMemory, TaskError
from shared.logs import fields

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Run:
    """What a worker is given for one task, and what that takes of a device."""

    tenant: Tenant
    job: SharedBuffer
    inputs: Sequence[SharedBuffer]
    outputs: SharedBuffer
    device_bytes: int
    weights: Collection[SharedBuffer]
    """Those of the inputs that may stay there."""

    def weights_in(self, worker: WorkerProcess) -> list[Key]:
        return [(worker, buffer) for buffer in self.inputs if buffer in self.weights]


class Runs:
    """Up to `max_running` tasks beside each other, those of one tenant in one worker.

    When the worker ends by itself under one request alone, that request fails. Requests that lost their worker
    while others ran in it, or because it was killed for another's sake, are done once more, alone among their
    tenant's; then they fail too.
    """

    def __init__(
        self, tenancy: Tenancy, health: Health, room: DeviceRoom, max_running: int, limit_s: float | None
    ) -> None:
        """`limit_s`: how long a worker may take for one task; None sets no limit."""
        self._tenancy = tenancy
        self._health = health
        self._room = room
        self._limit_s = limit_s
        self._gates = Gates(max_running)
        self._places = asyncio.Semaphore(max_running)

    async def run(self, run: Run, started: Callable[[], None]) -> None:
        """Fill the outputs. Calls `started` when there is a place, a worker, and room on its device. Raises TaskError.

        When cancelled, it returns within STOP_S and a little, and the buffers are left alone.
        """
        gate = self._gates.of(run.tenant)
        try:
            # The gate first: who waits at it takes no place that another tenant could use.
            async with gate.beside(), self._places:
                return await self._once(run, started)
        except WorkerGone as gone:
            log.warning("a worker ended", extra=fields(how=str(gone)))
            if gone.culprit:
                raise _death(gone) from gone
        log.info("a task lost its worker and is done once more, alone")
        try:
            async with gate.alone(), self._places:
                await self._once(run, lambda: None)
        except WorkerGone as gone:
            log.warning("a worker ended", extra=fields(how=str(gone)))
            raise _death(gone) from gone

    async def _once(self, run: Run, started: Callable[[], None]) -> None:
        """In the tenant's own worker, once there is room on its device; what stays there is that worker's."""
        has_started = False
        while True:
            worker = await self._tenancy.worker_for(run.tenant)
            # Else it would be ended for another tenant's sake while this task waits for room.
            with worker.reserved():
                try:
                    async with self._room.promised(run.device_bytes, run.weights_in(worker)) as numbers:
                        if not worker.alive:
                            continue
                        if not has_started:
                            has_started = True
                            started()
                        return await self._looked_at(worker, run, numbers)
                except NotTaken:  # it ended a moment ago; nothing was begun
                    continue
                except OutOfMemory:
                    # There was less room than was counted.
                    self._room.drop_idle(worker)
                    raise

    async def _looked_at(self, worker: WorkerProcess, run: Run, numbers: Mapping[SharedBuffer, int]) -> None:
        try:
            await self._in(worker, run, [numbers.get(buffer) for buffer in run.inputs])
        except (ComputationFailed, OutOfMemory, WorkerGone):
            # The next task must not pay for what this one did to the device.
            with suppress(WorkerGone, NotTaken, TaskError):
                await self._health.check_device()
            raise

    async def _in(self, worker: WorkerProcess, run: Run, keep: Sequence[int | None]) -> None:
        try:
            async with asyncio.timeout(self._limit_s):
                answer = await worker.request(Operation.RUN, [run.job, *run.inputs], run.outputs, keep)
        except TimeoutError as exc:
            raise ComputationFailed(f"the task computed for longer than {self._limit_s:g} s") from exc
        finally:
            if not worker.alive:
                self._room.doubt()
        if isinstance(answer.error, ComputationFailed | OutOfMemory):
            # The next task of this tenant must not pay for what this one did to its worker.
            await self._health.check_worker(worker)
        if answer.error is not None:
            raise answer.error


def _death(gone: WorkerGone) -> ComputationFailed:
    return ComputationFailed(f"{gone} while it computed this task and nothing else")
