"""The client against a real HTTP server that answers what a test tells it to."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

import listener.compute_client as compute_client
from listener.compute_client import (
    BUSY_RETRY_S,
    MAX_RETRY_S,
    MIN_RETRY_S,
    Accepted,
    ComputeClient,
    Finished,
    Stopped,
    Storing,
    compute_http,
)
from shared.errors import ComputeBusy, ComputeConflict, ComputeRefused, ComputeUnavailable
from shared.ids import Attempt
from shared.messages import Stage, TaskRequest, TaskStatus, TaskSummary
from tests.accepting import accepting
from tests.unit.journal_rows import NOW, assignment, result
from tests.unit.rpc_server import Reply

TASK = assignment()
KEY, ATTEMPT = TASK.key, Attempt(100)
REQUEST = TaskRequest(
    task_id=TASK.task_id,
    model_id=TASK.model_id,
    execution_id=TASK.execution_id,
    input_uris=list(TASK.input_uris),
    output_count=1,
    deadline=NOW + 600,
    requester=TASK.requester,
    compute_units=1,
    attempt=ATTEMPT,
    chain_time=NOW,
    landing_margin=15.0,
)
STATUS = TaskStatus(
    execution_id=TASK.execution_id,
    task_id=TASK.task_id,
    attempt=ATTEMPT,
    requester=TASK.requester,
    stage=Stage.DONE,
    result=result(TASK),
)
DONE = json.loads(STATUS.to_wire())


class Server:
    """Gives the next reply to each request, and keeps what was asked."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): value for name, value in (one.split(": ", 1) for one in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        method, target, _ = line.split(" ")
        self.asked.append((method, target, headers, body))
        writer.write(bytes(self.replies.pop(0)))
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def answering(*replies: Reply) -> AsyncIterator[tuple[Server, ComputeClient]]:
    told = Server(*replies)
    async with (
        accepting(told.serve) as port,
        compute_http(f"http://127.0.0.1:{port}", "secret") as http,
    ):
        yield told, ComputeClient(http)


def problem(status: int, kind: str, **members: object) -> Reply:
    return Reply({"type": kind, "detail": "in words", **members}, status)


async def test_a_post_carries_the_token_and_the_request_in_camel_case() -> None:
    async with answering(Reply({}, 202)) as (server, client):
        assert await client.post(REQUEST) == Accepted()
    method, target, headers, body = server.asked[0]
    assert (method, target, headers["authorization"]) == ("POST", "/api/task", "Bearer secret")
    assert headers["content-type"] == "application/json"
    assert TaskRequest.model_validate_json(body) == REQUEST and "chainTime" in json.loads(body)


async def test_a_post_of_what_is_known_gives_how_far_it_is() -> None:
    async with answering(Reply(DONE)) as (_, client):
        assert await client.post(REQUEST) == STATUS


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({}, BUSY_RETRY_S),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, BUSY_RETRY_S),
        ({"Retry-After": "nan"}, BUSY_RETRY_S),
        ({"Retry-After": "0"}, MIN_RETRY_S),
        ({"Retry-After": "86400"}, MAX_RETRY_S),
    ],
)
async def test_at_capacity_it_says_how_long_to_wait(headers: dict[str, str], wait_s: float) -> None:
    async with answering(Reply({}, 429, headers)) as (_, client):
        with pytest.raises(ComputeBusy) as busy:
            await client.post(REQUEST)
    assert busy.value.retry_after_s == wait_s


async def test_a_refusal_and_a_conflict_carry_the_problem() -> None:
    replies = problem(422, "input-forbidden", field="inputUris.0"), problem(409, "content-differs", attempt=100)
    async with answering(*replies) as (_, client):
        with pytest.raises(ComputeRefused, match="input-forbidden: in words") as refused:
            await client.post(REQUEST)
        with pytest.raises(ComputeConflict) as conflict:
            await client.post(REQUEST)
    assert refused.value.problem["field"] == "inputUris.0" and conflict.value.problem["attempt"] == 100


async def test_the_long_poll_names_wait_and_stage_and_the_unknown_is_none() -> None:
    async with answering(Reply(DONE), problem(404, "unknown-task")) as (server, client):
        assert await client.status(KEY, 30, Stage.RUNNING) == STATUS
        assert await client.status(KEY, 0, None) is None
    assert server.asked[0][1] == "/api/task/execution/task-1?wait=30&stage=running"
    assert server.asked[1][1] == "/api/task/execution/task-1?wait=0"


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (Reply({"stage": "cancelled"}), Stopped()),
        (Reply(b"", 204), Stopped()),
        (problem(409, "storing", stage="storing"), Storing()),
        (problem(409, "finished", stage="done", result=DONE["result"]), Finished(result(TASK))),
    ],
)
async def test_each_answer_to_a_delete(reply: Reply, answer: object) -> None:
    async with answering(reply) as (server, client):
        assert await client.stop(KEY, ATTEMPT, force=False) == answer
    assert server.asked[0][:2] == ("DELETE", "/api/task/execution/task-1?attempt=100")


async def test_force_and_acknowledgement_stand_in_the_query() -> None:
    async with answering(Reply(b"", 204), Reply(b"", 204), Reply({})) as (server, client):
        await client.stop(KEY, ATTEMPT, force=True)
        await client.acknowledge(KEY, ATTEMPT, TASK.requester, paid=True)
        await client.acknowledge(KEY, ATTEMPT, TASK.requester, paid=False)
    assert [target.split("?")[1] for _, target, _, _ in server.asked] == [
        "attempt=100&force=true",
        f"attempt=100&acknowledge=paid&requester={TASK.requester}",
        f"attempt=100&acknowledge=unpaid&requester={TASK.requester}",
    ]


async def test_an_acknowledgement_that_is_not_taken_is_an_error() -> None:
    async with answering(problem(409, "storing", stage="storing")) as (_, client):
        with pytest.raises(ComputeConflict):
            await client.acknowledge(KEY, ATTEMPT, TASK.requester, paid=True)


async def test_the_list_and_the_readiness_are_read_also_where_it_is_not_ready() -> None:
    row = {name: DONE[name] for name in ("executionId", "taskId", "attempt", "requester", "stage")}
    ready = {"ready": False, "checks": {"worker": {"ok": False, "value": "gone", "since": 1.0}}}
    async with answering(Reply([row]), Reply(ready, 503)) as (_, client):
        assert await client.tasks() == [TaskSummary.model_validate(row)]
        assert not (await client.readiness()).ready


def every_call(client: ComputeClient) -> list[Any]:
    return [
        lambda: client.post(REQUEST),
        lambda: client.status(KEY, 0, None),
        lambda: client.stop(KEY, ATTEMPT, force=False),
        lambda: client.acknowledge(KEY, ATTEMPT, TASK.requester, paid=True),
        client.tasks,
        client.readiness,
    ]


@pytest.mark.parametrize(
    "reply",
    [
        Reply({}, 500),
        Reply({}, 401),
        Reply({}, 302, {"Location": "http://127.0.0.1:1/"}),
        Reply(raw=b""),
        Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
        Reply(raw=b"not HTTP\r\n\r\n"),
    ],
    ids=["500", "401", "302", "closed", "cut short", "not HTTP"],
)
async def test_no_usable_answer_is_one_error_for_every_call(reply: Reply) -> None:
    async with answering(*[reply] * 6) as (_, client):
        for call in every_call(client):
            with pytest.raises(ComputeUnavailable):
                await call()


async def test_an_answer_that_comes_byte_by_byte_and_never_ends_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compute_client, "ANSWER_TIMEOUT_S", 0.5)

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        with suppress(ConnectionError):
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)

    async with accepting(drip) as port, compute_http(f"http://127.0.0.1:{port}", "secret") as http:
        for call in every_call(ComputeClient(http)):
            begun = time.monotonic()
            with pytest.raises(ComputeUnavailable):
                await call()
            assert time.monotonic() - begun < 60


async def test_a_wrong_token_is_named() -> None:
    async with answering(Reply({}, 401)) as (_, client):
        with pytest.raises(ComputeUnavailable, match="SPLITUP_TOKEN_FILE"):
            await client.tasks()


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[]", b'{"stage": "unheard-of"}', b"\xff"])
async def test_an_answer_that_is_not_as_promised_is_an_error(body: bytes) -> None:
    replies = Reply(body), Reply(body), Reply(body, 409), Reply(body)
    async with answering(*replies) as (_, client):
        for call in (
            lambda: client.post(REQUEST),
            lambda: client.status(KEY, 0, None),
            lambda: client.stop(KEY, ATTEMPT, force=False),
            client.readiness,
        ):
            with pytest.raises(ComputeUnavailable):
                await call()


async def test_a_process_that_is_not_there_is_unavailable() -> None:
    async with compute_http("http://127.0.0.1:1", "secret") as http:
        with pytest.raises(ComputeUnavailable):
            await ComputeClient(http).tasks()
