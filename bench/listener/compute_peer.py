"""A compute process that a script plays: it takes every task, and ends it when it is told to."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from bench.listener.http_peer import Answer, Request, serving
from shared.ids import TaskKey

OUTPUT: Final = "file:///outputs/{requester}/{execution}/{task}/" + "0" * 64 + ".safetensors"
FORGOTTEN: Final = Answer(404, {"type": "TaskUnknown", "title": "unknown", "status": 404})


@dataclass
class Held:
    """One task at compute."""

    request: dict[str, Any]
    posted_at: float
    done: asyncio.Event = field(default_factory=asyncio.Event)
    told_at: float | None = None
    """When its result was first given to the listener."""
    acknowledged: asyncio.Event = field(default_factory=asyncio.Event)

    def status(self) -> dict[str, Any]:
        request = self.request
        pair = {"executionId": request["executionId"], "taskId": request["taskId"]}
        summary = {**pair, "attempt": request["attempt"], "requester": request["requester"], "stage": "running"}
        if not self.done.is_set():
            return summary
        uri = OUTPUT.format(
            requester=request["requester"], execution=request["executionId"], task=request["taskId"]
        )
        result = {**pair, "success": True, "outputUris": [uri], "executionTime": 12}
        return {**summary, "stage": "done", "result": result}


@dataclass
class ComputePeer:
    url: str = ""
    tasks: dict[TaskKey, Held] = field(default_factory=dict)
    on_post: Callable[[Held], None] = lambda held: held.done.set()
    """At each new task. It is done at once unless another says otherwise."""
    _posted: dict[TaskKey, asyncio.Event] = field(default_factory=dict)

    async def posted(self, key: TaskKey) -> Held:
        """Wait until the task was handed over."""
        await self._posted.setdefault(key, asyncio.Event()).wait()
        return self.tasks[key]

    async def answer(self, request: Request) -> Answer:
        url = urlsplit(request.path)
        if request.method == "POST":
            return self._take(json.loads(request.body), request.at)
        if url.path == "/api/task":
            return Answer(200, [])
        if url.path == "/ready":
            return Answer(200, {"ready": True, "checks": {}})
        execution_id, task_id = url.path.split("/")[-2:]
        held = self.tasks.get(TaskKey(execution_id, task_id))  # type: ignore[arg-type]
        options = {name: values[0] for name, values in parse_qs(url.query).items()}
        if held is None:
            return Answer(204) if request.method == "DELETE" else FORGOTTEN
        return self._forget(held, options) if request.method == "DELETE" else await self._tell(held, options)

    def _take(self, told: dict[str, Any], at: float) -> Answer:
        key = TaskKey(told["executionId"], told["taskId"])
        if key not in self.tasks:
            self.tasks[key] = Held(told, at)
            self._posted.setdefault(key, asyncio.Event()).set()
            self.on_post(self.tasks[key])
        return Answer(202, {"executionId": told["executionId"], "taskId": told["taskId"], "accepted": True})

    async def _tell(self, held: Held, options: dict[str, str]) -> Answer:
        if options.get("stage") == "running" and not held.done.is_set():
            try:
                async with asyncio.timeout(float(options["wait"])):
                    await held.done.wait()
            except TimeoutError:
                pass
        if held.done.is_set() and held.told_at is None:
            held.told_at = asyncio.get_running_loop().time()
        return Answer(200, held.status())

    def _forget(self, held: Held, options: dict[str, str]) -> Answer:
        if "acknowledge" not in options:
            return Answer(409, {"type": "TaskEnded", "title": "done", "status": 409, **held.status()})
        held.acknowledged.set()
        return Answer(204)


@asynccontextmanager
async def compute_peer() -> AsyncIterator[ComputePeer]:
    """Until the block ends."""
    peer = ComputePeer()
    async with serving(peer.answer) as peer.url:
        yield peer
