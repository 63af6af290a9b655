"""The worker that is kept warm and replaced when it dies, and the tasks that share it."""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress

from compute.shared_memory import SharedBuffer
from compute.worker.gate import Gate
from compute.worker.launcher import WorkerOptions, launch
from compute.worker.process import Answer, NotTaken, WorkerFailed, WorkerGone, WorkerProcess
from compute.worker.wire import MAX_ANSWER_BYTES, Job, Operation, Plan, decode_plan, encode_job
from shared.backoff import Backoff
from shared.errors import TASK_REASONS, ComputationFailed, OutOfMemory, TaskError, TooLarge
from shared.logs import fields

log = logging.getLogger(__name__)

RESTART = Backoff(base_s=0.5, cap_s=30.0)
PLANS = 1
"""Plans at once: they are short, and Python's lock lets only one proceed anyway."""

_ERRORS: dict[str, type[TaskError]] = {
    error.__name__: error for error in TaskError.__subclasses__() if error.__name__ in TASK_REASONS
}


class WorkerPool:
    """Runs up to `max_running` tasks beside each other in one worker.

    When the worker ends by itself under one request alone, that request fails. Requests that lost their worker
    while others ran in it, or because it was killed for another's sake, are done once more, alone; then they fail
    too.
    """

    def __init__(self, options: WorkerOptions, *, plan_limit_s: float) -> None:
        self._options = options
        self._plan_limit_s = plan_limit_s
        self._gate = Gate(options.max_running + PLANS)
        self._runs = asyncio.Semaphore(options.max_running)
        self._plans = asyncio.Semaphore(PLANS)
        self._worker: WorkerProcess | None = None
        self._warm = asyncio.Event()
        self._rng = random.Random()  # noqa: S311 # spreads restarts, keeps no secret
        self.state = "starting"
        """For people: the device, or why there is no worker."""

    @property
    def pid(self) -> int | None:
        """Of the worker, while there is one that is ready."""
        return self._worker.pid if self._worker is not None else None

    @property
    def on_host(self) -> bool:
        """Whether tasks compute in this machine's own memory."""
        return self.state.startswith("cpu")

    async def serve(self) -> None:
        """Keeps a worker ready until cancelled; none is left behind."""
        tries = 0
        while True:
            try:
                worker, device = await launch(self._options)
            except WorkerFailed as exc:
                self.state = f"no worker: {exc}"
                log.error("the worker did not start", extra=fields(why=str(exc)))
                await asyncio.sleep(RESTART.delay_s(tries, self._rng))
                tries += 1
                continue
            tries = 0
            log.info("the worker is ready", extra=fields(pid=worker.pid, device=device))
            await self._use(worker, device)

    async def plan(self, job: Job) -> Plan:
        """What a run of the package on these inputs would give and cost. Raises TaskError."""
        data = encode_job(job)
        with _buffers("job", len(data), MAX_ANSWER_BYTES) as buffers:
            buffers[0].view[:] = data
            async with self._plans:
                await self._twice(Operation.PLAN, buffers)
            return decode_plan(bytes(buffers[1].view))

    async def run(
        self, job: Job, inputs: Sequence[SharedBuffer], outputs: SharedBuffer, started: Callable[[], None]
    ) -> None:
        """Compute `outputs` (laid out as `job.outputs`) from `inputs`. Calls `started` when a place is free.

        Raises TaskError. When cancelled, it returns within STOP_S and a little, and the buffers are left alone.
        """
        data = encode_job(job)
        with _buffers("job", len(data)) as (job_buffer,):
            job_buffer.view[:] = data
            async with self._runs:
                started()
                try:
                    await self._twice(Operation.RUN, [job_buffer, outputs, *inputs])
                except (ComputationFailed, OutOfMemory):
                    # The next task must not pay for what this one did to the device.
                    with suppress(WorkerGone, NotTaken, TaskError):
                        await self.probe()
                    raise

    async def probe(self) -> None:
        """A small computation on the device. Raises WorkerGone, NotTaken or TaskError.

        A worker whose device does not compute as it should is ended, so that a fresh one takes the device over.
        """
        worker = self._worker
        if worker is None:
            raise WorkerGone(self.state, culprit=False)
        answer = await worker.request(Operation.PROBE, [])
        if "error" in answer:
            log.error("the device is sick; its worker is replaced", extra=fields(why=answer["error"][1]))
            await worker.kill()
        _check(answer)

    async def _use(self, worker: WorkerProcess, device: str) -> None:
        self._worker, self.state = worker, device
        self._warm.set()
        try:
            how = await worker.gone()
        except BaseException:  # also when cancelled: no worker outlives the one who watches it
            await worker.kill()
            raise
        finally:
            self._worker = None
            self._warm.clear()
        self.state = f"starting anew: the last one ended {how}"
        log.warning("the worker ended", extra=fields(pid=worker.pid, how=how))

    async def _twice(self, operation: Operation, buffers: Sequence[SharedBuffer]) -> None:
        try:
            async with self._gate.beside():
                return await self._once(operation, buffers)
        except WorkerGone as gone:
            if gone.culprit:
                raise _death(operation, gone) from gone
        log.info("a task lost its worker and is done once more, alone", extra=fields(operation=operation))
        try:
            async with self._gate.alone():
                await self._once(operation, buffers)
        except WorkerGone as gone:
            raise _death(operation, gone) from gone

    async def _once(self, operation: Operation, buffers: Sequence[SharedBuffer]) -> None:
        while True:
            worker = await self._living()
            limit_s = self._plan_limit_s if operation is Operation.PLAN else None
            try:
                async with asyncio.timeout(limit_s):
                    return _check(await worker.request(operation, buffers))
            except NotTaken:  # it ended a moment ago; nothing was begun
                continue
            except TimeoutError as exc:
                raise TooLarge(f"planning this package took longer than {limit_s:g} s") from exc

    async def _living(self) -> WorkerProcess:
        while self._worker is None or not self._worker.alive:
            self._warm.clear()
            await self._warm.wait()
        return self._worker


def _death(operation: Operation, gone: WorkerGone) -> ComputationFailed:
    what = "planned" if operation is Operation.PLAN else "computed"
    return ComputationFailed(f"{gone} while it {what} this task and nothing else")


def _check(answer: Answer) -> None:
    """Raises the TaskError that the worker reports."""
    if "error" in answer:
        reason, message = answer["error"]
        raise _ERRORS.get(reason, ComputationFailed)(message)


@contextmanager
def _buffers(name: str, *sizes: int) -> Iterator[list[SharedBuffer]]:
    """Shared buffers of these sizes, closed at the end."""
    with ExitStack() as stack:
        yield [stack.enter_context(closing(SharedBuffer(name, size))) for size in sizes]
