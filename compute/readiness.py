"""GET /ready: what this process depends on, tried in the background so that the answer is always at hand."""

import asyncio
from collections.abc import Awaitable, Callable

from compute.machine import Machine
from compute.memory import MEMORY_FLOOR_BYTES, HostMemory
from compute.service import Service
from compute.settings import ComputeSettings
from compute.storage.store import Storage
from compute.weights.preload import Preload
from compute.worker.pool import WorkerPool
from compute.worker.process import NotTaken, WorkerGone
from shared.clock import Clock
from shared.errors import TaskError
from shared.messages import Check, Readiness

PROBE_LIMIT_S = 5.0
RETRY_S = 0.5
MISSED_PROBES = 3
"""A device probe older than so many intervals counts as failed."""


class ReadinessProbes:
    """Run `serve` beside the service; `report` tells what it saw last, and the rest at once."""

    def __init__(
        self,
        settings: ComputeSettings,
        storage: Storage,
        pool: WorkerPool,
        service: Service,
        memory: HostMemory,
        preload: Preload,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._storage = storage
        self._pool = pool
        self._service = service
        self._host_memory = memory
        self._preload = preload
        self._machine = Machine()
        self._clock = clock
        self._probed_at: float | None = None
        self._probe_failure: str | None = None
        self._storage_round_trip_s: float | None = None
        self._storage_failure: str | None = "not tried yet"
        self._since: dict[str, tuple[bool, float]] = {}

    async def serve(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repeat(self._probe_device))
            group.create_task(self._repeat(self._probe_storage))

    async def _repeat(self, probe: Callable[[], Awaitable[bool]]) -> None:
        """After a failure the next try comes soon: whoever waits for readiness waits for it."""
        while True:
            well = await probe()
            await self._clock.sleep(self._settings.probe_interval_s if well else RETRY_S)

    def report(self) -> Readiness:
        checks = {
            "worker": self._worker(),
            "device": self._device(),
            "storage": self._storage_check(),
            "queue": self._queue(),
            "memory": self._memory(),
            "weights": self._weights(),
            "state": self._state(),
            "sandbox": self._sandbox(),
        }
        told = {name: self._check(name, *check) for name, check in checks.items()}
        return Readiness(ready=all(check.ok for check in told.values()), checks=told)

    def _check(self, name: str, ok: bool, value: str, what_to_do: str | None) -> Check:
        before = self._since.get(name)
        if before is None or before[0] != ok:
            self._since[name] = (ok, self._clock.wall())
        return Check(ok=ok, value=value, since=self._since[name][1], what_to_do=what_to_do)

    async def _probe_device(self) -> bool:
        # A busy device answers late: the age of the last answer tells of a sick one.
        try:
            await self._pool.probe()
        except (WorkerGone, NotTaken, TaskError) as exc:
            self._probe_failure = str(exc)
            return False
        self._probe_failure = None
        self._probed_at = self._clock.monotonic()
        return True

    async def _probe_storage(self) -> bool:
        begun = self._clock.monotonic()
        try:
            async with asyncio.timeout(PROBE_LIMIT_S):
                await self._storage.probe()
        except TimeoutError:
            self._storage_failure = f"no answer within {PROBE_LIMIT_S:g} s"
        except TaskError as exc:
            self._storage_failure = str(exc)
        else:
            self._storage_failure = None
            self._storage_round_trip_s = self._clock.monotonic() - begun
        return self._storage_failure is None

    def _worker(self) -> tuple[bool, str, str | None]:
        ok = self._pool.pid is not None
        return ok, self._pool.state, None if ok else "wait for it, or see the log for why it does not start"

    def _sandbox(self) -> tuple[bool, str, str | None]:
        # Well even with gaps: where there are any in its core, SPLITUP_SANDBOX says that the node runs all the same.
        sandbox = self._pool.sandbox
        if sandbox is None:
            return False, "no worker was ready yet", "wait for it, or see the log for why it does not start"
        advice = "a stranger's graph is not held: see docs/security.md" if sandbox.core_gaps else None
        return True, str(sandbox), advice

    def _device(self) -> tuple[bool, str, str | None]:
        advice = "see the log; check the driver and SPLITUP_DEVICE"
        if self._probed_at is None:
            return False, self._probe_failure or "not tried yet", advice
        age_s = self._clock.monotonic() - self._probed_at
        # A device that is busy may miss a probe; one that stays silent is sick.
        ok = age_s < MISSED_PROBES * self._settings.probe_interval_s + PROBE_LIMIT_S
        value = f"last probe {age_s:.0f} s ago" + (
            f", since then: {self._probe_failure}" if self._probe_failure else ""
        )
        return ok, value, None if ok else advice

    def _storage_check(self) -> tuple[bool, str, str | None]:
        if self._storage_failure is not None:
            return False, self._storage_failure, "check the endpoint, credentials and prefixes of the settings"
        return True, f"round trip {(self._storage_round_trip_s or 0.0) * 1000:.1f} ms", None

    def _queue(self) -> tuple[bool, str, str | None]:
        unfinished = self._service.unfinished_count()
        value = f"{unfinished} of {self._settings.max_tasks} tasks unfinished"
        if self._service.admission.stopping:
            return False, "stopping", "nothing, or start it again"
        return unfinished < self._settings.max_tasks, value, None

    def _memory(self) -> tuple[bool, str, str | None]:
        memory = self._host_memory
        kept = memory.pool.idle_bytes
        available = self._machine().available
        ok = available >= MEMORY_FLOOR_BYTES
        value = (
            f"{available >> 20} MiB available, {memory.promised_bytes >> 20} MiB promised to tasks, "
            f"room for {memory.room_bytes() + kept >> 20} MiB more, "
            f"with {kept >> 20} MiB that stay with their requester"
        )
        return ok, value, None if ok else "lower SPLITUP_MAX_IN_WORK, or add memory"

    def _weights(self) -> tuple[bool, str, str | None]:
        preload = self._preload
        if preload.waiting:
            return False, f"{len(preload.waiting)} are still being preloaded", "wait, or see the log"
        # Well even where some are missing: their tasks are done all the same, only later.
        advice = f"not preloaded: {'; '.join(preload.failures)}" if preload.failures else None
        on_device = self._pool.device_weights
        value = f"{preload.weights}; on the device {on_device}" if on_device else str(preload.weights)
        return True, value, advice

    def _state(self) -> tuple[bool, str, str | None]:
        failure = self._service.admission.state_failure
        return failure is None, failure or "writable", None if failure is None else "make room on its disk"
