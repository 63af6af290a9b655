"""The compute process with all its objects on a real S3 server."""

import asyncio
import time

import pytest

from cli.localnet.ports import free_ports
from tests.integration.compute_process import REQUESTER, ComputeProcess, compute_process, until
from tests.integration.compute_tasks import add_task, big_task, storing
from tests.s3server import running_s3_server
from tests.tcpproxy import running_proxy
from tests.tries import one_within

pytestmark = pytest.mark.s3

BUCKET = "tensors"
PATIENCE_S = 120
"""With a server that is silent; who waited for it would take as long."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_s3_server(tmp_path_factory.mktemp("s3")) as running:
        running.make_bucket(BUCKET)
        yield running


@pytest.fixture(autouse=True)
def _credentials(server, monkeypatch):
    for name, value in server.credentials.items():
        monkeypatch.setenv(name, value)


def settings(url: str) -> dict[str, object]:
    return {
        "allowed_prefixes": f"s3://{BUCKET}/in",
        "output_prefix": f"s3://{BUCKET}/out",
        "s3_endpoint_url": url,
        "storage_patience_s": 1,
    }


@pytest.fixture
def compute(server, tmp_path):
    with compute_process(tmp_path, **settings(server.url)) as running:
        objects_lie_in(server, running)
        yield running
        assert running.output_files() == []


def objects_lie_in(server, compute) -> None:
    """The server keeps its objects as files, so tests put and see them there."""
    compute.tensors, compute.outputs = server.folder / BUCKET / "in", server.folder / BUCKET / "out"
    for made in (compute.tensors / REQUESTER, compute.tensors / "public", compute.outputs):
        made.mkdir(parents=True, exist_ok=True)


def in_bucket(server, task: dict) -> dict:
    return task | {"inputUris": [uri.replace(f"file://{server.folder}/", "s3://") for uri in task["inputUris"]]}


def test_a_task_is_done_from_bucket_to_bucket_and_unpaid_outputs_go(server, compute):
    task = in_bucket(server, add_task(compute))
    compute.post(task)
    status = compute.ended(task)
    assert status["stage"] == "done", status
    (path,) = compute.output_files()
    assert status["result"]["outputUris"] == [f"s3://{path.relative_to(server.folder)}"]
    assert compute.post(task | {"attempt": 11}).json()["result"] == status["result"]
    assert compute.delete(task | {"attempt": 11}, acknowledge="unpaid").status_code == 204


def test_by_force_a_task_whose_output_is_under_way_leaves_nothing(server, compute):
    for took in one_within(1):
        task = storing(compute, lambda: in_bucket(server, big_task(compute)))
        begun = time.monotonic()
        assert compute.delete(task, force=True).json()["stage"] == "cancelled"
        took.append(time.monotonic() - begun)


@pytest.mark.parametrize("delay_s", [0.0, 0.2, 0.5])
def test_after_a_kill_while_storing_no_object_is_left(server, compute, delay_s):
    task = storing(compute, lambda: in_bucket(server, big_task(compute)))
    time.sleep(delay_s)
    compute.kill()
    compute.start()
    until(lambda: compute.output_files() == [], "the leftovers are deleted")
    assert compute.status(task).status_code == 404
    compute.post(task)
    assert compute.ended(task)["stage"] == "done"
    assert compute.delete(task, acknowledge="unpaid").status_code == 204


def test_what_another_requester_owns_is_not_asked_for(server, compute):
    task = in_bucket(server, add_task(compute))
    other = task["inputUris"][0].replace(REQUESTER, "4Nd1mYQzvgV8Vr3Z3nYb7pD6T8K2jqB2eqwY3xgWqV5Q")
    answer = compute.post(task | {"inputUris": [other, task["inputUris"][1]]})
    assert (answer.status_code, answer.json()["type"]) == (422, "input-forbidden")


def test_a_server_that_is_not_there_is_told_by_ready_and_fails_the_task(server, tmp_path):
    compute = ComputeProcess(tmp_path, **settings(f"http://127.0.0.1:{free_ports(1)}"))
    compute.start()
    try:
        until(lambda: "ConnectionRefusedError" in compute.http.get("/ready").text, "the check names the fault")
        assert compute.http.get("/ready").status_code == 503
        task = add_task(compute)
        task |= {"inputUris": [f"s3://{BUCKET}/in/{REQUESTER}/x", f"s3://{BUCKET}/in/public/y"]}
        assert compute.post(task).status_code == 202
        assert compute.ended(task)["reason"] == "StorageUnavailable"
        assert compute.stop() == 0
    finally:
        compute.http.close()
        if compute.process is not None and compute.process.poll() is None:
            compute.kill()


@pytest.mark.parametrize("is_storing", [True, False])
async def test_sigterm_ends_the_process_while_the_server_is_silent_and_the_next_start_deletes(
    server, tmp_path, is_storing
):
    async with running_proxy(server.port) as proxy:
        compute = ComputeProcess(
            tmp_path,
            grace_s=0.5,
            **settings(f"http://127.0.0.1:{proxy.port}") | {"storage_patience_s": PATIENCE_S},
        )
        objects_lie_in(server, compute)
        try:
            await asyncio.to_thread(_leave_an_object_to_delete, server, compute, proxy, is_storing)
            begun = time.monotonic()
            assert await asyncio.to_thread(compute.stop) == 0
            assert time.monotonic() - begun < PATIENCE_S / 4
            proxy.stalled = False
            await asyncio.to_thread(compute.start)
            await asyncio.to_thread(until, lambda: compute.output_files() == [], "the leftovers are deleted")
        finally:
            compute.http.close()
            if compute.process is not None and compute.process.poll() is None:
                compute.kill()


def _leave_an_object_to_delete(server, compute, proxy, is_storing: bool) -> None:
    compute.start()
    compute.ready()
    if is_storing:
        storing(compute, lambda: in_bucket(server, big_task(compute)))
        proxy.stalled = True
        time.sleep(0.5)
        return
    task = in_bucket(server, add_task(compute))
    compute.post(task)
    compute.ended(task)
    assert len(compute.output_files()) == 1
    proxy.stalled = True
    begun = time.monotonic()
    assert compute.delete(task, acknowledge="unpaid").status_code == 204
    assert compute.status(task).status_code == 404
    assert time.monotonic() - begun < PATIENCE_S / 4
    assert len(compute.output_files()) == 1
