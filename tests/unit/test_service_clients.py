"""Clients that go away, ask twice at once and stop tasks at every stage, by real connections: nothing is left."""

import asyncio
import gc
import json
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from uvicorn.server import ServerState

from compute.app import create_app
from compute.readiness import ReadinessProbes
from shared.clock import SystemClock
from shared.messages import Stage, TaskRequest
from shared.serving import listen, server
from tests.unit.service_world import Held, World, until, world
from tests.unit.test_service_api import TOKEN, body, path

HEADERS = {"Authorization": f"Bearer {TOKEN}"}
UNFINISHED = [Stage.QUEUED, Stage.FETCHING, Stage.RUNNING, Stage.STORING]


class Served:
    """A world behind a real server, and what a client may leave there."""

    def __init__(self, w: World, port: int, state: ServerState) -> None:
        self.w = w
        self.port = port
        self._state = state
        self._before: tuple[object, ...] = ()

    @property
    def calls(self) -> int:
        """Those that are being answered."""
        return len(self._state.tasks)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", headers=HEADERS, timeout=30)

    @asynccontextmanager
    async def said(self, method: str, where: str, data: bytes = b"", length: int | None = None, **headers: str):
        """A connection on which this was sent, of which nothing was read, and which then is cut."""
        names = {
            "Host": "node",
            "Content-Length": str(len(data) if length is None else length),
            **HEADERS,
            **headers,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in names.items())
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(f"{method} {where} HTTP/1.1\r\n{head}\r\n".encode() + data)
            await writer.drain()
            yield
        finally:
            writer.transport.abort()

    def look(self) -> tuple[object, ...]:
        """Connections, calls, tasks of the loop, open files, promised memory, entries, stored objects."""
        gc.collect()
        return (
            len(self._state.connections),
            self.calls,
            len(asyncio.all_tasks()),
            len(list(Path("/proc/self/fd").iterdir())),
            self.w.memory.promised_bytes,
            [entry.key for entry in self.w.service.all_entries()],
            self.w.output_files(),
        )

    async def begin(self) -> None:
        await until(lambda: not self._state.connections and not self.calls)
        self._before = self.look()

    async def nothing_is_left(self) -> None:
        try:
            await until(lambda: self.look() == self._before)
        except TimeoutError:
            assert self.look() == self._before, "what is there now is not what was there before"
        assert await self.w.results.all_results() == []
        assert await self.w.results.to_delete() == []


@asynccontextmanager
async def served(folder: Path, **settings: object):
    async with world(folder, **settings) as w, asyncio.TaskGroup() as group:
        readiness = ReadinessProbes(w.settings, w.storage, w.pool, w.service, w.memory, w.preload, SystemClock())
        serving = server(create_app(w.service, readiness, TOKEN))
        listening = listen("127.0.0.1", 0, "SPLITUP_COMPUTE_PORT")
        group.create_task(serving.serve(sockets=[listening]))
        made = Served(w, listening.getsockname()[1], serving.server_state)
        # One whole way first: what is made once, such as threads, is then there.
        async with made.client() as client:
            await acknowledged(client, await posted(client, w))
        await made.begin()
        try:
            yield made
        finally:
            serving.should_exit = True
            for held in (w.pool.runs, w.storage.reads, w.storage.puts):
                held.open.set()


async def posted(client: httpx.AsyncClient, w: World) -> TaskRequest:
    request = w.request()
    (await client.post("/api/task", json=body(request))).raise_for_status()
    return request


async def acknowledged(client: httpx.AsyncClient, request: TaskRequest) -> None:
    status = (await client.get(path(request), params={"wait": 20})).json()
    assert status["stage"] == "done", status
    answer = await client.delete(path(request), params={"attempt": 10, "acknowledge": "unpaid"})
    assert answer.status_code == 204


def held_at(w: World, stage: Stage) -> Held:
    """Where a task waits in this stage."""
    return {
        Stage.QUEUED: w.storage.reads,
        Stage.FETCHING: w.storage.reads,
        Stage.RUNNING: w.pool.runs,
        Stage.STORING: w.storage.puts,
    }[stage]


@asynccontextmanager
async def task_at(s: Served, client: httpx.AsyncClient, stage: Stage):
    """A task that stays in this stage; of two that may not be in work together the second one stays queued."""
    held_at(s.w, stage).close()
    first = await posted(client, s.w)
    request = await posted(client, s.w) if stage is Stage.QUEUED else first
    await s.w.reach(request.key, stage)
    yield request
    if first is not request:
        await client.delete(path(first), params={"attempt": 10})


async def test_a_client_that_goes_away_within_its_post_has_posted_nothing(tmp_path):
    async with served(tmp_path) as s:
        data = json.dumps(body(s.w.request())).encode()
        async with s.said("POST", "/api/task", data[:-1], len(data)):
            pass
        await s.nothing_is_left()


async def test_a_client_that_goes_away_after_its_post_finds_the_task_done_and_its_wait_ends_at_once(tmp_path):
    async with served(tmp_path) as s, s.client() as client:
        s.w.pool.runs.close()
        request = s.w.request()
        data = json.dumps(body(request)).encode()
        async with s.said("POST", "/api/task", data, **{"Content-Type": "application/json", "Prefer": "wait=60"}):
            await until(lambda: s.w.service.find(request.key) is not None)
            await s.w.reach(request.key, Stage.RUNNING)
        await until(lambda: s.calls == 0)
        s.w.pool.runs.open.set()
        await acknowledged(client, request)
        await client.aclose()
        await s.nothing_is_left()


@pytest.mark.parametrize("stage", UNFINISHED)
async def test_a_poll_ends_with_its_client_and_the_task_goes_on(tmp_path, stage):
    async with served(tmp_path, max_in_work=1) as s, s.client() as client, task_at(s, client, stage) as request:
        for _ in range(3):
            async with s.said("GET", f"{path(request)}?wait=60"):
                await until(lambda: s.calls > 0)
        await until(lambda: s.calls == 0)
        held_at(s.w, stage).open.set()
        await s.w.end(request.key)


@pytest.mark.parametrize("stage", UNFINISHED)
async def test_two_polls_at_once_are_both_answered_when_the_task_is_stopped_and_nothing_is_left(tmp_path, stage):
    async with served(tmp_path, max_in_work=1) as s:
        async with s.client() as client:
            async with task_at(s, client, stage) as request, asyncio.TaskGroup() as group:
                polls = [group.create_task(client.get(path(request), params={"wait": 60})) for _ in range(2)]
                await asyncio.sleep(0.05)
                answer = await client.delete(path(request), params={"attempt": 10, "force": True})
                assert answer.status_code == 200
            assert [poll.result().status_code for poll in polls] == [404, 404]
        await s.nothing_is_left()
