"""What each call answers, to the letter: the real routes on the real service, without a process around them."""

import asyncio
import re
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from compute import app as app_module
from compute.app import create_app
from compute.readiness import ReadinessProbes
from shared.clock import SystemClock
from shared.errors import StateUnavailable
from shared.messages import Stage, TaskRequest
from shared.problem import PROBLEM_TYPES
from tests.unit.service_world import OTHER_REQUESTER, World, until, world

TOKEN = "t" * 40
PROTOCOL_PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"


@asynccontextmanager
async def api(folder: Path, **settings: object):
    """The world and a client of its API."""
    async with world(folder, **settings) as w:
        readiness = ReadinessProbes(w.settings, w.storage, w.pool, w.service, w.memory, w.preload, SystemClock())
        transport = httpx.ASGITransport(create_app(w.service, readiness, TOKEN))
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://node", headers=headers) as client:
            yield w, client


def body(request: TaskRequest) -> dict[str, object]:
    return request.model_dump(mode="json", by_alias=True, exclude_none=True)


def path(request: TaskRequest) -> str:
    return f"/api/task/{request.execution_id}/{request.task_id}"


async def running(w: World, client: httpx.AsyncClient, **members: object) -> TaskRequest:
    """A task that runs until the test opens `w.pool.runs`."""
    w.pool.runs.close()
    request = w.request(**members)
    assert (await client.post("/api/task", json=body(request))).status_code == 202
    await w.reach(request.key, Stage.RUNNING)
    return request


async def done(w: World, client: httpx.AsyncClient, **members: object) -> TaskRequest:
    request = w.request(**members)
    assert (await client.post("/api/task", json=body(request))).status_code == 202
    await w.end(request.key)
    return request


# ---- POST ----


async def test_new_work_is_accepted_and_known_work_answers_what_get_answers(tmp_path):
    async with api(tmp_path) as (w, client):
        request = w.request()
        answer = await client.post("/api/task", json=body(request))
        assert answer.status_code == 202
        names = {"executionId": request.execution_id, "taskId": request.task_id}
        assert answer.json() == names | {"accepted": True}
        await w.end(request.key)
        again = await client.post("/api/task", json=body(request))
        assert again.status_code == 200
        assert again.json() == (await client.get(path(request))).json()
        higher = await client.post("/api/task", json=body(request) | {"attempt": 11})
        assert (higher.status_code, higher.json()["attempt"], higher.json()["stage"]) == (200, 11, "done")


async def test_what_is_told_anew_with_each_post_is_no_content(tmp_path):
    async with api(tmp_path) as (w, client):
        request = await running(w, client, deadline=10_000, chain_time=1_000, landing_margin=15)
        later = body(request) | {"chainTime": 1_500, "landingMargin": 20}
        answer = await client.post("/api/task", json=later)
        assert (answer.status_code, answer.json()["stage"]) == (200, "running")


@pytest.mark.parametrize(
    ("change", "status", "kind"),
    [
        ({"outputCount": 2}, 409, "content-differs"),
        ({"deadline": 10_001}, 409, "content-differs"),
        ({"computeUnits": 8}, 409, "content-differs"),
        ({"attempt": 9}, 409, "attempt-superseded"),
        ({"attempt": 9, "outputCount": 2}, 409, "attempt-superseded"),
        ({"taskId": "other"}, 429, "at-capacity"),
        ({"attempt": 11, "requester": OTHER_REQUESTER}, 422, "input-forbidden"),
        ({"attempt": 11, "computeUnits": 10**9}, 422, "compute-units-above-cap"),
        ({"attempt": 11, "surprise": 1}, 422, "invalid-request"),
    ],
)
async def test_every_refusal_of_a_post_is_a_problem_document_with_the_same_members(tmp_path, change, status, kind):
    async with api(tmp_path, max_tasks=1) as (w, client):
        request = await running(w, client, deadline=10_000, chain_time=1_000)
        sent = body(request) | change
        answer = await client.post("/api/task", json=sent)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        told = answer.json()
        assert (told["type"], told["reason"], told["accepted"], told["status"]) == (kind, kind, False, status)
        assert (told["executionId"], told["taskId"]) == (sent["executionId"], sent["taskId"])
        assert told["title"] == PROBLEM_TYPES[kind]
        assert ("retry-after" in answer.headers) == (status == 429)
        if status == 409:
            assert (told["attempt"], told["stage"]) == (10, "running")
        if status == 422:
            assert told["field"]
        assert w.service.find(request.key).stage is Stage.RUNNING, "what runs is left alone"


async def test_ids_that_are_none_are_not_told_back(tmp_path):
    async with api(tmp_path) as (w, client):
        answer = await client.post("/api/task", json=body(w.request()) | {"executionId": "\x1b[2J/.."})
        told = answer.json()
        assert (answer.status_code, told["field"], told["executionId"]) == (422, "executionId", None)
        assert "\x1b" not in told["detail"]


@pytest.mark.parametrize(
    "change",
    [
        {"attempt": -1},
        {"attempt": 2**64},
        {"attempt": 1.5},
        {"attempt": "10"},
        {"deadline": 2**63},
        {"deadline": "tomorrow"},
        {"deadline": True},
        {"chainTime": 10**400},
        {"landingMargin": -1},
        {"landingMargin": 1e9},
        {"computeUnits": -1},
        {"computeUnits": 2**53},
        {"outputCount": True},
        {"inputUris": ["file:///a"] * 9},
        {"requester": "0OIl"},
        {"modelId": "a/b"},
        {"task_id": "task"},
    ],
)
async def test_a_field_beyond_what_it_may_hold_is_named(tmp_path, change):
    async with api(tmp_path) as (w, client):
        answer = await client.post("/api/task", json=body(w.request()) | change)
        assert answer.status_code == 422
        assert answer.json()["field"] == next(iter(change))


async def test_names_are_camel_case_only(tmp_path):
    async with api(tmp_path) as (w, client):
        answer = await client.post("/api/task", json=w.request().model_dump(mode="json", exclude_none=True))
        assert answer.status_code == 422
        assert w.service.all_entries() == []


@pytest.mark.parametrize("deadline", [-(2**63), 2**63 - 1])
async def test_any_deadline_of_64_bits_is_a_deadline(tmp_path, deadline):
    async with api(tmp_path) as (w, client):
        request = await done(w, client, deadline=deadline, chain_time=1_000)
        assert w.service.find(request.key).reason == ("DeadlinePassed" if deadline < 0 else None)


@pytest.mark.parametrize("wait", ["wait=0", "wait=1", "respond-async; wait = 1"])
async def test_who_prefers_to_wait_is_answered_as_others_are_when_time_is_up(tmp_path, wait):
    async with api(tmp_path) as (w, client):
        w.pool.runs.close()
        request = w.request()
        answer = await client.post("/api/task", json=body(request), headers={"Prefer": wait})
        assert (answer.status_code, answer.json()["accepted"]) == (202, True)
        await w.reach(request.key, Stage.RUNNING)
        answer = await client.post("/api/task", json=body(request), headers={"Prefer": wait})
        assert (answer.status_code, answer.json()["stage"]) == (200, "running")
        waiting = asyncio.ensure_future(
            client.post("/api/task", json=body(request), headers={"Prefer": "wait=30"})
        )
        await asyncio.sleep(0.05)
        w.pool.runs.open.set()
        assert (await waiting).json()["success"] is True


# ---- GET ----


async def test_a_status_tells_all_that_the_protocol_names(tmp_path):
    async with api(tmp_path) as (w, client):
        request = await done(w, client)
        told = (await client.get(path(request))).json()
        assert told.keys() == {
            "executionId",
            "taskId",
            "attempt",
            "requester",
            "stage",
            "stages",
            "computeUnits",
            "result",
        }
        assert told["computeUnits"] == 7
        assert told["result"].keys() == {"executionId", "taskId", "success", "outputUris", "executionTime"}
        failed = await done(w, client, output_count=2)
        told = (await client.get(path(failed))).json()
        assert (told["stage"], told["reason"]) == ("failed", "OutputCountMismatch")
        assert told["result"]["success"] is False
        assert told["result"]["errorMessage"]


async def test_no_call_waits_longer_than_a_minute(tmp_path, monkeypatch):
    assert app_module.MAX_WAIT_S == 60
    async with api(tmp_path) as (w, client):
        request = await running(w, client)
        monkeypatch.setattr(app_module, "MAX_WAIT_S", 0.05)
        for wait in ("1000000", "1e300", "inf"):
            answer = await client.get(path(request), params={"wait": wait, "stage": "running"})
            assert (answer.status_code, answer.json()["stage"]) == (200, "running")
        prefer = {"Prefer": "wait=999999999"}
        assert (await client.post("/api/task", json=body(request), headers=prefer)).json()["stage"] == "running"


async def test_a_poll_is_answered_at_once_where_the_stage_is_another_or_there_is_a_result(tmp_path):
    async with api(tmp_path) as (w, client), asyncio.timeout(10):
        request = await running(w, client)
        told = (await client.get(path(request), params={"wait": 60, "stage": "queued"})).json()
        assert told["stage"] == "running"
        w.pool.runs.open.set()
        await w.end(request.key)
        for stage in ("done", "running"):
            told = (await client.get(path(request), params={"wait": 60, "stage": stage})).json()
            assert told["stage"] == "done"
        assert (await client.get("/api/task/none/such", params={"wait": 60})).status_code == 404


@pytest.mark.parametrize("query", ["wait=-1", "wait=nan", "wait=x", "stage=x"])
async def test_a_poll_for_what_is_no_time_or_no_stage_is_unprocessable(tmp_path, query):
    async with api(tmp_path) as (_, client):
        assert (await client.get(f"/api/task/a/b?{query}")).status_code == 422


# ---- DELETE ----


async def test_a_stop_tells_cancelled_and_a_second_one_nothing(tmp_path):
    async with api(tmp_path) as (w, client):
        request = await running(w, client)
        assert (await client.delete(path(request), params={"attempt": 9})).status_code == 204
        assert (await client.delete(path(request), params={"attempt": 11, "force": True})).status_code == 204
        assert (await client.delete(path(request))).status_code == 422
        answer = await client.delete(path(request), params={"attempt": 10})
        assert (answer.status_code, answer.json()["stage"]) == (200, "cancelled")
        assert (await client.get(path(request))).status_code == 404
        assert (await client.delete(path(request), params={"attempt": 10})).status_code == 204


async def test_what_has_ended_is_a_conflict_with_the_result_until_it_is_acknowledged(tmp_path):
    async with api(tmp_path) as (w, client):
        for members in ({}, {"output_count": 2}):
            request = await done(w, client, **members)
            result = (await client.get(path(request))).json()["result"]
            for force in (False, True):
                answer = await client.delete(path(request), params={"attempt": 10, "force": force})
                assert (answer.status_code, answer.json()["type"]) == (409, "finished")
                assert answer.json()["result"] == result
            # An acknowledgement of another attempt drops nothing.
            for attempt in (9, 11):
                parameters = {"attempt": attempt, "acknowledge": "unpaid"}
                assert (await client.delete(path(request), params=parameters)).status_code == 204
            assert (await client.get(path(request))).json()["result"] == result
            assert len(w.output_files()) == 1
            parameters = {"attempt": 10, "acknowledge": "perhaps"}
            assert (await client.delete(path(request), params=parameters)).status_code == 422
            parameters = {"attempt": 10, "acknowledge": "paid"}
            assert (await client.delete(path(request), params=parameters)).status_code == 204
            assert (await client.get(path(request))).status_code == 404
            assert len(w.output_files()) == 1


@pytest.mark.parametrize(("word", "left"), [("paid", 1), ("unpaid", 0)])
async def test_an_acknowledgement_of_what_still_runs_stops_it_and_settles_what_earlier_attempts_left(
    tmp_path, word, left
):
    async with api(tmp_path) as (w, client):
        earlier = await done(w, client)
        names = {"execution_id": earlier.execution_id, "task_id": earlier.task_id}
        request = await running(w, client, **names, attempt=11, compute_units=9)
        answer = await client.delete(path(request), params={"attempt": 11, "acknowledge": word})
        assert (answer.status_code, answer.json()["stage"]) == (200, "cancelled")
        assert (await client.get(path(request))).status_code == 404
        assert len(w.output_files()) == left


async def test_an_acknowledgement_does_not_break_off_what_is_being_stored(tmp_path):
    async with api(tmp_path) as (w, client):
        w.storage.puts.close()
        request = w.request()
        await client.post("/api/task", json=body(request))
        await w.reach(request.key, Stage.STORING)
        answer = await client.delete(path(request), params={"attempt": 10, "acknowledge": "unpaid"})
        assert (answer.status_code, answer.json()["type"], answer.json()["stage"]) == (409, "storing", "storing")
        w.storage.puts.open.set()
        assert (await w.end(request.key)).stage is Stage.DONE


async def test_of_an_execution_what_is_being_stored_stays_unless_forced_and_results_stay_always(tmp_path):
    async with api(tmp_path) as (w, client):
        ended = await done(w, client, execution_id="one")
        w.storage.puts.close()
        storing = w.request(execution_id="one")
        await client.post("/api/task", json=body(storing))
        await w.reach(storing.key, Stage.STORING)
        runs = await running(w, client, execution_id="one")
        answer = await client.delete("/api/task/one")
        stages = {row["taskId"]: row["stage"] for row in answer.json()}
        assert stages == {storing.task_id: "storing", runs.task_id: "cancelled"}
        answer = await client.delete("/api/task/one", params={"force": True})
        assert [(row["taskId"], row["stage"]) for row in answer.json()] == [(storing.task_id, "cancelled")]
        rows = (await client.get("/api/task")).json()
        assert [(row["taskId"], row["stage"]) for row in rows] == [(ended.task_id, "done")]
        assert len(w.output_files()) == 1
        assert (await client.delete("/api/task/none-such")).json() == []


# ---- what holds for every call ----


async def test_a_state_folder_that_cannot_be_written_is_told_and_nothing_is_dropped(tmp_path):
    async with api(tmp_path) as (w, client):
        request = await done(w, client)

        async def full(*_, **__):
            raise StateUnavailable("the disk is full")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(w.results, "acknowledge", full)
            answer = await client.delete(path(request), params={"attempt": 10, "acknowledge": "unpaid"})
        assert (answer.status_code, answer.json()["type"]) == (503, "state-unavailable")
        assert (await client.get(path(request))).json()["stage"] == "done"
        assert len(w.output_files()) == 1
        w.service.admission.state_failure = "the disk is full"
        answer = await client.post("/api/task", json=body(w.request()))
        assert (answer.status_code, answer.json()["detail"]) == (429, "the disk is full")
        assert (await client.get("/ready")).json()["checks"]["state"]["ok"] is False


@pytest.mark.parametrize(
    ("method", "call", "status"),
    [("GET", "/api", 404), ("GET", "/openapi.json", 404), ("GET", "/docs", 404), ("PUT", "/api/task", 405)],
)
async def test_a_call_that_there_is_not_is_a_problem_too(tmp_path, method, call, status):
    async with api(tmp_path) as (_, client):
        answer = await client.request(method, call)
        assert (answer.status_code, answer.json()["type"]) == (status, "unknown-call")
        assert answer.headers["content-type"] == "application/problem+json"


def test_the_page_of_the_protocol_lists_exactly_the_problem_types_that_there_are():
    section = PROTOCOL_PAGE.read_text().split("### Problem types", 1)[1].split("\n### ", 1)[0]
    listed = dict(re.findall(r"^\| `([a-z-]+)` \| (.*\.) \|$", section, re.MULTILINE))
    assert listed == PROBLEM_TYPES


def test_every_problem_type_is_used():
    sources = Path(app_module.__file__).parents[1]
    text = "".join(
        source.read_text()
        for folder in ("compute", "shared", "listener")
        for source in (sources / folder).rglob("*.py")
    )
    for kind in PROBLEM_TYPES:
        assert text.count(f'"{kind}"') > 1, f"{kind} stands in the list alone"


# ---- readiness ----


async def test_readiness_says_what_fails_since_when_and_what_to_do(tmp_path):
    async with api(tmp_path, probe_interval_s=0.01, max_tasks=1) as (w, client):
        readiness = ReadinessProbes(w.settings, w.storage, w.pool, w.service, w.memory, w.preload, SystemClock())
        untried = readiness.report()
        assert not untried.ready
        assert not untried.checks["storage"].ok
        probing = asyncio.ensure_future(readiness.serve())
        await until(lambda: readiness.report().ready)
        well = readiness.report()
        await asyncio.sleep(0.05)
        assert readiness.report().checks["storage"].since == well.checks["storage"].since
        (tmp_path / "elsewhere").mkdir()
        w.storage._roots = (*w.storage._roots, w.settings.output_prefix)
        (tmp_path / "outputs").rmdir()
        await until(lambda: not readiness.report().ready)
        told = readiness.report().checks["storage"]
        assert told.since > well.checks["storage"].since
        assert str(tmp_path / "outputs") in told.value
        assert told.what_to_do
        (tmp_path / "outputs").mkdir()
        await until(lambda: readiness.report().ready)
        await running(w, client)
        assert not readiness.report().checks["queue"].ok
        w.pool.runs.open.set()
        await until(lambda: readiness.report().ready)
        w.pool.pid = None
        assert not readiness.report().checks["worker"].ok
        assert "device" not in readiness.report().checks["weights"].value
        w.pool.device_weights = "1 kept, 44 MiB of 100 MiB"
        assert readiness.report().checks["weights"].value.endswith("; on the device 1 kept, 44 MiB of 100 MiB")
        probing.cancel()


@pytest.mark.parametrize("content", [b'{"taskId": "\xff"}', b"[" * 100_000, b'{"attempt": ' + b"9" * 5_000 + b"}"])
async def test_a_body_that_no_parser_takes_is_refused_as_the_body_that_it_is(tmp_path, content):
    async with api(tmp_path) as (_, client):
        answer = await client.post("/api/task", content=content, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["type"]) == (422, "invalid-request")
        assert (answer.json()["field"], answer.json()["accepted"]) == ("body", False)
