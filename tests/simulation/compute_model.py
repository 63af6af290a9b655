"""Compute by its contract: tasks go through their stages in virtual time, and leave objects in a book.

What a model does stands in its id, `m-<outcome>-<run ms>-<store ms>`, so that a rerun does the same.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from shared.ids import Attempt, TaskKey, parse_execution_id, parse_task_id
from shared.messages import Stage, TaskRequest, TaskResult, TaskStatus, TaskSummary

FETCH_S: Final = 0.05
MAX_UNFINISHED: Final = 6
_ENDED: Final = (Stage.DONE, Stage.FAILED)


@dataclass(eq=False)
class Entry:
    """One pair that compute knows."""

    request: TaskRequest
    attempt: Attempt
    run_number: int
    stage: Stage = Stage.QUEUED
    reason: str | None = None
    result: TaskResult | None = None
    run: "asyncio.Task[None] | None" = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_unfinished(self) -> bool:
        return self.stage not in _ENDED

    def enter(self, stage: Stage) -> None:
        self.stage = stage
        self.wake()

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def status(self) -> TaskStatus:
        return TaskStatus(**self._summary(), reason=self.reason, result=self.result)

    def summary(self) -> TaskSummary:
        return TaskSummary(**self._summary())

    def _summary(self) -> dict[str, Any]:
        key = self.request.key
        return {
            "execution_id": key.execution_id,
            "task_id": key.task_id,
            "attempt": self.attempt,
            "requester": self.request.requester,
            "stage": self.stage,
        }


def outputs_of(request: TaskRequest) -> list[str]:
    """The same model on the same inputs gives the same bytes."""
    stem = f"s3://bucket/out/{request.requester}/{request.execution_id}/{request.task_id}"
    seed = f"{request.model_id} {request.input_uris}"
    hashes = (hashlib.sha256(f"{at} {seed}".encode()).hexdigest() for at in range(request.output_count))
    return [f"{stem}/{one}.safetensors" for one in hashes]


@dataclass
class Created:
    """An object that a run wrote. It is kept once that run has ended with a result."""

    run: int
    requester: str
    is_kept: bool = False


class Compute:
    def __init__(self, trace: Callable[[str], None]) -> None:
        self._trace = trace
        self._entries: dict[TaskKey, Entry] = {}
        self.objects: set[str] = set()
        """The URIs of what lies in storage."""
        self._created: dict[TaskKey, dict[str, Created]] = {}
        """What compute has written down of it, and has not been told the end of."""
        self._runs = 0
        self.stored: set[tuple[str, ...]] = set()
        """The URIs of every result that was ever told."""

    @property
    def entries(self) -> list[Entry]:
        return list(self._entries.values())

    def restart(self) -> None:
        """Killed and started again: what was unfinished is unknown, and what it created is deleted."""
        for entry in self.entries:
            if entry.is_unfinished:
                self._stop(entry)

    # ---- HTTP ----

    async def serve(self, request: httpx.Request) -> httpx.Response:
        parts = request.url.path.strip("/").split("/")
        if parts == ["api", "task"]:
            if request.method == "POST":
                return self._post(TaskRequest.model_validate_json(request.content))
            rows = ",".join(entry.summary().to_wire() for entry in self.entries)
            return httpx.Response(200, content=f"[{rows}]".encode())
        if parts == ["ready"]:
            return httpx.Response(200, content=b'{"ready": true, "checks": {}}')
        key = TaskKey(parse_execution_id(parts[2]), parse_task_id(parts[3]))
        if request.method == "GET":
            return await self._get(key, request.url.params)
        return self._delete(key, request.url.params)

    def _post(self, request: TaskRequest) -> httpx.Response:
        if request.model_id.startswith("m-refused"):
            return _problem(422, "input-forbidden", reason="input-forbidden")
        known = self._entries.get(request.key)
        if known is not None:
            same = known.request.content() == request.content()
            if request.attempt == known.attempt:
                return _status(known) if same else self._conflict("content-differs", known)
            if request.attempt < known.attempt:
                return self._conflict("attempt-superseded", known)
            if same and known.stage is not Stage.FAILED:
                known.attempt = request.attempt
                known.wake()
                return _status(known)
        if sum(entry.is_unfinished for entry in self.entries if entry is not known) >= MAX_UNFINISHED:
            return httpx.Response(429, headers={"Retry-After": "1"}, content=b"{}")
        if known is not None:
            self._stop(known)
        self._runs += 1
        entry = Entry(request, request.attempt, self._runs)
        self._entries[request.key] = entry
        entry.run = asyncio.get_running_loop().create_task(self._run(entry), context=Context())
        return httpx.Response(202, content=b"{}")

    async def _get(self, key: TaskKey, params: httpx.QueryParams) -> httpx.Response:
        stage = params.get("stage")
        with suppress(TimeoutError):
            async with asyncio.timeout(min(float(params.get("wait", 0)), 60.0)):
                while (entry := self._entries.get(key)) and entry.is_unfinished and stage in (None, entry.stage):
                    await entry.changed.wait()
        entry = self._entries.get(key)
        return _problem(404, "unknown-task") if entry is None else _status(entry)

    def _delete(self, key: TaskKey, params: httpx.QueryParams) -> httpx.Response:
        attempt = Attempt(int(params["attempt"]))
        entry = known = self._entries.get(key)
        if known is not None and known.attempt != attempt:
            entry = None
        acknowledged = params.get("acknowledge")
        if entry is None and (acknowledged is None or (known and known.request.requester == params["requester"])):
            return httpx.Response(204)
        if entry is not None and entry.is_unfinished:
            if entry.stage is Stage.STORING and params.get("force") != "true":
                return self._conflict("storing", entry)
            self._stop(entry)
        elif entry is not None and acknowledged is None:
            return self._conflict("finished", entry)
        if acknowledged is not None:
            if entry is not None:
                self._entries.pop(key, None)
            self._acknowledge(key, params["requester"], is_paid=acknowledged == "paid")
        return httpx.Response(204)

    def _conflict(self, kind: str, entry: Entry) -> httpx.Response:
        result = json.loads(entry.result.to_wire()) if entry.result else None
        more = {} if result is None else {"result": result}
        return _problem(409, kind, attempt=entry.attempt, stage=entry.stage.value, **more)

    # ---- work ----

    async def _run(self, entry: Entry) -> None:
        request = entry.request
        _, outcome, run_ms, store_ms = request.model_id.split("-")
        loop = asyncio.get_running_loop()
        assert request.deadline is not None and request.chain_time is not None
        end = loop.time() + request.deadline - request.chain_time
        try:
            async with asyncio.timeout_at(max(loop.time(), end - request.landing_margin)) as limit:
                entry.enter(Stage.FETCHING)
                await asyncio.sleep(FETCH_S)
                entry.enter(Stage.RUNNING)
                await asyncio.sleep(int(run_ms) / 1000)
                if outcome == "failed":
                    self._end(entry, "ComputationFailed", [])
                    return
                limit.reschedule(end)
                entry.enter(Stage.STORING)
                uris = outputs_of(request)
                for uri in uris:
                    self._create(entry, uri)
                    await asyncio.sleep(int(store_ms) / 1000)
            self._end(entry, None, uris)
        except TimeoutError:
            self._delete_leftovers(request.key, request.requester)
            self._end(entry, "DeadlinePassed", [])

    def _end(self, entry: Entry, reason: str | None, uris: list[str]) -> None:
        entry.reason = reason
        entry.result = TaskResult(
            task_id=entry.request.task_id,
            execution_id=entry.request.execution_id,
            success=reason is None,
            output_uris=uris,
            execution_time=7,
            error_message=None if reason is None else f"it ended with {reason}",
        )
        if uris:
            self.stored.add(tuple(uris))
        for one in self._created.get(entry.request.key, {}).values():
            one.is_kept = one.is_kept or one.run == entry.run_number
        self._trace(f"compute: {entry.request.key} ends {reason}")
        entry.enter(Stage.DONE if reason is None else Stage.FAILED)

    def _create(self, entry: Entry, uri: str) -> None:
        """What is there already counts as stored, and is none of this run's to delete."""
        created = self._created.setdefault(entry.request.key, {})
        if uri not in self.objects:
            self.objects.add(uri)
            created[uri] = Created(entry.run_number, entry.request.requester)
        elif uri in created and not created[uri].is_kept:
            created[uri].run = entry.run_number

    def _acknowledge(self, key: TaskKey, requester: str, *, is_paid: bool) -> None:
        created = self._created.get(key, {})
        theirs = {uri: one for uri, one in created.items() if one.requester == requester}
        if is_paid:
            for uri in [uri for uri, one in theirs.items() if one.is_kept]:
                del created[uri]
            return
        for one in theirs.values():
            one.is_kept = False
        self._delete_leftovers(key, requester)

    def _delete_leftovers(self, key: TaskKey, requester: str) -> None:
        created = self._created.get(key, {})
        theirs = [uri for uri, one in created.items() if one.requester == requester]
        for uri in [uri for uri in theirs if not created[uri].is_kept]:
            del created[uri]
            self.objects.discard(uri)

    def _stop(self, entry: Entry) -> None:
        """It runs no more; of its own what no earlier run left is deleted. A result is only dropped."""
        if entry.is_unfinished:
            if entry.run is not None:
                entry.run.cancel()
            for one in self._created.get(entry.request.key, {}).values():
                one.is_kept = one.is_kept and one.run != entry.run_number
            self._delete_leftovers(entry.request.key, entry.request.requester)
        self._entries.pop(entry.request.key, None)
        entry.wake()


def _status(entry: Entry) -> httpx.Response:
    return httpx.Response(200, content=entry.status().to_wire().encode())


def _problem(status: int, kind: str, **members: object) -> httpx.Response:
    body = {"type": kind, "title": kind, "status": status, "detail": f"it is {kind}", **members}
    return httpx.Response(status, content=json.dumps(body).encode())
