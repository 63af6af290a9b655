import hashlib
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from compute.specs import DType, TensorSpec
from tests.integration.compute_process import REQUESTER, TOKEN, compute_process
from tests.integration.compute_tasks import ADD, add_task, big_task, call, floats, ref, request, slow_task, tensor
from tests.tries import one_within


@pytest.fixture(scope="module")
def compute(tmp_path_factory):
    with compute_process(tmp_path_factory.mktemp("compute")) as running:
        yield running


def test_a_task_is_computed_and_its_output_stored_where_the_protocol_says(compute):
    task = add_task(compute)
    answer = compute.post(task)
    assert answer.status_code == 202
    assert answer.json() == {
        "executionId": task["executionId"],
        "taskId": task["taskId"],
        "accepted": True,
    }
    status = compute.ended(task)
    assert status["stage"] == "done", status
    assert [stage["stage"] for stage in status["stages"]] == [
        "queued",
        "fetching",
        "running",
        "storing",
        "done",
    ]
    assert status["computeUnits"] == 1
    (uri,) = status["result"]["outputUris"]
    folder = compute.outputs / REQUESTER / task["executionId"] / task["taskId"]
    (path,) = folder.iterdir()
    data = path.read_bytes()
    assert uri == f"file://{path}"
    assert path.name == hashlib.sha256(data).hexdigest() + ".safetensors"
    assert struct.unpack("<3f", data[-12:]) == (11, 22, 33)


def test_the_same_post_again_tells_the_result(compute):
    task = add_task(compute)
    compute.post(task)
    status = compute.ended(task)
    again = compute.post(task)
    assert again.status_code == 200
    assert again.json() == status


def test_a_post_that_prefers_to_wait_is_answered_with_the_result(compute):
    task = add_task(compute)
    answer = compute.post(task, headers={"Prefer": "respond-async, wait=30"})
    assert answer.status_code == 200
    assert answer.json()["success"] is True
    assert answer.json() == compute.status(task).json()["result"]


def test_a_local_caller_needs_neither_requester_nor_attempt(compute):
    task = add_task(compute)
    uri = compute.put_tensor("left", floats(3), bytes(12), folder="public")
    task |= {"inputUris": [uri, uri]}
    package = compute.tensors / REQUESTER / f"{task['modelId']}.json"
    (compute.tensors / "public" / package.name).write_bytes(package.read_bytes())
    del task["requester"], task["attempt"]
    compute.post(task)
    assert compute.ended(task)["requester"] == "operator"
    assert compute.http.delete(f"/api/task/{task['executionId']}/{task['taskId']}").status_code == 409


def test_a_lower_attempt_and_other_content_are_conflicts_that_tell_what_is_known(compute):
    task = add_task(compute)
    compute.post(task)
    compute.ended(task)
    for change, kind in (({"attempt": 9}, "attempt-superseded"), ({"outputCount": 2}, "content-differs")):
        answer = compute.post(task | change)
        assert answer.status_code == 409
        assert answer.headers["content-type"] == "application/problem+json"
        told = answer.json()
        assert (told["type"], told["reason"], told["accepted"]) == (kind, kind, False)
        assert (told["executionId"], told["taskId"]) == (task["executionId"], task["taskId"])
        assert (told["attempt"], told["stage"]) == (10, "done")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"executionId": "../../etc"}, "executionId"),
        ({"taskId": ".hidden"}, "taskId"),
        ({"outputCount": 0}, "outputCount"),
        ({"outputCount": 256}, "outputCount"),
        ({"inputUris": []}, "inputUris"),
        ({"inputUris": ["http://169.254.169.254/"]}, "inputUris.0"),
        ({"surprise": 1}, "surprise"),
        ({"computeUnits": 10**9}, "computeUnits"),
        ({"inputUris": ["file:///etc/passwd"]}, "inputUris.0"),
    ],
)
def test_what_the_body_alone_shows_to_be_wrong_is_unprocessable_and_names_the_field(compute, change, field):
    task = add_task(compute) | change
    answer = compute.post(task)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["field"] == field
    assert told["accepted"] is False
    assert told["type"] == told["reason"]
    if field not in ("executionId", "taskId"):
        assert (told["executionId"], told["taskId"]) == (task["executionId"], task["taskId"])
        assert compute.status(task).status_code == 404


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"executionId": 1e999}'])
def test_a_body_that_is_no_task_request_is_unprocessable(compute, body):
    answer = compute.http.post("/api/task", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["type"] == "invalid-request"


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}"])
@pytest.mark.parametrize(
    "call", [("POST", "/api/task"), ("GET", "/api/task"), ("GET", "/ready"), ("DELETE", "/api/task/a")]
)
def test_without_the_token_nothing_but_health_is_told(compute, authorization, call):
    headers = {} if authorization is None else {"Authorization": authorization}
    address = str(compute.http.base_url)
    assert httpx.request(call[0], f"{address}{call[1]}", headers=headers).status_code == 401
    assert httpx.get(f"{address}/health", headers=headers).status_code == 200
    assert TOKEN not in compute.log()


def test_unknown_pairs_are_told_so(compute):
    answer = compute.http.get("/api/task/none/such")
    assert (answer.status_code, answer.json()["type"]) == (404, "unknown-task")
    assert compute.http.delete("/api/task/none/such?attempt=1").status_code == 204
    assert compute.http.get("/api/task/none/..%2f..%2fetc").status_code in (404, 422)


def test_all_tasks_are_listed(compute):
    task = add_task(compute)
    compute.post(task)
    compute.ended(task)
    row = {name: task[name] for name in ("executionId", "taskId", "attempt", "requester")} | {"stage": "done"}
    assert row in compute.http.get("/api/task").json()


def test_readiness_names_each_check_and_since_when(compute):
    report = compute.http.get("/ready").json()
    assert report["ready"] is True
    assert report["checks"].keys() >= {"worker", "device", "storage", "queue", "memory", "state", "sandbox"}
    for check in report["checks"].values():
        assert check["ok"] is True
        assert check["value"]
        assert check["since"] > 0


# ---- what only storage or the worker can show ----


def failed(compute, task) -> dict:
    assert compute.post(task).status_code == 202
    status = compute.ended(task)
    assert status["stage"] == "failed"
    assert status["result"]["success"] is False
    assert status["result"]["outputUris"] == []
    return status


def test_an_operator_outside_the_allowlist_is_named(compute):
    graph = ADD | {"nodes": [call("sum", "aten.system.Call", self=ref("x"))]}
    task = add_task(compute) | {"modelId": compute.put_package(graph)}
    status = failed(compute, task)
    assert status["reason"] == "OperatorNotAllowed"
    assert "aten.system.Call" in status["result"]["errorMessage"]


def test_a_missing_input_is_named(compute):
    task = add_task(compute)
    missing = f"file://{compute.tensors}/{REQUESTER}/missing.safetensors"
    status = failed(compute, task | {"inputUris": [task["inputUris"][0], missing]})
    assert status["reason"] == "InputMissing"
    assert missing in status["result"]["errorMessage"]


def test_an_input_that_is_not_what_its_name_says_is_refused(compute):
    task = add_task(compute)
    honest = Path(task["inputUris"][0].removeprefix("file://")).read_bytes()
    named = compute.tensors / REQUESTER / f"{hashlib.sha256(honest).hexdigest()}.safetensors"
    named.write_bytes(honest[:-1] + b"\x7f")
    status = failed(compute, task | {"inputUris": [f"file://{named}", task["inputUris"][1]]})
    assert status["reason"] == "InputInvalid"
    assert named.name in status["result"]["errorMessage"]
    named.write_bytes(honest)
    task |= {"inputUris": [f"file://{named}", task["inputUris"][1]], "attempt": 11}
    assert compute.post(task).status_code == 202
    assert compute.ended(task)["stage"] == "done"


@pytest.mark.parametrize("graph", [b"import os", b"PK\3\4", b"\x80\4.", b'{"format": NaN}', b"[" * 100_000])
def test_a_package_that_is_no_task_graph_is_refused_as_one(compute, graph):
    digest = hashlib.sha256(graph).hexdigest()
    (compute.tensors / REQUESTER / f"{digest}.json").write_bytes(graph)
    assert failed(compute, add_task(compute, modelId=digest))["reason"] == "GraphInvalid"


def test_the_api_answers_all_through_a_large_task(compute):
    for longest in one_within(1):
        longest.append(longest_answer_s(compute))


def longest_answer_s(compute) -> float:
    """Of the API, while a large task is computed and stored."""
    task = big_task(compute)
    compute.post(task)
    longest = 0.0
    while compute.status(task).json()["stage"] != "done":
        begun = time.monotonic()
        assert compute.http.get("/health").status_code == 200
        longest = max(longest, time.monotonic() - begun)
    compute.delete(task, acknowledge="unpaid")
    return longest


def test_a_missing_tensor_of_an_object_is_named(compute):
    task = add_task(compute)
    named = task["inputUris"][0] + "#nowhere"
    status = failed(compute, task | {"inputUris": [task["inputUris"][0], named]})
    assert status["reason"] == "InputMissing"
    assert "nowhere" in status["result"]["errorMessage"]


def test_a_missing_package_is_named(compute):
    model = "f" * 64
    status = failed(compute, add_task(compute, modelId=model))
    assert status["reason"] == "InputMissing"
    assert model in status["result"]["errorMessage"]


def test_a_wrong_dtype_is_named(compute):
    task = add_task(compute)
    whole = compute.put_tensor("whole", TensorSpec(DType.INT32, (3,)), bytes(12))
    status = failed(compute, task | {"inputUris": [whole, task["inputUris"][1]]})
    assert status["reason"] == "InputMismatch"
    assert "int32" in status["result"]["errorMessage"]
    assert "float32" in status["result"]["errorMessage"]


def test_a_wrong_number_of_outputs_is_named(compute):
    status = failed(compute, add_task(compute, outputCount=2))
    assert status["reason"] == "OutputCountMismatch"
    assert "1" in status["result"]["errorMessage"]
    assert "2" in status["result"]["errorMessage"]


def test_two_to_the_forty_elements_are_refused_at_the_header(compute):
    task = add_task(compute)
    header = b'{"0":{"dtype":"F32","shape":[1048576,1048576],"data_offsets":[0,4398046511104]}}'
    path = compute.tensors / REQUESTER / "huge.safetensors"
    with path.open("wb") as huge:
        huge.write(len(header).to_bytes(8, "little") + header)
        huge.truncate(8 + len(header) + (1 << 42))
    status = failed(compute, task | {"inputUris": [f"file://{path}", task["inputUris"][1]]})
    path.unlink()
    assert status["reason"] == "TooLarge"
    assert "2^40" in status["result"]["errorMessage"]


def test_two_to_the_forty_elements_are_refused_inside_a_graph(compute):
    left = compute.put_tensor("column", floats(1 << 20, 1), bytes(4 << 20))
    right = compute.put_tensor("row", floats(1, 1 << 20), bytes(4 << 20))
    graph = {
        "inputs": [tensor("x", ["n", 1]), tensor("y", [1, "m"])],
        "nodes": [call("sum", "aten.add.Tensor", self=ref("x"), other=ref("y"))],
        "outputs": [ref("sum")],
    }
    status = failed(compute, request(compute.put_package(graph), [left, right]))
    assert status["reason"] == "TooLarge"
    assert "2^40" in status["result"]["errorMessage"]


def test_fewer_compute_units_declared_than_counted_are_refused_with_both_numbers(compute):
    task = slow_task(compute, count=100, computeUnits=3)
    status = failed(compute, task)
    assert status["reason"] == "ComputeUnitsExceeded"
    assert str(status["computeUnits"]) in status["result"]["errorMessage"]
    assert "3" in status["result"]["errorMessage"]


def test_a_deadline_that_has_passed_by_chain_time_ends_the_task_as_missed(compute):
    task = add_task(compute, deadline=1_000, chainTime=1_001)
    status = failed(compute, task)
    assert status["reason"] == "DeadlinePassed"


def test_a_running_task_is_stopped_at_the_deadline_less_the_margin(compute):
    task = slow_task(compute, deadline=1_015, chainTime=1_000, landingMargin=10)
    status = failed(compute, task)
    assert status["reason"] == "DeadlinePassed"
    times = {stage["stage"]: stage["at"] for stage in status["stages"]}
    assert "running" in times
    assert 4.5 < times["failed"] - times["queued"] < 10
    assert not (compute.outputs / REQUESTER / task["executionId"]).exists()


def test_a_long_poll_wakes_at_once_when_the_stage_changes(compute):
    task = slow_task(compute)
    compute.post(task)
    begun = time.monotonic()
    status = compute.status(task, wait=60, stage="queued").json()
    assert status["stage"] != "queued"
    assert time.monotonic() - begun < 30
    compute.reach(task, "running")
    with ThreadPoolExecutor(1) as thread:
        poll = thread.submit(compute.status, task, wait=60, stage="running")
        time.sleep(0.3)
        assert not poll.done()
        assert compute.delete(task).status_code == 200
        begun = time.monotonic()
        assert poll.result().status_code == 404
        assert time.monotonic() - begun < 30


def test_a_full_node_says_so_with_retry_after(tmp_path):
    with compute_process(tmp_path, max_tasks=1) as compute:
        task = slow_task(compute)
        compute.post(task)
        answer = compute.post(add_task(compute))
        assert (answer.status_code, answer.json()["type"]) == (429, "at-capacity")
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["accepted"] is False
        compute.delete(task)
        assert compute.post(add_task(compute)).status_code == 202


def test_the_api_process_has_no_torch_also_after_its_tasks(compute):
    task = add_task(compute)
    compute.post(task)
    assert compute.ended(task)["stage"] == "done"
    workers = compute.worker_pids()
    assert workers
    for worker in workers:
        assert "torch" in Path(f"/proc/{worker}/maps").read_text()
    assert "torch" not in Path(f"/proc/{compute.process.pid}/maps").read_text()
    code = "import sys, compute.__main__; assert 'torch' not in sys.modules; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)
