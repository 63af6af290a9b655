"""One task's way: fetch, run, store. Each step's result is what the next one starts from."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

from compute.deadline import Deadline
from compute.input_loader import InputLoader, Loaded
from compute.inputs import Input, input_bytes, selected
from compute.outputs import OutputPlan, Parts, Tensor, plan_outputs
from compute.results import Results
from compute.safetensors_header import Header
from compute.settings import ComputeSettings
from compute.shared_memory import SharedBuffer, layout, tensor_views
from compute.storage.groups import one_error_group
from compute.storage.packages import Packages
from compute.storage.store import Storage
from compute.tensors import read_header
from compute.worker.pool import WorkerPool
from compute.worker.tenants import Tenant, tenant_of
from compute.worker.wire import Job, Plan
from shared.errors import ComputeUnitsExceeded, OutputCountMismatch, TooLarge
from shared.messages import TaskRequest
from shared.uris import ObjectUri, parse_tensor_uri

INLINE_BYTES = 1 << 20
"""So little is hashed faster than a thread takes over."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """All that a run needs, in memory."""

    job: Job
    loaded: Loaded
    tenant: Tenant
    """Whose worker computes it."""
    values_bytes: int
    """What its values take beside the buffers, as planned."""
    device_bytes: int
    """What all of it takes on a device with memory of its own, as planned; 0 on the host."""

    @property
    def outputs(self) -> SharedBuffer:
        (buffer,) = self.loaded.beside
        return buffer

    @property
    def planned_bytes(self) -> int:
        """Where it computes: on the device, or on the host."""
        on_host = sum(buffer.size for buffer in (*self.loaded.inputs, self.outputs)) + self.values_bytes
        return self.device_bytes or on_host


class Pipeline:
    """The steps. They raise TaskError; a cancelled one leaves nothing that moves behind."""

    def __init__(
        self, settings: ComputeSettings, storage: Storage, pool: WorkerPool, results: Results, loader: InputLoader
    ) -> None:
        self._settings = settings
        self._storage = storage
        self._pool = pool
        self._results = results
        self._loader = loader
        self._packages = Packages(
            storage,
            model_stores=settings.model_stores,
            allowed_prefixes=settings.allowed_prefixes,
            catalogue=settings.catalogue,
            max_bytes=settings.max_graph_bytes,
        )

    @asynccontextmanager
    async def fetched(self, request: TaskRequest, counted: Callable[[int], None]) -> AsyncIterator[Fetched]:
        """Package, headers, plan and checks, then memory and tensors. `counted` learns the computeUnits."""
        package, inputs = await self._package_and_headers(request)
        job = Job(package, tuple(given.specs for given in inputs))
        tenant = tenant_of(request.requester, self._settings.trust_groups)
        plan = await self._pool.plan(job, tenant)
        counted(plan.compute_units)
        self._check(request, plan)
        job = Job(job.package, job.inputs, plan.outputs)
        # What the plan holds at once has the inputs in it, which the worker computes from where they lie.
        held = sum(given.buffer_bytes for given in inputs)
        values = max(plan.peak_bytes - held, 0) if self._pool.on_host else 0
        sizes = [layout(plan.outputs)[1]]
        # An output that is a view of something else is copied before it leaves the device.
        on_device = 0 if self._pool.on_host else plan.peak_bytes + sizes[0]
        self._pool.check_room(on_device)
        async with self._loader.loaded(inputs, sizes, values, tenant) as loaded:
            yield Fetched(job, loaded, tenant, values, on_device)

    @asynccontextmanager
    async def computed(
        self, request: TaskRequest, counted: Callable[[int], None], started: Callable[[], None]
    ) -> AsyncIterator[list[Tensor]]:
        """The outputs. What they were computed from is given back before the block begins: storing may take long."""
        with ExitStack() as stack:
            async with self.fetched(request, counted) as fetched:
                await self.run(fetched, started)
                fetched.loaded.keep(fetched.outputs)
                stack.callback(self._loader.memory.give_back, fetched.outputs)
            specs = fetched.job.outputs
            yield list(zip(specs, tensor_views(fetched.outputs.view, specs), strict=True))

    async def run(self, fetched: Fetched, started: Callable[[], None]) -> None:
        """Fill the outputs' buffer."""
        with self._loader.memory.margin.measured(lambda: self._pool.pid, fetched.planned_bytes):
            await self._pool.run(
                fetched.job,
                fetched.loaded.inputs,
                fetched.outputs,
                started,
                fetched.tenant,
                fetched.device_bytes,
                fetched.loaded.weights,
            )

    async def store(
        self, request: TaskRequest, run: str, outputs: Sequence[Tensor], deadline: Deadline
    ) -> tuple[str, ...]:
        """The URIs of the outputs, each stored whole. What this run creates is written down before."""
        plan = await self._planned(request, outputs)
        uris = [uri for uri, _ in plan.objects]
        known = await self._results.begin_objects(request.key, run, uris)
        # Those that this run did not create, as far as it went, are not its own to delete.
        untouched = set(uris) - known

        async def put(uri: ObjectUri, parts: Parts) -> None:
            deadline.check_margin()
            untouched.discard(uri)
            created = await self._storage.put_new(uri, parts, self._results.uploads_of(request.key))
            if not created and uri not in known:
                untouched.add(uri)

        try:
            async with one_error_group() as group:
                for uri, parts in plan.objects:
                    group.create_task(put(uri, parts))
        finally:
            if untouched:
                await self._results.not_created(request.key, run, sorted(untouched, key=str))
        return plan.uris

    async def _package_and_headers(self, request: TaskRequest) -> tuple[bytes, tuple[Input, ...]]:
        settings = self._settings
        uris = [parse_tensor_uri(text) for text in request.input_uris]
        async with one_error_group() as group:
            package = group.create_task(self._packages.find(request.model_id, request.requester))
            headers = {uri: group.create_task(self._header(uri)) for uri in {uri.object for uri in uris}}
        inputs = tuple(selected(uri, headers[uri.object].result()) for uri in uris)
        size = input_bytes(inputs)
        if size > settings.max_input_bytes:
            raise TooLarge(
                f"the inputs have {size} bytes, where an object named by its hash counts whole; "
                f"this node takes at most {settings.max_input_bytes}"
            )
        return package.result(), inputs

    async def _header(self, uri: ObjectUri) -> Header:
        return await read_header(
            self._storage,
            uri,
            max_header_bytes=self._settings.max_header_bytes,
            max_tensors=self._settings.max_object_tensors,
        )

    def _check(self, request: TaskRequest, plan: Plan) -> None:
        counted, cap = plan.compute_units, self._settings.max_compute_units
        if counted > cap:
            raise ComputeUnitsExceeded(f"the task costs {counted} computeUnits; this node takes at most {cap}")
        if request.compute_units is not None and request.compute_units < counted:
            raise ComputeUnitsExceeded(
                f"the task costs {counted} computeUnits, but only {request.compute_units} were declared"
            )
        if len(plan.outputs) != request.output_count:
            raise OutputCountMismatch(
                f"the graph gives {len(plan.outputs)} outputs, but {request.output_count} are expected"
            )
        size = sum(spec.nbytes for spec in plan.outputs)
        if size > self._settings.max_output_bytes:
            raise TooLarge(
                f"the outputs have {size} bytes; this node takes at most {self._settings.max_output_bytes}"
            )

    async def _planned(self, request: TaskRequest, outputs: Sequence[Tensor]) -> OutputPlan:
        arguments = (self._settings.output_prefix, request.requester, request.key, outputs)
        if sum(spec.nbytes for spec, _ in outputs) <= INLINE_BYTES:
            return plan_outputs(*arguments)
        return await asyncio.to_thread(plan_outputs, *arguments)
