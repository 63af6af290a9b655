"""Everything that can be asked of compute: take a task, tell of it, stop it, drop its result."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from secrets import token_hex
from weakref import WeakValueDictionary

from compute.admission import Admission, Refused, Verdict, conflict, content_of, judge
from compute.deadline import Deadline
from compute.disk import check_room
from compute.input_loader import InputLoader
from compute.leftovers import delete_leftovers
from compute.pipeline import Pipeline
from compute.results import Results
from compute.settings import ComputeSettings
from compute.storage.store import Storage
from compute.task_run import TaskRunner
from compute.task_table import Entry, TaskTable, entry_of
from compute.worker.pool import WorkerPool
from shared.clock import Clock
from shared.errors import StateUnavailable
from shared.ids import OPERATOR, Attempt, ExecutionId, Requester, TaskKey
from shared.logs import fields
from shared.messages import Stage, StageTime, TaskRequest

log = logging.getLogger(__name__)

CLEANING_S = 60.0
"""Between two looks for results whose day is over and objects that could not be deleted before."""
RETRY_S = 2.0
"""Between two looks at a disk that is full."""
CLEANING_UP_S = 5.0
"""So long may what was stopped with the process delete what it stored; the next start does the rest."""


class Service:
    """Use it inside `running()`. Methods raise Refused for what the protocol answers with a problem."""

    def __init__(
        self,
        settings: ComputeSettings,
        storage: Storage,
        pool: WorkerPool,
        results: Results,
        clock: Clock,
        loader: InputLoader,
    ) -> None:
        self.admission = Admission(settings)
        self._table = TaskTable()
        self._storage = storage
        self._results = results
        self._settings = settings
        self._clock = clock
        self._runner = TaskRunner(
            settings,
            storage,
            results,
            Pipeline(settings, storage, pool, results, loader),
            clock,
            self.admission,
            asyncio.Semaphore(settings.max_in_work),
        )
        # Each pair's commands one after the other; a lock is there as long as somebody holds or awaits it.
        self._pair_locks: WeakValueDictionary[TaskKey, asyncio.Lock] = WeakValueDictionary()
        self._group = asyncio.TaskGroup()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Results of earlier starts are known at once. At the end nothing runs any more."""
        for stored in await self._results.all_results():
            self._table.add(entry_of(stored))
        async with self._group:
            housekeeping = self._group.create_task(self._keep_house())
            try:
                yield
            finally:
                await self.stop(0.0)
                housekeeping.cancel()

    async def stop(self, grace_s: float) -> None:
        """Takes nothing new, drops what is queued, gives what is in work `grace_s` to end, then stops it.

        It returns within seconds of that, also where storage does not answer.
        """
        self.admission.stopping = True
        for entry in self._table.unfinished():
            if entry.stage is Stage.QUEUED:
                _cancel(entry)
        if works := _works(self._table.unfinished()):
            await asyncio.wait(works, timeout=grace_s)
        unfinished = self._table.unfinished()
        for entry in unfinished:
            _cancel(entry)
        if works := _works(unfinished):
            _, cleaning_up = await asyncio.wait(works, timeout=CLEANING_UP_S)
            for work in cleaning_up:
                work.cancel()
            if cleaning_up:
                await asyncio.wait(cleaning_up)

    # ---- tell ----

    def all_entries(self) -> list[Entry]:
        return list(self._table)

    def unfinished_count(self) -> int:
        return len(self._table.unfinished())

    def find(self, key: TaskKey) -> Entry | None:
        return self._table.get(key)

    async def wait(self, key: TaskKey, stage: Stage | None, timeout_s: float) -> Entry | None:
        """What is known of the pair once it has left `stage` (None: any but the last) or ended, or time is up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while (entry := self._table.get(key)) and entry.unfinished and stage in (None, entry.stage):
                    await entry.change()
        return self._table.get(key)

    # ---- take ----

    async def submit(self, request: TaskRequest) -> tuple[Entry, bool]:
        """The task and whether it is new."""
        self.admission.check_body(request)
        async with self._lock(request.key):
            known = self._table.get(request.key)
            match judge(known, request):
                case Verdict.KNOWN:
                    assert known is not None
                    return known, False
                case Verdict.RENUMBER:
                    assert known is not None
                    await self._renumber(known, request.attempt)
                    return known, False
                case Verdict.NEW | Verdict.REPLACE:
                    others = [entry for entry in self._table.unfinished() if entry is not known]
                    self.admission.check_room(len(others))
                    if known is not None:
                        await self._drop(known)
                        # Meanwhile others may have come, or the process may have begun to stop.
                        self.admission.check_room(self.unfinished_count())
                    return self._begin(request), True

    def _begin(self, request: TaskRequest) -> Entry:
        entry = Entry(
            key=request.key,
            attempt=request.attempt,
            requester=request.requester,
            content=content_of(request),
            run=token_hex(8),
            stage=Stage.QUEUED,
            stages=[StageTime(stage=Stage.QUEUED, at=self._clock.wall())],
        )
        self._table.add(entry)
        deadline = Deadline.of(request, self._clock)
        entry.work = self._group.create_task(self._runner.carry(entry, request, deadline))
        # Not at the end of `carry`: what is cancelled before its first step has no end of its own.
        entry.work.add_done_callback(lambda _: self._table.remove(entry) if entry.unfinished else None)
        return entry

    async def _renumber(self, entry: Entry, attempt: Attempt) -> None:
        entry.attempt = attempt
        if not entry.unfinished:
            await self._results.renumber(entry.key, entry.status())

    async def _drop(self, entry: Entry) -> None:
        if entry.unfinished:
            await _stopped(entry)
        if self._table.get(entry.key) is entry:  # it ended a moment before it could be stopped
            await self._results.drop_result(entry.key)
            self._table.remove(entry)

    # ---- stop ----

    async def cancel(self, key: TaskKey, attempt: Attempt | None, *, force: bool) -> Entry | None:
        """Stop it without output: the entry, which is unknown from now on. None: there was nothing to stop.

        Raises Refused while it is being stored (unless forced), and once it has ended.
        """
        async with self._lock(key):
            entry = self._known(key, attempt)
            if entry is not None:
                await self._cancel(entry, force=force)
            return entry

    async def cancel_execution(self, execution_id: ExecutionId, *, force: bool) -> list[Entry]:
        """The same for each unfinished task of it. Those that stay are among the entries, with their stage."""
        entries = self._table.unfinished(execution_id)
        async with asyncio.TaskGroup() as group:
            for entry in entries:
                group.create_task(self._cancel_if_allowed(entry, force=force))
        return entries

    async def _cancel_if_allowed(self, entry: Entry, *, force: bool) -> None:
        async with self._lock(entry.key):
            if self._table.get(entry.key) is entry:
                with suppress(Refused):
                    await self._cancel(entry, force=force)

    async def _cancel(self, entry: Entry, *, force: bool) -> None:
        if await self._stop_unfinished(entry, force=force):
            return
        result = entry.status().model_dump(mode="json", by_alias=True, exclude_none=True)["result"]
        detail = f"it is {entry.stage}; acknowledge its result to drop it"
        raise conflict("finished", detail, entry, result=result)

    async def _stop_unfinished(self, entry: Entry, *, force: bool) -> bool:
        """Whether it was stopped; False: it has ended. Raises Refused while it is being stored (unless forced)."""
        if entry.unfinished and (force or entry.stage is not Stage.STORING):
            await _stopped(entry)
        if self._table.get(entry.key) is not entry:
            return True
        if entry.unfinished:
            raise conflict("storing", "its outputs are being stored", entry)
        return False

    async def acknowledge(
        self,
        key: TaskKey,
        attempt: Attempt | None,
        *,
        paid: bool,
        requester: Requester | None = None,
        force: bool = False,
    ) -> Entry | None:
        """Drop a result and, unpaid, the objects that the pair's runs for this requester created.

        `requester`: whose attempt it was, told since the pair may be another's by now. None: that of the attempt, where
        it is known; else all of the pair is meant. What is unfinished is stopped first, as by `cancel`, and returned.
        """
        async with self._lock(key):
            entry = self._known(key, attempt)
            known = self._table.get(key)
            if known is not entry and known is not None and requester in (None, known.requester):
                return None  # another attempt of the same requester is known, and the objects are its own now
            stopped = entry is not None and await self._stop_unfinished(entry, force=force)
            whose = requester if entry is None else entry.requester
            await self._results.acknowledge(key, whose, paid=paid)
            if entry is not None:
                self._table.remove(entry)
            if not paid:
                await delete_leftovers(self._results, self._storage, key, whose)
            return entry if stopped else None

    def _known(self, key: TaskKey, attempt: Attempt | None) -> Entry | None:
        entry = self._table.get(key)
        if entry is None:
            return None
        if attempt is None and entry.requester != OPERATOR:
            raise Refused(422, "invalid-request", "a task from the chain needs ?attempt=N", field="attempt")
        return entry if attempt in (None, entry.attempt) else None

    # ---- keep house ----

    async def _keep_house(self) -> None:
        cleaned_at: float | None = None
        while True:
            try:
                await self._results.check()
                await asyncio.to_thread(self._check_room)
                self.admission.state_failure = None
                if cleaned_at is None or self._clock.monotonic() - cleaned_at >= CLEANING_S:
                    cleaned_at = self._clock.monotonic()
                    await self._clean_up()
            except StateUnavailable as exc:
                if self.admission.state_failure is None:
                    log.error("the state folder cannot be used", extra=fields(why=str(exc)))
                self.admission.state_failure = str(exc)
            is_well = self.admission.state_failure is None
            await self._clock.sleep(self._settings.probe_interval_s if is_well else RETRY_S)

    def _check_room(self) -> None:
        check_room("SPLITUP_STATE_DIR", self._settings.state_dir)
        if self._settings.output_prefix.scheme == "file":
            check_room("SPLITUP_OUTPUT_PREFIX", Path("/", self._settings.output_prefix.key))

    async def _clean_up(self) -> None:
        for key, attempt in await self._results.expire(self._clock.wall()):
            entry = self._table.get(key)
            if entry is not None and not entry.unfinished and entry.attempt == attempt:
                self._table.remove(entry)
        for key in {created.key for created in await self._results.to_delete()}:
            async with self._lock(key):
                entry = self._table.get(key)
                if entry is None or not entry.unfinished:
                    await delete_leftovers(self._results, self._storage, key)

    def _lock(self, key: TaskKey) -> asyncio.Lock:
        return self._pair_locks.setdefault(key, asyncio.Lock())


def _cancel(entry: Entry) -> None:
    """Once: a second cancellation would cut short how the first one cleans up."""
    if not entry.stopping and entry.work is not None:
        entry.stopping = True
        entry.work.cancel()


async def _stopped(entry: Entry) -> None:
    _cancel(entry)
    if entry.work is not None:
        await asyncio.wait({entry.work})


def _works(entries: list[Entry]) -> set[asyncio.Task[None]]:
    return {entry.work for entry in entries if entry.work is not None}
